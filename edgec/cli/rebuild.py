"""`edgec rebuild`: replay a bundle's recipe and compare every byte."""

from __future__ import annotations

import click

from edgec.cli.common import Output, allow_unsigned_option, options


@click.command("rebuild")
@click.argument("file")
@click.option("--model", required=True, metavar="FILE", help="The model it was made from: matched by digest.")
@click.option("--calib", metavar="DATA", help="The calibration data it was made with: matched by digest.")
@click.option("--eval", "evaluation", metavar="DATA", help="The evaluation it was measured with: matched by digest.")
@click.option("-o", "--output", metavar="FILE", help="Keep the rebuilt bundle here.")
@allow_unsigned_option
@options
def command(
    out: Output,
    file: str,
    model: str,
    calib: str | None,
    evaluation: str | None,
    output: str | None,
    allow_unsigned: bool,
) -> None:
    """Compile again by the recipe inside FILE and say whether the same bytes came out (the signature aside).

    Nothing that a bundle names is ever executed: model, calibration and evaluation are yours to give again.
    """
    from edgec.rebuild import rebuild

    answer = rebuild(
        file, model, calib=calib, eval=evaluation, output=output, allow_unsigned=allow_unsigned, progress=out.progress
    )
    out.line(f"identical: {answer['identity'][:16]}, {answer['members']} members, signature aside")
    out.result(answer)
    out.next(f"edgec verify {file}")
