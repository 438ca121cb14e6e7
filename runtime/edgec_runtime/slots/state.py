"""An app's state: the one small record that says which slot is active. Everything else follows from it.

    edgec-state 1
    seq 3                   counts the writes
    active b                "a", "b" or "-"
    pending -               a slot on trial or on probation
    tries 0                 of the pending slot, left
    floor 0                 the least sequence of a bundle that may be installed (security floor)
    identity <64 hex>       of the active slot's manifest, or "-"
    ready 89abcdef          CRC-32 of the active slot's ready record in hex, or "-": a slot that was changed is seen

and, each only where it differs from what is in brackets:

    other <64 hex>          identity of the slot that is not active (-): pending, or the version to roll back to
    other-ready 0123abcd    its ready record's CRC-32 (-)
    phase trial             trial: loads still get the active slot. probation: they get the pending one (none)
    confirm manual          a version that passes its trial waits for `confirm` (auto: it is committed)
    deadline 60             seconds for the health check, and of a probation (60)
    boot <boot id>          the boot that a probation counts in (-)
    until 1234.5            seconds of CLOCK_BOOTTIME in that boot at which it ends (0)
    latency <id>=<us>,...   microseconds of the first accepted run of a payload on this device (none)
    latency-cpu <name>      the CPU that they were measured on
    why <text>              reason of the last rollback, until an installation: up to 300 printable ASCII characters
    previous-error E702     its code
    crc 1f2e3d4c            CRC-32 of all lines above, in hex

Lines of another name are kept as they are when the record is written again, so later versions can add to it.
"""

from __future__ import annotations

import binascii
import os

from edgec_runtime.errors import MissingError, TrustError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = "edgec-state 1"
MAX_STATE = 4096  # bytes
MAX_WHY = 300  # characters
MAX_LATENCY = 1024  # characters of that line
SLOTS = ("a", "b")
PHASES = ("none", "trial", "probation")
DEADLINE = 60.0  # seconds
ROUNDING = 10.0  # seconds: the record keeps six digits of a deadline of up to a week
SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class State:
    """The record as a value. `seq` … `ready` are in every record; the rest is as the module says."""

    __slots__ = (
        "active", "boot", "confirm", "deadline", "floor", "identity", "latency", "latency_cpu", "more", "other",
        "other_ready", "pending", "phase", "previous_error", "ready", "seq", "tries", "until", "why",
    )  # fmt: skip

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
        other: str = "-",
        other_ready: str = "-",
        phase: str = "none",
        confirm: str = "auto",
        deadline: float = DEADLINE,
        boot: str = "-",
        until: float = 0.0,
        latency: Mapping[str, int] | None = None,
        latency_cpu: str = "",
        why: str = "",
        previous_error: str = "",
        more: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.seq = seq
        self.active = active
        self.pending = pending
        self.tries = tries
        self.floor = floor
        self.identity = identity
        self.ready = ready
        self.other = other
        self.other_ready = other_ready
        self.phase = phase
        self.confirm = confirm
        self.deadline = deadline
        self.boot = boot
        self.until = until
        self.latency = dict(latency or {})
        self.latency_cpu = latency_cpu
        self.why = why
        self.previous_error = previous_error
        self.more = more

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and encode(self) == encode(other)

    def __hash__(self) -> int:
        return hash(encode(self))

    def __repr__(self) -> str:
        return (
            f"State(seq={self.seq}, active={self.active!r}, pending={self.pending!r}, phase={self.phase!r}, "
            f"tries={self.tries}, floor={self.floor}, other={self.other[:8]!r})"
        )

    def inactive(self) -> str:
        """The name of the slot that is not active; "a" where none is."""
        return "b" if self.active == "a" else "a"

    def slot(self, name: str) -> tuple[str, str]:
        """(identity, CRC-32 of the ready record) of a slot, each "-" where the record knows none."""
        if name == self.active:
            return self.identity, self.ready
        return (self.other, self.other_ready) if name == self.inactive() else ("-", "-")


def effective(state: State, boot_id: str, now: float) -> str:
    """The slot that a load gets: "a", "b", or "-" for none.

    Args:
        state: the app's.
        boot_id: of the running system (`slots.boot`).
        now: CLOCK_BOOTTIME in seconds.

    The active slot, but on probation the pending one, until the deadline in the boot in which it began. After another
    boot it is the active one until `recover` has counted the try and started the deadline anew.

    A clock that stands before the probation's begin is another boot's, too: where there is no /proc all boots have the
    same id, and a deadline counted in months of uptime would outlast the restart.
    """
    begun = state.until - state.deadline - ROUNDING
    if state.phase == "probation" and state.boot == boot_id and begun <= now < state.until:
        return state.pending
    return state.active


