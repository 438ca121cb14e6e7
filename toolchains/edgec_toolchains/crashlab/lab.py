"""Recording what a program makes a file system do to its disk, and asking of each crash state what became of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edgec_toolchains.crashlab import log, mounts, states

START = 10.0  # seconds for the logging disk to appear
MEGABYTES = 10  # of the disk: more than twice the smallest journal of ext4


@dataclass(frozen=True)
class FileSystem:
    """A file system and how it is mounted, while recording and after the crash alike."""

    name: str
    kind: str
    options: str
    make: tuple[str, ...]


_EXT4 = ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0", "-m", "0")
FILE_SYSTEMS = (
    FileSystem("ordered", "ext4", "data=ordered,commit=1", _EXT4),
    FileSystem("writeback", "ext4", "data=writeback,noauto_da_alloc", _EXT4),
)
"""What most devices have, and ext4 as it protects careless programs least."""

Mark = Callable[[str], None]
Workload = Callable[[Path, Mark], None]
Check = Callable[[Path, tuple[str, ...]], str]


@dataclass(frozen=True)
class Recording:
    """The disk before, and what it was told."""

    original: Path
    entries: list[log.Entry]
    file_system: FileSystem


@dataclass
class Verdict:
    """What was found of a recording's crash states.

    Attributes:
        crashes: distinct crash states: different bytes on the disk, or other promises made before.
        contents: the distinct file-system contents that they mounted to; each was checked.
        problems: what is wrong -> the labels of the crash states that have it.
    """

    crashes: int = 0
    contents: int = 0
    problems: dict[str, list[str]] = field(default_factory=dict)

    @property
    def bad(self) -> int:
        """Crash states with a problem."""
        return sum(len(labels) for labels in self.problems.values())


def record(
    folder: Path, file_system: FileSystem, workload: Workload, prepare: Callable[[Path], None] | None = None
) -> Recording:
    """Run `workload(mountpoint, mark)` on a fresh file system whose disk logs what it is told.

    Args:
        folder: for the images, on a fast disk.
        file_system: what to make.
        workload: the program; `mark(text)` says what it has promised up to here.
        prepare: what is on the disk before, not recorded.

    Raises OSError where this machine can't (`mounts.obstacle`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    image, original, log_file, top = (folder / name for name in ("disk", "original", "log", "mounted"))
    top.mkdir(exist_ok=True)
    log_file.unlink(missing_ok=True)
    image.write_bytes(b"")
    os.truncate(image, MEGABYTES << 20)
    subprocess.run([*file_system.make, str(image)], check=True, capture_output=True)
    if prepare is not None:
        with mounts.mounted(image, top, file_system.kind, file_system.options):
            prepare(top)
    shutil.copyfile(image, original)
    command = [sys.executable, "-m", "edgec_toolchains.crashlab.disk", str(image), str(log_file)]
    with subprocess.Popen(command) as server:
        try:
            _wait(image, server)
            with mounts.mounted(image, top, file_system.kind, file_system.options):
                workload(top, lambda text: os.setxattr(image, "user.mark", text.encode()))
            mounts.unmount(image)
        except BaseException:
            with contextlib.suppress(OSError):
                mounts.unmount(image, lazily=True)
            server.kill()
            raise
    return Recording(original, list(log.read(log_file)), file_system)


def check(
    recording: Recording, folder: Path, judge: Check, *, subsets: int = 2, seed: int = 0, alone: int = states.ALONE
) -> Verdict:
    """Mount every crash state of a recording by this machine's kernel, and judge each distinct content once.

    Args:
        recording: of `record`.
        folder: for an image, on a fast disk.
        judge: `judge(mountpoint, promises)` is empty where all is well, else what is wrong. It may change the files.
        subsets, seed, alone: as `states.crashes` has them.
    """
    verdict = Verdict()
    seen: dict[tuple[bytes, tuple[str, ...]], str] = {}
    kind, options = recording.file_system.kind, recording.file_system.options
    image, top = folder / "crashed", folder / "after"
    top.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(recording.original, image)
    device, held = mounts.attach(image)  # one device for all: to make one takes longer than to mount it
    try:
        with image.open("r+b", buffering=0) as beneath:
            original = recording.original.read_bytes()
            for crash in states.crashes(original, recording.entries, subsets=subsets, seed=seed, alone=alone):
                verdict.crashes += 1
                os.pwrite(beneath.fileno(), crash.image, 0)
                mounts.forget(held)
                try:
                    with mounts.mounted_device(device, top, kind, options):
                        key = (digest(top), crash.marks)
                        if key not in seen:
                            seen[key] = judge(top, crash.marks)
                        problem = seen[key]
                except OSError as refused:
                    problem = f"can't be mounted: {refused}"
                if problem:
                    verdict.problems.setdefault(problem, []).append(crash.label)
    finally:
        os.close(held)
    verdict.contents = len(seen)
    image.unlink()
    return verdict


def digest(top: Path) -> bytes:
    """SHA-256 of all that programs see of a tree: names, kinds, modes, links and content, not times."""
    hashed = hashlib.sha256()
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted((*files, *folders)):
            path = os.path.join(folder, name)
            found = os.lstat(path)
            hashed.update(
                f"{os.path.relpath(path, top)}\0{found.st_mode:o}\0{found.st_uid}\0{found.st_size}\0".encode()
            )
            if os.path.islink(path):
                hashed.update(os.readlink(path).encode())
            elif name in files:
                with open(path, "rb", buffering=0) as file:
                    while data := file.read(1 << 20):
                        hashed.update(data)
    return hashed.digest()


def _wait(image: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START
    while not os.path.ismount(image):
        if server.poll() is not None or time.monotonic() > deadline:
            raise OSError(f"the logging disk did not start: {server.poll()}")
        time.sleep(0.005)
