"""An app's state: the one small record that says which slot is active. Everything else follows from it.

    edgec-state 1
    seq 3                   counts the writes
    active b                "a", "b" or "-"
    pending -               a slot on trial
    tries 0                 of the pending slot, left
    floor 0                 the least sequence of a bundle that may be installed (security floor)
    identity <64 hex>       of the active slot's manifest, or "-"
    ready 89abcdef          CRC-32 of the active slot's ready record in hex, or "-": a slot that was changed is seen
    crc 1f2e3d4c            CRC-32 of all lines above, in hex

Lines of another name are kept as they are when the record is written again, so later versions can add to it.
"""

from __future__ import annotations

import binascii
import os

from edgec_runtime.errors import MissingError, TrustError

MAGIC = "edgec-state 1"
MAX_STATE = 4096  # bytes
SLOTS = ("a", "b")
SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class State:
    """The record as a value."""

    __slots__ = ("active", "floor", "identity", "more", "pending", "ready", "seq", "tries")

    def __init__(
        self,
        *,
        seq: int = 0,
        active: str = "-",
        pending: str = "-",
        tries: int = 0,
        floor: int = 0,
        identity: str = "-",
        ready: str = "-",
        more: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.seq = seq
        self.active = active
        self.pending = pending
        self.tries = tries
        self.floor = floor
        self.identity = identity
        self.ready = ready
        self.more = more

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and encode(self) == encode(other)

    def __hash__(self) -> int:
        return hash(encode(self))

    def __repr__(self) -> str:
        return f"State(seq={self.seq}, active={self.active!r}, pending={self.pending!r}, floor={self.floor})"


def encode(state: State) -> bytes:
    """The record's bytes, with its checksum."""
    lines = [
        MAGIC,
        f"seq {state.seq}",
        f"active {state.active}",
        f"pending {state.pending}",
        f"tries {state.tries}",
        f"floor {state.floor}",
        f"identity {state.identity}",
        f"ready {state.ready}",
        *(f"{name} {value}" for name, value in state.more),
    ]
    body = "\n".join(lines).encode("ascii") + b"\n"
    return body + b"crc %08x\n" % binascii.crc32(body)


def decode(data: bytes) -> State:
    """The record of these bytes. Raises ValueError with the reason: damaged, or of a version this runtime lacks."""
    if len(data) > MAX_STATE or not data.endswith(b"\n"):
        raise ValueError("it is cut short or too long")
    cut = data.rfind(b"\n", 0, -1) + 1
    if data[cut:] != b"crc %08x\n" % binascii.crc32(data[:cut]):
        raise ValueError("its checksum is wrong")
    lines = data[:cut].decode("ascii").splitlines()
    if not lines or lines[0] != MAGIC:
        raise ValueError(f"its version is unknown: {lines[0][:40] if lines else 'empty'!r}")
    fields = {}
    for line in lines[1:]:
        name, space, value = line.partition(" ")
        if not space or name in fields:
            raise ValueError(f"the line {line[:40]!r} makes no sense")
        fields[name] = value
    try:
        numbers = {name: int(fields.pop(name)) for name in ("seq", "tries", "floor")}
        active, pending = fields.pop("active"), fields.pop("pending")
        identity, ready = fields.pop("identity"), fields.pop("ready")
    except KeyError as error:
        raise ValueError(f"it lacks {error.args[0]!r}") from None
    if active not in (*SLOTS, "-") or pending not in (*SLOTS, "-") or min(numbers.values()) < 0:
        raise ValueError("a value is out of range")
    return State(**numbers, active=active, pending=pending, identity=identity, ready=ready, more=tuple(fields.items()))


def read(folder: str, app: str) -> State:
    """The state of an app from its folder. Raises MissingError where there is none, TrustError where it is damaged."""
    try:
        with open(os.path.join(folder, "state"), "rb") as file:
            data = file.read(MAX_STATE + 1)
    except FileNotFoundError:
        raise MissingError(
            f"the app {app!r} is not installed",
            f"there is no state in {folder}",
            "install it: edgec-rt install FILE",
            code="E1002",
        ) from None
    try:
        return decode(data)
    except ValueError as error:
        raise TrustError(
            f"the state of the app {app!r} is damaged", str(error), "install the app again", code="E507"
        ) from None


def app_folder(root: str, app: str) -> str:
    """The folder of an app. Raises MissingError for a name that can't be one (it would leave the root)."""
    if not 1 <= len(app) <= 64 or not SAFE.issuperset(app) or app.startswith((".", "-")):
        raise MissingError(
            f"{app[:80]!r} can't be an app's name",
            "a name has 1 to 64 letters, digits, dots, dashes and underscores, and starts with none but the first two",
            "give another name: compile with --name, or install with --app",
            code="E1002",
        )
    return os.path.join(root, "apps", app)
