"""`edgec rollback`: back to the version before."""

from __future__ import annotations

import click

from edgec.cli.changing import change
from edgec.cli.common import Output, options
from edgec.cli.flash import app_there_option, on_option


@click.command("rollback")
@on_option
@app_there_option
@options
def command(out: Output, names: list[str], app: str | None) -> None:
    """Make the version before the one that runs on DEVICE. Its files are checked by their hashes first."""
    change(out, names, app, "rollback", "went back to")
