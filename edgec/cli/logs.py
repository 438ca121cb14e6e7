"""`edgec logs`: what happened to an app on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from edgec.cli.common import Output, options
from edgec.cli.flash import app_there_option

_HEAD = ("time", "boot", "up", "event", "version")


@click.command("logs")
@click.option("--on", "name", required=True, metavar="DEVICE", help="A device's name, or user@host.")
@app_there_option
@click.option("-n", "lines", type=click.IntRange(1, 10_000), default=30, show_default=True, help="The last so many.")
@options
def command(out: Output, name: str, app: str | None, lines: int) -> None:
    """Show what happened to an app on DEVICE: installations, trials and why they failed, rollbacks.

    Times are the device's own clock; boot and seconds since then don't jump where that does.
    """
    import asyncio

    from edgec.flash import ask
    from edgec.flash.device import Target

    target = Target.find(name)
    found, entries = asyncio.run(ask.on(target, lambda device: ask.logs(device, app, lines)))
    rows = [[_text(e.get("time")), _text(e.get("event")), _text(e.get("version")), _rest(e)] for e in entries]
    out.table(f"{found} on {target.name}", ["when", "what", "version", ""], rows)
    if not entries:
        out.line(f"nothing is noted of {found} on {target.name}")
    out.result({"device": target.name, "app": found, "entries": list(entries)})
    out.next(f"edgec status --on {target.name}")


def _rest(entry: Mapping[str, Any]) -> str:
    """What else a line says, shortened: digests and lists are in --json."""
    facts = []
    for key, value in entry.items():
        if key in _HEAD or isinstance(value, dict | list):
            continue
        facts.append(_text(value) if key == "why" else f"{key} {_text(value)[:16]}")
    return ", ".join(facts)


def _text(value: Any) -> str:
    return "".join(c for c in str("" if value is None else value)[:300] if c.isprintable())
