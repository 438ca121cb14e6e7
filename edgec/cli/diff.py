"""`edgec diff`: what differs between two bundles."""

from __future__ import annotations

from typing import Any

import click

from edgec.cli.common import Output, allow_unsigned_option, options


@click.command("diff")
@click.argument("first")
@click.argument("second")
@allow_unsigned_option
@options
@click.pass_context
def command(ctx: click.Context, out: Output, first: str, second: str, allow_unsigned: bool) -> None:
    """Compare two bundles, signatures aside. Exit code 0: the same; 8: they differ."""
    from edgec.bundle.diff import diff
    from edgec_runtime.bundle import open

    with open(first, allow_unsigned=allow_unsigned) as a, open(second, allow_unsigned=allow_unsigned) as b:
        found = diff(a, b)
    out.result({"identical": not found, "differences": found})
    if not found:
        out.line("identical, signatures aside")
        out.next(f"edgec verify {first}")
        return
    rows = list(_rows(found))
    out.table("Differences", ["what", first, second], rows)
    out.next(f"edgec inspect {second}")
    ctx.exit(8)


def _rows(value: dict[str, Any], path: str = "") -> Any:
    """One row a leaf: its path, and both values; a weight's change is told in the last column."""
    for key, item in value.items():
        where = f"{path}{key}"
        if isinstance(item, list):
            yield [where, *(_short(side) for side in item)]
        elif not any(isinstance(v, (dict, list)) for v in item.values()):
            yield [where, "", ", ".join(f"{k} {_short(v)}" for k, v in item.items())]
        else:
            yield from _rows(item, f"{where} ")


def _short(value: object) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
