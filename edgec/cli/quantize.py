"""`edgec quantize`: a float model and calibration data in, a plain int8 QDQ ONNX file out."""

from __future__ import annotations

from typing import Any

import click

from edgec.cli.common import Output, options, shape_option, size


@click.command("quantize")
@click.argument("model")
@click.option("--calib", required=True, metavar="DATA", help="Real inputs: .npz, a folder of .npz, file.py:function.")
@click.option("-o", "output", required=True, metavar="FILE", help="Write the int8 model here.")
@click.option("--exclude", multiple=True, metavar="NAME", help="A node or operator type that stays float (repeatable).")
@click.option(
    "--method",
    type=click.Choice(["minmax", "histogram"]),
    default="minmax",
    show_default=True,
    help="How ranges are taken.",
)
@click.option(
    "--effort",
    type=click.Choice(["plain", "default"]),
    default="default",
    show_default=True,
    help="plain: ranges alone; default: bias correction as well.",
)
@shape_option
@options
def command(
    out: Output, model: str, calib: str, output: str, exclude: tuple[str, ...], method: Any, effort: Any, shape: Any
) -> None:
    """Write MODEL as int8 ONNX with QuantizeLinear and DequantizeLinear, for use anywhere."""
    from pathlib import Path

    from edgec import data, frontends, passes, quantize
    from edgec.bundle.atomic import replacing

    imported = frontends.load(model, shapes=shape)
    inputs = [v for v in imported.model.graph.inputs if v.name not in imported.model.graph.initializers]
    dataset = data.load_calibration(calib, inputs)
    passes.run(imported.model)
    made = quantize.quantize_with_data(
        imported.model, dataset, method=method, exclude=exclude, effort=effort, progress=out.progress
    )
    content = frontends.save_bytes(made.model)
    with replacing(Path(output)) as (file, _):
        file.write(content)
    integer = sum(1 for scheme in made.assignment.values() if scheme is not None)
    out.line(f"{output}: {size(len(content))}, was {size(imported.size)}")
    out.line(
        f"  {integer} of {len(made.assignment)} quantizable nodes may run in int8, over {made.ranges.samples} samples"
    )
    correction = made.correction
    if correction is not None and correction.shifts:
        verdict = "kept" if correction.kept else "dropped, it did not help"
        out.line(
            f"  bias correction: {correction.before:.1f} → {correction.after:.1f} dB on held-out samples, {verdict}"
        )
    out.result({"file": output, "bytes": len(content), "source_bytes": imported.size, **made.report(imported.model)})
    out.next(f"edgec inspect {output}")
