"""`edgec bench`: a bundle's payloads and the bare engine, in turn, in one run."""

from __future__ import annotations

import click

from edgec.cli.common import Output, allow_unsigned_option, options, size


@click.command("bench")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--against", metavar="ort", default=None, help="Also the bare engine on the same payload (ort).")
@click.option("--input", "source", metavar="X.npz", help="Input to run [default: the first golden input].")
@click.option(
    "--threads", type=click.IntRange(min=1), default=None, help="Threads for every candidate [default: each one's own]."
)
@click.option("--rounds", type=click.IntRange(min=3), default=20, show_default=True)
@allow_unsigned_option
@options
def command(
    out: Output,
    files: tuple[str, ...],
    against: str | None,
    source: str | None,
    threads: int | None,
    rounds: int,
    allow_unsigned: bool,
) -> None:
    """Measure bundles (or ONNX files) in turn, each in a process of its own.

    Ratios are to the first row, taken round by round: 0.50 × is twice as fast.
    """
    from edgec.measure.bench import bench

    with out.progress("measuring", rounds + 5) as step:
        report = bench(
            files,
            against=against,
            source=source,
            threads=threads,
            rounds=rounds,
            allow_unsigned=allow_unsigned,
            progress=step,
        )
    rows = []
    for f in report.figures:
        low, high = f.ratio_spread
        rows.append(
            [
                f.name, f"{f.median * 1e3:.3f}", f"{f.p99 * 1e3:.3f}", f"{f.ratio:.3f} × ({low:.2f}–{high:.2f})",
                f"{f.cpu_ratio:.3f} ×",
                f"{f.cold_start * 1e3:.0f}", size(f.peak_memory),
            ]
        )  # fmt: skip
    machine = report.machine
    dots = [i for i in machine.isa if "vnni" in i or "dp" in i or i == "i8mm"]
    out.table(
        f"{machine.cpu or machine.arch}, {machine.cores} cores, {', '.join(dots) or 'no int8 dot product'}",
        ["candidate", "median ms", "p99 ms", "ratio (p10–p90)", "CPU ratio", "cold start ms", "peak memory"],
        rows,
    )
    out.result(report.as_dict())
    out.next(f"edgec inspect {files[0]}")
