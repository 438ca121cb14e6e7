"""`edgec rollback`: back to the version before."""

from __future__ import annotations

import click

from edgec.cli.common import Output, options
from edgec.cli.flash import app_option, on_option


@click.command("rollback")
@on_option
@app_option
@options
def command(out: Output, names: list[str], app: str | None) -> None:
    """Make the version before the one that runs on DEVICE. Its files are checked by their hashes first."""
    import asyncio

    from edgec.errors import Error
    from edgec.flash import ask
    from edgec.flash.device import Target

    if not names:
        raise click.UsageError("Which device? --on DEVICE. 'edgec devices list' shows yours.")
    targets = [Target.find(name) for name in names]
    answers = asyncio.run(ask.each(targets, lambda device: ask.change(device, "rollback", app)))
    told = []
    for target, answer in zip(targets, answers, strict=True):
        if isinstance(answer, Error):
            if len(targets) == 1:
                raise answer
            out.line(f"{target.name}: {answer.what}: {answer.why}", "red")
            told.append({"device": target.name, "error": answer.as_dict()})
        else:
            out.line(f"{target.name} went back to {answer.app} {answer.version}", "green")
            told.append({"device": target.name, **answer.__dict__})
    out.result({"devices": told})
    out.next(f"edgec status --on {','.join(names)}")
    failed = [answer for answer in answers if isinstance(answer, Error)]
    if failed:
        click.get_current_context().exit(failed[0].exit_code)
