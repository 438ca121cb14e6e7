"""`edgec-rt confirm APP`: commit an app's version that is on probation."""

from __future__ import annotations

import argparse
from typing import Any

from edgec_runtime.cli import recover_command
from edgec_runtime.slots.confirm import confirm


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Do it. Raises as `slots.confirm.confirm` does."""
    return confirm(options.app).as_dict()


def text(result: dict[str, Any]) -> str:
    """For people."""
    return recover_command.outcome(result)
