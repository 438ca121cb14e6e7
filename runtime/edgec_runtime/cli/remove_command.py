"""`edgec-rt remove APP`: take an app off this device."""

from __future__ import annotations

import argparse
from typing import Any

from edgec_runtime.slots.remove import remove


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Remove it. Raises as `slots.remove.remove` does."""
    remove(options.app)
    return {"app": options.app, "removed": True}


def text(result: dict[str, Any]) -> str:
    """For people."""
    return f"{result['app']} was removed"
