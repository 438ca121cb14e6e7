"""What is flashed to which device, how, and what came of it: plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edgec.devices import inventory
from edgec.devices.address import Address

Tell = Callable[[str, int, int], None]
"""(step, bytes done, bytes in all; 0, 0 where a step has none). Steps: connecting, checking, sending, trial, …"""


@dataclass(frozen=True)
class Target:
    """A device that can be flashed.

    Attributes:
        name: the user's word for it.
        address: where it is; root: edgec's folder there, empty where that is not known.
        board: its board's name, empty where that is not known.
    """

    name: str
    address: Address
    root: str = ""
    board: str = ""

    @classmethod
    def find(cls, text: str) -> Target:
        """A device of the inventory, or an address. Raises UsageError (E212) where it is none."""
        found = inventory.find(text)
        if found is None:
            return cls(text, Address.parse(text))
        return cls(found.name, Address.parse(found.address), str(found.installed.get("root", "")), found.board)


@dataclass(frozen=True)
class Options:
    """How a bundle is flashed.

    Attributes:
        app: its name on the device; None for its own.
        confirm: "auto", or "manual": what passed its trial runs on probation until it is confirmed.
        deadline: seconds that the health check (and a probation) may take.
        limit: bytes a second; None for as fast as the link.
        tries: trials that a power cut may use up.
        chain: envelopes of root metadata, oldest first: those that the device lacks are sent; (version, bytes).
    """

    app: str | None = None
    confirm: str = "auto"
    deadline: float = 60.0
    limit: float | None = None
    tries: int = 3
    chain: Sequence[tuple[int, bytes]] = ()


@dataclass(frozen=True)
class Flashed:
    """What came of it.

    Attributes:
        device, address, app, version, identity: what was flashed to which.
        result: "committed", "probation", "unchanged", or "rolled-back" (then RolledBackError carries this).
        why: of a rollback.
        health: what the device's health check said.
        needed: bytes of the members that this device uses.
        sent: bytes of members and patches that went over the line; patches: those of patches among them.
        wire: all bytes that were given to the connection, before its own framing and encryption.
        seconds: from the start to the end; transfer, trial: of these.
        reconnects: how often the link was made again.
        followed: versions of root metadata that the device had and got; (0, 0) where it needed none.
        emulated: a virtual board, whose times say nothing.
    """

    device: str
    address: str
    app: str
    version: str
    identity: str
    result: str
    why: str = ""
    health: Mapping[str, Any] = field(default_factory=dict)
    needed: int = 0
    sent: int = 0
    patches: int = 0
    wire: int = 0
    seconds: float = 0.0
    transfer: float = 0.0
    trial: float = 0.0
    reconnects: int = 0
    followed: tuple[int, int] = (0, 0)
    emulated: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "health": dict(self.health)}
