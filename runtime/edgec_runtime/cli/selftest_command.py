"""`edgec-rt selftest FILE|--app NAME`: hashes, engines, golden answers. Exit 6 where an answer is wrong."""

from __future__ import annotations

import argparse
from typing import Any

from edgec_runtime import selftest
from edgec_runtime.cli import source


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Test what the options name. Raises TrustError, GoldenError and what `load` raises."""
    source.check(options)
    if options.app is not None:
        return selftest.app(options.app)
    return selftest.bundle(options.file, allow_unsigned=options.allow_unsigned)


def text(result: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{result['members']} files as signed ({result['identity'][:16]})"]
    for tested in result["payloads"]:
        said = f"{tested['sqnr_db']:.1f} dB" if tested["result"] == "passed" else tested["why"]
        lines.append(f"  {tested['payload']}  {tested['result']}  {said}")
    return "\n".join(lines)
