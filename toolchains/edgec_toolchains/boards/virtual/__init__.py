"""Tier 2: an arm64 board under QEMU, with a kernel, disks and a power supply of its own, made of Debian's packages.

    image = prepare()                                  # once: half a minute, no root
    board = create(folder, image, name="virtual")
    board.start(image); board.power_cut(); board.start(image)

It runs real aarch64 code on an emulated core, boots in some five seconds, and loses what was not flushed when its power
is cut. Emulated: nothing of its speed says anything of a real board's.
"""

from edgec_toolchains.boards.virtual.board import CPUS, VirtualBoard, create, open
from edgec_toolchains.boards.virtual.image import Image, home, prepare
from edgec_toolchains.boards.virtual.system import USER

__all__ = ["CPUS", "USER", "Image", "VirtualBoard", "create", "home", "open", "prepare"]