def printable(text: str, most: int = MAX_WHY) -> str:
    """Text as a line of the record can hold it: printable ASCII, single spaces, at most so many characters."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in " ".join(text.split()))
    return plain if len(plain) <= most else plain[: most - 3] + "..."


def encode(state: State) -> bytes:
    """The record's bytes, with its checksum."""
    added = [
        ("other", state.other, "-"),
        ("other-ready", state.other_ready, "-"),
        ("phase", state.phase, "none"),
        ("confirm", state.confirm, "auto"),
        ("deadline", f"{state.deadline:g}", f"{DEADLINE:g}"),
        ("boot", state.boot, "-"),
        ("until", f"{state.until:.3f}", "0.000"),
        ("latency", _latency_line(state.latency), ""),
        ("latency-cpu", printable(state.latency_cpu), ""),
        ("why", printable(state.why), ""),
        ("previous-error", state.previous_error, ""),
    ]
    lines = [
        MAGIC,
        f"seq {state.seq}",
        f"active {state.active}",
        f"pending {state.pending}",
        f"tries {state.tries}",
        f"floor {state.floor}",
        f"identity {state.identity}",
        f"ready {state.ready}",
        *(f"{name} {value}" for name, value, usual in added if value != usual),
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
    lines = data[:cut].decode("ascii").split("\n")[:-1]
    if not lines or lines[0] != MAGIC:
        raise ValueError(f"its version is unknown: {lines[0][:40] if lines else 'empty'!r}")
    fields = {}
    for line in lines[1:]:
        name, space, value = line.partition(" ")
        if not space or name in fields:
            raise ValueError(f"the line {line[:40]!r} makes no sense")
        fields[name] = value
    take = fields.pop
    try:
        state = State(
            seq=int(take("seq")),
            active=take("active"),
            pending=take("pending"),
            tries=int(take("tries")),
            floor=int(take("floor")),
            identity=take("identity"),
            ready=take("ready"),
        )
    except KeyError as error:
        raise ValueError(f"it lacks {error.args[0]!r}") from None
    if fields:
        state.other, state.other_ready = take("other", "-"), take("other-ready", "-")
        state.phase, state.confirm = take("phase", "none"), take("confirm", "auto")
        state.deadline, state.until = float(take("deadline", DEADLINE)), float(take("until", 0.0))
        state.boot, state.why = take("boot", "-"), take("why", "")
        state.latency, state.latency_cpu = _latency(take("latency", "")), take("latency-cpu", "")
        state.previous_error = take("previous-error", "")
        state.more = tuple(fields.items())
    if (
        state.active not in (*SLOTS, "-")
        or state.pending not in ("-", state.inactive())
        or state.phase not in PHASES
        or (state.pending == "-") != (state.phase == "none")
        or state.confirm not in ("auto", "manual")
        or min(state.seq, state.tries, state.floor) < 0
        or not 0 < state.deadline < 1e9
        or not 0 <= state.until < 1e12
    ):
        raise ValueError("a value is out of range")
    return state


def _latency_line(latency: Mapping[str, int]) -> str:
    """`id=us,...`; a payload whose id can't stand there, or for which there is no room, goes without."""
    line = ""
    for name, value in latency.items():
        part = f"{name}={value}"
        if SAFE.issuperset(name) and name and len(line) + len(part) < MAX_LATENCY:
            line += f",{part}" if line else part
    return line


def _latency(line: str) -> dict[str, int]:
    """What `_latency_line` wrote. Raises ValueError where it is something else."""
    pairs = [part.partition("=") for part in line.split(",")] if line else []
    if any(not name or not SAFE.issuperset(name) or not value.isdigit() for name, _, value in pairs):
        raise ValueError("its latencies make no sense")
    return {name: int(value) for name, _, value in pairs}


def read(folder: str, app: str) -> State:
    """The state of an app from its folder.

    Raises MissingError where there is none, TrustError where it is damaged, UsageError where it can't be read.
    """
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
    except OSError as error:
        raise UsageError(
            f"can't read the state of the app {app!r}",
            str(error),
            "run it as the owner of that folder, or set EDGEC_ROOT to another",
            code="E201",
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
