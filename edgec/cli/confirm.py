"""`edgec confirm`: keep a version that waits for it (`edgec flash --confirm manual`)."""

from __future__ import annotations

import click

from edgec.cli.changing import change
from edgec.cli.common import Output, options
from edgec.cli.flash import app_there_option, on_option


@click.command("confirm")
@on_option
@app_there_option
@options
def command(out: Output, names: list[str], app: str | None) -> None:
    """Keep what runs on DEVICE on probation."""
    change(out, names, app, "confirm", "keeps")
