"""`edgec bench`: a bundle's payloads and the bare engine, in turn, in one run; or instructions on an emulated core."""

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
@click.option(
    "--rounds",
    type=click.IntRange(min=3),
    default=20,
    show_default=True,
    help="How often each candidate is measured, in turn.",
)
@click.option(
    "--emulate",
    metavar="CORE",
    default=None,
    help="Instructions on an emulated ARM core instead (cortex-a76); no time.",
)
@allow_unsigned_option
@options
def command(
    out: Output,
    files: tuple[str, ...],
    against: str | None,
    source: str | None,
    threads: int | None,
    rounds: int,
    emulate: str | None,
    allow_unsigned: bool,
) -> None:
    """Measure bundles (or ONNX files) in turn, each in a process of its own.

    Ratios are to the first row, taken round by round: 0.50 × is twice as fast.

    With --emulate CORE (cortex-a53, cortex-a72, cortex-a76, i8mm) each payload that such a core can take runs on it
    under QEMU, one thread, and its instructions are counted: exact, saying which kernels ran, and no time.
    """
    context = click.get_current_context()
    for name in ("against", "threads", "rounds") if emulate is not None else ():
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} has no place beside --emulate, which counts one thread's instructions.")
    if emulate is not None:
        _emulate(out, files, emulate, source, allow_unsigned)
        return
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


def _emulate(out: Output, files: tuple[str, ...], core: str, source: str | None, allow_unsigned: bool) -> None:
    from edgec.measure.emulated import emulated

    with out.progress(f"running on an emulated {core}") as step:
        model, found = emulated(files, core, source=source, allow_unsigned=allow_unsigned, progress=step)
    rows = [
        [
            f.name,
            f"{f.call.instructions / 1e6:.3f}" if f.call else "–",
            f"{(f.call.loads + f.call.stores) / 1e6:.3f}" if f.call else "–",
            f"{f.load.instructions / 1e6:.0f}" if f.load else "–",
            f.kernels or f.refused,
        ]
        for f in found
    ]
    out.table(
        f"{model.title}, emulated: millions of instructions, not time",
        ["candidate", "a call", "loads, stores", "import and load", "kernels"],
        rows,
    )
    out.result({"core": model.name, "candidates": [f.as_dict() for f in found]})
    out.next(f"edgec inspect {files[0]}")
