"""A user of edgec who has nothing yet but local boards: folders, the development key, ~/.ssh that knows the boards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgec.devices.setup import Key
from edgec_toolchains.boards import LocalBoard


@contextlib.contextmanager
def user(folder: Path) -> Iterator[None]:
    """HOME and edgec's folders are in `folder` while the block runs."""
    before = dict(os.environ)
    (folder / "home" / ".ssh").mkdir(parents=True)
    own = {name: str(folder / name.lower()) for name in ("CONFIG", "ROOT", "CACHE")}
    os.environ.update({"HOME": str(folder / "home"), **{f"EDGEC_{name}": path for name, path in own.items()}})
    os.environ.pop("SSH_AUTH_SOCK", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def key() -> Key:
    """The public half of the development key; a compilation has made it."""
    from edgec.bundle import keys
    from edgec_runtime.trust import store

    own = next(each for each in keys.list_keys() if each.name == keys.DEVELOPMENT)
    raw = store.parse_pem(own.public.read_bytes(), str(own.public))
    return Key(store.key_id(raw), store.to_pem(raw).decode())


def reach(folder: Path, boards: Mapping[str, tuple[LocalBoard, int]]) -> None:
    """Let the user of `folder` reach boards by these names, each at a port: its own, or that of a link before it."""
    ssh = folder / "home" / ".ssh"
    (ssh / "config").write_text("".join(board.config(name, port) for name, (board, port) in boards.items()))
    (ssh / "known_hosts").write_text("".join(board.known_host(port) for board, port in boards.values()))
