"""`edgec-rt recover`: finish or undo what a power cut interrupted. `--unit system|user` prints a unit for systemd."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from edgec_runtime import root as root_


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Recover every app. Raises UsageError where the root can't be told."""
    if options.unit:
        from edgec_runtime.slots import unit

        return {"unit": unit.text(options.unit, _command(), root_.find())}
    from edgec_runtime.slots.recover import recover

    return {"apps": [outcome.as_dict() for outcome in recover()]}


def text(result: dict[str, Any]) -> str:
    """For people."""
    if "unit" in result:
        return str(result["unit"]).rstrip("\n")
    return "\n".join(outcome(app) for app in result["apps"]) or "nothing was under way"


def outcome(result: dict[str, Any]) -> str:
    """What became of an app, a line or two."""
    version = f" {result['version']}" if result["version"] else ""
    said = {
        "committed": f"{result['app']}{version} is installed",
        "probation": f"{result['app']}{version} is on probation: edgec-rt confirm {result['app']}",
        "rolled-back": f"{result['app']} was rolled back, "
        + (f"{result['version']} is what a load gets" if version else "it has no version now"),
        "damaged": f"{result['app']} is damaged",
    }[result["result"]]
    return f"{said}\n  why: {result['why']}" if result["why"] else said


def _command() -> str:
    """The path of this `edgec-rt`: the launcher that `edgec devices setup` made, else the program that runs."""
    launcher = os.path.join(root_.find(), "bin", "edgec-rt")
    if os.path.isfile(launcher):
        return launcher
    beside = os.path.join(os.path.dirname(sys.executable), "edgec-rt")
    if os.path.isfile(beside):
        return beside
    return os.path.abspath(sys.argv[0])
