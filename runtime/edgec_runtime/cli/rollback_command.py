"""`edgec-rt rollback APP`: go back to an app's version before, or end its trial."""

from __future__ import annotations

import argparse
from typing import Any

from edgec_runtime.cli import recover_command
from edgec_runtime.slots.rollback import rollback


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Do it. Raises as `slots.rollback.rollback` does."""
    return rollback(options.app).as_dict()


def text(result: dict[str, Any]) -> str:
    """For people."""
    return recover_command.outcome(result)
