"""ext4 file systems in files, made without mounting anything and without root (mke2fs -d, debugfs)."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from edgec_toolchains.boards.virtual.tools import Tools

BLOCK = 4096  # bytes: small file systems would get 1024
SPARE = 1.12  # over the files' own blocks: the inodes' table and directories
_NAMESPACE = uuid.UUID("6a1c2f0e-6b0d-4a57-9b62-4f0a54c0de00")


def system(tools: Tools, folder: Path, target: Path) -> None:
    """A file system for reading only: all of `folder`, owned by root whoever makes it, without a journal."""
    paths = sorted(folder.rglob("*"))
    used = sum(-(-path.lstat().st_size // BLOCK) * BLOCK for path in paths)
    blocks = int(used * SPARE) // BLOCK + 1024
    name = str(uuid.uuid5(_NAMESPACE, "system"))
    target.unlink(missing_ok=True)
    tools.run(
        "sbin/mke2fs",
        ["-q", "-t", "ext4", "-b", str(BLOCK), "-m", "0", "-O", "^has_journal,^resize_inode", "-U", name, "-N",
         str(len(paths) + 512), "-E", f"root_owner=0:0,hash_seed={name}", "-d", folder, target, str(blocks)],
    )  # fmt: skip
    if os.getuid() or os.getgid():
        _own(tools, target, folder, paths)


def data(tools: Tools, target: Path, size: int) -> None:
    """An empty file system with a journal, of `size` bytes; the file has holes, so it takes little of the disk."""
    target.unlink(missing_ok=True)
    tools.run(
        "sbin/mke2fs",
        ["-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-m", "1", "-J", "size=4",
         "-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", target, str(size // BLOCK)],
    )  # fmt: skip


def _own(tools: Tools, target: Path, folder: Path, paths: list[Path]) -> None:
    """Give everything to root: mke2fs takes the owners that the files have here."""
    lines = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        lines += [f'sif "/{name}" uid 0', f'sif "/{name}" gid 0']
    tools.run("sbin/debugfs", ["-w", "-f", "-", target], stdin="\n".join(lines) + "\n")
