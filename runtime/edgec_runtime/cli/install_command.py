"""`edgec-rt install FILE [--app NAME]`."""

from __future__ import annotations

import argparse
from typing import Any

from edgec_runtime.slots.install import install


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Install the bundle and make it the app's active version. Raises as `slots.install.install` does."""
    return install(options.file, app=options.app).as_dict()


def text(result: dict[str, Any]) -> str:
    """For people."""
    return (
        f"installed {result['app']} in slot {result['slot']} ({result['identity'][:16]})\n"
        f"  {result['written']:,} new bytes in the store\n"
        f"  payloads: {', '.join(result['payloads'])}\n"
        f"next: edgec-rt selftest --app {result['app']}"
    )
