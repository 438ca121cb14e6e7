"""`edgec-rt logs APP [--lines N]`: what happened to an app on this device."""

from __future__ import annotations

import argparse
from typing import Any

from edgec_runtime import root as root_
from edgec_runtime.errors import UsageError
from edgec_runtime.slots import journal, status


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The lines. Raises MissingError where the app is not installed and nothing is known of it."""
    if options.lines < 0:
        raise UsageError("--lines must be 0 or more", f"it is {options.lines}", "0 is all of them", code="E205")
    where = root_.find()
    entries = journal.read(where, options.app, options.lines)
    if not entries:
        status.status(options.app)  # says where it is not installed
    return {"app": options.app, "entries": entries}


def text(result: dict[str, Any]) -> str:
    """For people: a line each."""
    return "\n".join(line(entry) for entry in result["entries"]) or "nothing has happened yet"


def line(entry: dict[str, Any]) -> str:
    """An entry as a line: when, what, and the rest as it is."""
    rest = {key: value for key, value in entry.items() if key not in ("time", "boot", "up", "event", "why")}
    if "identity" in rest:
        rest["identity"] = str(rest["identity"])[:16]
    words = [str(entry.get("time", "?")), str(entry.get("event", "?")).ljust(11)]
    words += [f"{key}={value}" for key, value in rest.items()]
    return "  ".join(words) + (f"  {entry['why']}" if "why" in entry else "")
