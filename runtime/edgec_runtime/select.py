"""Which payload this machine takes, and why not the others.

Those whose `arch` is this machine's, in the manifest's order; then those that are portable, in order. Each must have
its instruction set features (checked where arch is the machine's), memory, an engine in its version range, and a
trusted bundle where it holds native code. An engine that refuses at loading gives way to the next payload.
"""

from __future__ import annotations

from edgec_runtime import engines
from edgec_runtime.bundle import version
from edgec_runtime.errors import MissingError, UnsupportedError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from edgec_runtime.engines.base import Engine
    from edgec_runtime.machine import Machine

    Entry = Mapping[str, Any]
    Refused = dict[str, str]  # payload id -> why not


def order(payloads: Sequence[Entry], arch: str) -> list[Entry]:
    """The payloads in the order in which this machine tries them; the others are left out."""
    native = [entry for entry in payloads if entry["arch"] == arch]
    return native + [entry for entry in payloads if entry["arch"] != arch and entry["portable"]]


def obstacle(entry: Entry, machine: Machine, *, trusted: bool) -> str | None:
    """Why this machine can't use a payload, whatever engines it has; None where nothing speaks against it."""
    if entry["native_code"] and not trusted:
        return "it holds native code, which is never loaded from an untrusted bundle"
    if entry["arch"] == machine.arch:
        lacking = [feature for feature in entry["isa"] if feature not in machine.isa]
        if lacking:
            return f"this CPU lacks {', '.join(lacking)}"
    elif not entry["portable"]:
        return f"it is for {entry['arch']}; this machine is {machine.arch}"
    elif entry["native_code"]:
        return f"its native code is for {entry['arch']}; this machine is {machine.arch}"
    need = entry["memory"]
    if need is not None and machine.memory is not None and need > machine.memory:
        return f"it needs {need / 1e6:.0f} MB of memory; {machine.memory / 1e6:.0f} MB are free"
    return None


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
            f"install it: pip install '{package}{needed['engine_version']}'",
            code="E1001",
        )
    return UnsupportedError(
        f"no payload can be used on this machine ({machine.arch})",
        why,
        "compile the model for this board, or run it on a board that one of the payloads is for",
        code="E401",
    )
