"""Virtual boards as devices: in the inventory, reachable at once, with a board file of their own.

A board's folder is `virtual/<name>` in edgec's configuration folder. Its host key is made here, so known_hosts has it
before the board first answers (`owned`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgec.devices import board as board_
from edgec.devices import inventory, owned
from edgec.devices.address import Address, plain
from edgec.devices.probe import Probe, probe
from edgec.devices.transport import connect
from edgec.errors import MissingError, UsageError
from edgec_toolchains.boards import virtual
from edgec_toolchains.boards.virtual import VirtualBoard

NAME = "virtual"
"""What the first is called."""

CPU = "cortex-a72"


@dataclass(frozen=True)
class Started:
    """What starting did.

    Attributes:
        board: the board. address: where it is, for `connect`; ssh: the file for `ssh -F`.
        seconds: until it answered; 0.0 where it was on.
        made: whether it is new.
        probe: what it says of itself; description: the board file, for `edgec compile -t`.
    """

    board: VirtualBoard
    address: Address
    ssh: Path
    seconds: float
    made: bool
    probe: Probe
    description: Path


def folder(name: str) -> Path:
    """Where a board of this name has its files. Raises UsageError (E213) for what is no name."""
    return inventory.path().parent.absolute() / "virtual" / plain(name)


def address(name: str) -> Address:
    """Where a board of this name is, on or off."""
    return Address(owned.PREFIX + plain(name), virtual.USER)


def boards() -> list[VirtualBoard]:
    """All that are there, by name."""
    found = sorted(path.parent for path in folder(NAME).parent.glob("*/board.json"))
    return [virtual.open(path) for path in found if not path.name.endswith(".part")]


def get(name: str) -> VirtualBoard:
    """The board of a name. Raises MissingError (E1051, exit 10) where there is none."""
    where = folder(name)
    if not where.is_dir():
        names = ", ".join(board.name for board in boards()) or "none"
        raise MissingError(
            f"no virtual board '{name}'", f"there are: {names}", f"edgec devices virtual start {name} makes it.",
            code="E1051",
        )  # fmt: skip
    return virtual.open(where)


def start(
    name: str = NAME, *, cpu: str | None = None, now: str, progress: Callable[[str], None] = lambda step: None
) -> Started:
    """Make a board where there is none of this name, switch it on, and put it into the inventory.

    Args:
        name: of the board and of the device.
        cpu: one of `virtual.CPUS`; None for that of the board, `CPU` for a new one.
        now: ISO 8601, for the inventory.
        progress: told of each step.

    Raises:
        UsageError: E1053, another device has the name; E1054, an unknown CPU, or another than the board's.
        MissingError (exit 10): E1031 or E1050, its parts can't be had here.
        UnsupportedError: E1052, it does not start.
    """
    where, at = folder(name), address(name)
    device = inventory.find(name)
    if device is not None and device.address != str(at):
        raise UsageError(
            f"'{name}' is another device, at {device.address}", "names are unique",
            f"Choose another name: edgec devices virtual start {name}-2", code="E1053",
        )  # fmt: skip
    if cpu is not None and cpu not in virtual.CPUS:
        known = ", ".join(virtual.CPUS)
        raise UsageError(f"no virtual board has a '{cpu}'", f"there are {known}", "Take one of them.", code="E1054")
    if where.is_dir() and cpu not in (None, (has := virtual.open(where).cpu)):
        raise UsageError(
            f"the virtual board '{name}' has a {has}", "a board keeps its CPU",
            f"Start another one, or first: edgec devices virtual remove {name}", code="E1054",
        )  # fmt: skip
    image = virtual.prepare(progress=progress)
    with _locked(where):
        made = not where.is_dir()  # another process may have been faster
        board = virtual.create(where, image, name=name, cpu=cpu or CPU) if made else virtual.open(where)
        progress("booting")
        seconds = board.start(image)
        board = virtual.open(where)  # its port may be another
    ssh = owned.write(at.host, port=board.port, user=board.user, key=board.client_key, host_key=board.host_key)
    found = asyncio.run(_probed(at))
    description = where / f"{name}.toml"
    fields = {**board_.fields(found, date=now[:10]), "title": f"Virtual board, emulated ({virtual.CPUS[board.cpu]})"}
    description.write_text(board_.toml(fields), encoding="utf-8")
    if inventory.find(name) is None:
        inventory.add(at, name=name, board=str(description), now=now)
    inventory.note(at, now=now, probe=found.as_dict())
    return Started(board, at, ssh, seconds, made, found, description)


def stop(name: str = NAME, *, power_cut: bool = False) -> bool:
    """Switch a board off; False where it was off. With `power_cut` what it had not flushed to its disk is lost.

    Raises MissingError (E1051).
    """
    board = get(name)
    return board.power_cut() if power_cut else board.stop()


def remove(name: str = NAME) -> None:
    """Delete a board with its disk and keys; it leaves the inventory. Raises MissingError (E1051)."""
    board = get(name)
    board.power_cut()
    at = address(name)
    if inventory.find(str(at)):
        inventory.remove(str(at))
    owned.remove(at.host)
    shutil.rmtree(board.folder)
    board.folder.with_name(f"{board.folder.name}.lock").unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(where: Path) -> Iterator[None]:
    """One process at a time makes or starts a board."""
    where.parent.mkdir(parents=True, exist_ok=True)
    with open(where.with_name(f"{where.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def _probed(at: Address) -> Probe:
    async with connect(at) as connection:
        return await probe(connection)
