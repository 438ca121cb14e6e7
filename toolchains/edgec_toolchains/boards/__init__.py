"""Virtual boards: devices for tests, and for whoever has none yet.

`local` is tier 0: an OpenSSH server of this machine with its own port, keys, user and home folder, in a twentieth of a
second; its commands may run on an emulated ARM core. It shares this machine's kernel and disk, so it says nothing about
power cuts.
"""

from edgec_toolchains.boards.link import Link
from edgec_toolchains.boards.local import LocalBoard
from edgec_toolchains.boards.server import Server, prepare

__all__ = ["Link", "LocalBoard", "Server", "prepare"]
