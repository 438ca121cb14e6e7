"""Which payload this machine takes, and why not the others.

Those whose `arch` is this machine's, then those that are portable, in the manifest's order; of the first, those that
were made for the most features of this CPU come before those made for fewer, and these before those made for others: a
bundle for several boards gives each its own. Each must have its instruction set features (checked where arch is the
machine's), memory, an engine in its version range, and a trusted bundle where it holds native code. An engine that
refuses at loading gives way to the next payload.
"""

from __future__ import annotations

from edgec_runtime import engines
from edgec_runtime.bundle import version
from edgec_runtime.errors import MissingError, UnsupportedError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from edgec_runtime.engines.base import Engine
    from edgec_runtime.machine import Machine

    Entry = Mapping[str, Any]
    Refused = dict[str, str]  # payload id -> why not


def order(payloads: Sequence[Entry], machine: Machine) -> list[Entry]:
    """The payloads in the order in which this machine tries them; the others are left out."""
    native = [entry for entry in payloads if entry["arch"] == machine.arch]

    def strangeness(entry: Entry) -> int:
        made_for = entry.get("board_isa", ())
        return -len(made_for) if machine.isa.issuperset(made_for) else 1

    native.sort(key=strangeness)  # stable: a board's own payloads stay in order
    return native + [entry for entry in payloads if entry["arch"] != machine.arch and entry["portable"]]


def distinct(payloads: Sequence[Entry]) -> list[Entry]:
    """The first payload for each engine in each precision: a bundle for several boards has one for each board."""
    first: dict[tuple[str, str], Entry] = {}
    for entry in payloads:
        first.setdefault((entry["engine"], entry["precision"]), entry)
    return list(first.values())


def obstacle(entry: Entry, machine: Machine, *, trusted: bool) -> str | None:
    """Why this machine can't use a payload, whatever engines it has; None where nothing speaks against it."""
    return next((why for _, why in obstacles(entry, machine, trusted=trusted)), None)


def obstacles(entry: Entry, machine: Machine, *, trusted: bool) -> Iterator[tuple[str, str]]:
    """All reasons why, each with its kind: "trust", "arch", "isa", "glibc" or "memory"."""
    if entry["native_code"] and not trusted:
        yield "trust", "it holds native code, which is never loaded from an untrusted bundle"
    if entry["arch"] == machine.arch:
        lacking = [feature for feature in entry["isa"] if feature not in machine.isa]
        if lacking:
            yield "isa", f"this CPU lacks {', '.join(lacking)}"
    elif not entry["portable"]:
        yield "arch", f"it is for {entry['arch']}; this machine is {machine.arch}"
    elif entry["native_code"]:
        yield "arch", f"its native code is for {entry['arch']}; this machine is {machine.arch}"
    if "glibc" in entry:  # its native code's
        from edgec_runtime.machine import older

        if not machine.glibc or older(machine.glibc, entry["glibc"]):
            yield "glibc", f"it needs glibc {entry['glibc']}; this system has {machine.glibc or 'another C library'}"
    need = entry["memory"]
    if need is not None and machine.memory is not None and need > machine.memory:
        yield "memory", f"it needs {need / 1e6:.0f} MB of memory; {machine.memory / 1e6:.0f} MB are free"


def engine_for(entry: Entry, find: Callable[[str], Engine | None] = engines.find) -> Engine | str:
    """The engine of a payload, or why there is none on this machine that fits."""
    name = entry["engine"]
    engine = find(name)
    if engine is None:
        return f"no adapter for the engine {name!r} is installed"
    have = engine.version()
    if have is None:
        return f"the engine {name!r} is not installed"
    try:
        fits = version.within(have, entry["engine_version"])
    except ValueError:
        fits = False
    return engine if fits else f"it needs {name} {entry['engine_version']}; {have} is installed"


def wanted(payloads: Sequence[Entry], *, engine: str | None, payload: str | None) -> tuple[list[Entry], Refused]:
    """The payloads that the caller's `engine=` and `payload=` leave, and the others with the reason.

    Raises UsageError where nothing is left.
    """
    left, refused = [], {}
    for entry in payloads:
        if payload is not None and entry["id"] != payload:
            refused[entry["id"]] = f"payload={payload!r} was asked for"
        elif engine is not None and entry["engine"] != engine:
            refused[entry["id"]] = f"engine={engine!r} was asked for"
        else:
            left.append(entry)
    if not left:
        has = ", ".join(f"{entry['id']} ({entry['engine']})" for entry in payloads)
        raise UsageError(
            f"no payload is {'named ' + repr(payload) if payload is not None else 'for the engine ' + repr(engine)}",
            f"the bundle has {has}",
            "ask for one of these, or for none in particular",
            code="E204",
        )
    return left, refused


def none_usable(payloads: Sequence[Entry], refused: Refused, machine: Machine) -> UnsupportedError | MissingError:
    """The error that lists each payload and why not. MissingError where all that is missing is an engine."""
    why = "; ".join(f"{entry['id']}: {refused.get(entry['id'], 'not tried')}" for entry in payloads)
    missing = [entry for entry in payloads if "installed" in refused.get(entry["id"], "")]
    if len(missing) == len(payloads):
        needed = missing[0]
        package = (needed["proven_with"] or {}).get("package", needed["engine"])
        return MissingError(
            "no payload can be used: its engine is missing",
            why,
            "update edgec-runtime"
            if needed["native_code"]
            else f"install it: pip install '{package}{needed['engine_version']}'",
            code="E1001",
        )
    return UnsupportedError(
        f"no payload can be used on this machine ({machine.arch})",
        why,
        "compile the model for this board, or run it on a board that one of the payloads is for",
        code="E401",
    )
