"""`edgec boards [FILTER]`: the kinds of hardware edgec knows."""

from __future__ import annotations

from dataclasses import asdict

import click

from edgec.cli.common import Output, options


@click.command("boards")
@click.argument("filter", default="")
@options
def command(out: Output, filter: str) -> None:
    """List the boards; FILTER keeps those with it in their name, title, CPU, target or ISA features."""
    from edgec.errors import MissingError
    from edgec_targets.registry import boards

    word = filter.lower()
    found = [
        b
        for b in boards().values()
        if any(word in text.lower() for text in (b.name, b.title, b.cpu, b.target)) or word in b.isa
    ]
    if not found:
        raise MissingError(
            f"no board matches '{filter}'",
            "It is in no board's name, title, CPU or target, and is no ISA feature of one.",
            "'edgec boards' lists them all.",
            code="E1020",
        )
    rows = [[b.name, b.title, b.cpu, b.cores, _memory(b.memory)] for b in found]
    out.table("", ["board", "what it is", "CPU", "cores", "memory"], rows)
    if len(found) == 1:
        b = found[0]
        out.line(f"system  {b.os}; glibc {b.glibc or '–'}; Python {b.python or '–'}")
        out.line(f"ISA     {' '.join(b.isa)}")
        out.line(f"engines {', '.join(f'{engine} {versions}' for engine, versions in b.engines.items())}")
        out.line(f"source  {b.source}")
    out.result({"boards": [asdict(b) for b in found]})
    out.next(f"edgec check model.onnx -t {found[0].name}")


def _memory(number: int | None) -> str:
    """Memory is sold in binary units."""
    if number is None:
        return "–"
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
