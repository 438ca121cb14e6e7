"""What `edgec confirm` and `edgec rollback` share: one change on one device or on several, told for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgec.cli.common import Output


def change(out: Output, names: list[str], app: str | None, what: str, done: str) -> None:
    """Ask each device for `what`; `done` is how a device that did it is told of: "kitchen keeps …".

    One device's error is the command's; of several each is told, and the first one's exit code is the command's.
    """
    import asyncio

    from edgec.errors import Error
    from edgec.flash import ask
    from edgec.flash.target import Target

    if not names:
        raise click.UsageError("Which device? --on DEVICE. 'edgec devices list' shows yours.")
    targets = [Target.find(name) for name in names]
    answers = asyncio.run(ask.each(targets, lambda device: ask.change(device, what, app)))
    failed = [answer for answer in answers if isinstance(answer, Error)]
    if failed and len(targets) == 1:
        raise failed[0]
    told = []
    for target, answer in zip(targets, answers, strict=True):
        if isinstance(answer, Error):
            told_why = f"{answer.what}: {answer.why}" if answer.why else answer.what
            name = "" if target.name in told_why else f"{target.name}: "
            click.echo(f"error[{answer.code}]: {name}{told_why}", err=True)  # with --quiet too
            told.append({"device": target.name, "error": answer.as_dict()})
        else:
            out.line(f"{target.name} {done} {answer.app} {answer.version}", "green")
            told.append({"device": target.name, **answer.__dict__})
    out.result({"devices": told})
    out.next(f"edgec status --on {','.join(names)}")
    if failed:
        click.get_current_context().exit(failed[0].exit_code)
