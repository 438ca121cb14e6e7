"""What goes wrong between the host and a device: one error a cause, with what, why and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgec.errors import BadInputError, Error, MissingError, UnreachableError, UnsupportedError

_THERE = re.compile(r"`?edgec-rt (confirm|rollback) ([\w.-]*\w)`?")
_ENGINE = re.compile(r"the engine '([\w.-]+)' is not installed")


def told(device: object, fields: Any) -> Error:
    """An error that the device told, as one of this side's. What a device says is not believed to be well formed."""
    given: Mapping[str, Any] = fields if isinstance(fields, dict) else {}

    def text(name: str) -> str:
        value = given.get(name)
        return value[:600] if isinstance(value, str) and value.isprintable() else ""

    code, exit_code = text("code"), given.get("exit_code")
    if not text("what") or not code.startswith("E") or not code[1:].isdigit():
        return nonsense(device, "it tells an error without words")
    error = Error(f"{device}: {text('what')}", text("why"), _here(device, text("fix"), text("why")), code=code)
    error.exit_code = exit_code if type(exit_code) is int and 1 <= exit_code <= 11 else 9
    return error


def _here(device: object, fix: str, why: str) -> str:
    """A device's advice for who sits at this machine."""
    fix = fix.replace("edgec-rt install FILE", f"edgec flash FILE --on {device}")
    if fix.startswith("install it: pip install") and (engine := _ENGINE.search(why)):  # a device needs no pip
        return (
            f"compile it for the engine that is there (edgec compile --engine), or bring this one: "
            f"edgec devices setup {device} --engine {engine[1]}"
        )
    return _THERE.sub(lambda match: f"edgec {match[1]} --on {device} --app {match[2]}", fix)


def nonsense(device: object, why: str) -> Error:
    """The device's answer is none (E955)."""
    return BadInputError(
        f"{device} answers with something that edgec does not understand",
        why,
        f"Is it the device you mean? 'edgec devices setup {device}' brings its runtime to this version.",
        code="E955",
    )


def silent(device: object, seconds: float) -> Error:
    """No answer in time (E1105, exit 11)."""
    return UnreachableError(
        f"{device} did not answer in {seconds:.0f} s",
        "the connection still stands, but its agent says nothing",
        "Run it again: it goes on where it stopped.",
        code="E1105",
    )


def gone(device: object, why: str = "") -> Error:
    """The agent ended (E1106, exit 11): the link was cut, or it was killed."""
    return UnreachableError(
        f"the connection to {device} was lost",
        why or "its agent ended in the middle",
        "Run it again: it goes on where it stopped.",
        code="E1106",
    )


def no_agent(device: object, why: str) -> Error:
    """Nothing on the device answers as the agent would (E1043, exit 10)."""
    return MissingError(f"{device} is not set up for edgec", why, f"edgec devices setup {device}", code="E1043")


def old_agent(device: object, why: str) -> Error:
    """The device's runtime is older than this command (E1044, exit 10)."""
    return MissingError(
        f"the runtime on {device} is too old for this", why, f"edgec devices setup {device}", code="E1044"
    )


def which_app(device: object, names: list[str]) -> Error:
    """A device with several apps, or none, and none named (E1045, exit 10)."""
    return MissingError(
        f"which app on {device}?" if names else f"no app is installed on {device}",
        f"it has {', '.join(names)}" if names else "nothing was flashed to it yet",
        "Name one with --app." if names else f"edgec flash model.edge --on {device}",
        code="E1045",
    )


def damaged_again(device: object, member: str) -> Error:
    """A member arrives with another hash, also the second time (E956)."""
    return UnsupportedError(
        f"{member} arrives damaged on {device}",
        "its SHA-256 is wrong even after sending it twice",
        "Check the device's disk and memory.",
        code="E956",
    )
