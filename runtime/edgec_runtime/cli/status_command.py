"""`edgec-rt status [APP]`: what is installed here, on trial, to go back to."""

from __future__ import annotations

import argparse
from typing import Any

from edgec_runtime import root as root_
from edgec_runtime.slots.status import status


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Look. Raises MissingError where the app is not installed."""
    return {"root": root_.find(), "apps": status(options.app)}


def text(result: dict[str, Any]) -> str:
    """For people."""
    return "\n".join(app(record) for record in result["apps"]) or f"no app is installed in {result['root']}"


def app(record: dict[str, Any]) -> str:
    """An app, a few lines."""
    from edgec_runtime.cli import install_command

    name = f"{record['app']} {record['version']}".rstrip()
    place = f"slot {record['slot']}, {record['identity'][:16]}" if record["slot"] else "a load gets nothing"
    lines = [f"{name}   {place}   {record['bytes']:,} bytes"]
    if record["pending"]:
        new = record["pending"]["version"] or record["pending"]["identity"][:16]
        left = f", {record['remaining_s']:.0f} s left" if record["remaining_s"] is not None else ""
        lines.append(f"  on {record['phase']}: {new} ({record['tries']} more tries{left})")
    if record["other"]:
        lines.append(f"  to go back to: {record['other']['version'] or record['other']['identity'][:16]}")
    if record["floor"]:
        lines.append(f"  security floor: sequence {record['floor']}")
    if record["why"]:
        lines.append(f"  last rollback: {record['why']}")
    if record["problem"]:
        lines.append(f"  problem: {record['problem']}")
    if record["health"].get("payloads"):
        lines.append(f"  last health check, of {record['health'].get('version', '?')}:")
        lines += ["  " + line for line in install_command.health(record["health"]).splitlines()]
    return "\n".join(lines)
