"""`edgec quantize`: a float model and calibration data in, a plain int8 QDQ ONNX file out."""

from __future__ import annotations

import platform
from typing import Any

import click

from edgec.cli.common import Output, options, shape_option, size
from edgec.request import METHODS


@click.command("quantize")
@click.argument("model")
@click.option("--calib", required=True, metavar="DATA", help="Real inputs: .npz, a folder of .npz, file.py:function.")
@click.option("-o", "output", required=True, metavar="FILE", help="Write the int8 model here.")
@click.option("--exclude", multiple=True, metavar="NAME", help="A node or operator type that stays float (repeatable).")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="minmax",
    show_default=True,
    help="How ranges are taken.",
)
@click.option(
    "--effort",
    type=click.Choice(["plain", "default"]),
    default="default",
    show_default=True,
    help="plain: ranges alone; default: corrections as well.",
)
@click.option(
    "--placement",
    type=click.Choice(["onnxruntime", "tensorrt"]),
    default="onnxruntime",
    show_default=True,
    help="Whose rules say where integers go; tensorrt: symmetric int8, float biases.",
)
@click.option(
    "--arch",
    default=platform.machine,
    show_default="this machine's",
    help="CPU whose kernels decide which layers stay float for speed (x86_64 is known; others: none).",
)
@click.option(
    "--weight-bits",
    type=click.Choice(["8", "7"]),
    default="8",
    show_default=True,
    help="7: the same answers on x86 CPUs without VNNI, which saturate 8.",
)
@shape_option
@options
def command(
    out: Output,
    model: str,
    calib: str,
    output: str,
    exclude: tuple[str, ...],
    method: Any,
    effort: Any,
    placement: str,
    arch: str,
    weight_bits: str,
    shape: Any,
) -> None:
    """Write MODEL as int8 ONNX with QuantizeLinear and DequantizeLinear, for use anywhere."""
    from dataclasses import replace
    from pathlib import Path

    from edgec import data, frontends, passes, quantize
    from edgec.bundle.atomic import replacing
    from edgec.quantize.placement import rules

    imported = frontends.load(model, shapes=shape)
    inputs = [v for v in imported.model.graph.inputs if v.name not in imported.model.graph.initializers]
    dataset = data.load_calibration(calib, inputs)
    passes.run(imported.model)
    made = quantize.quantize_with_data(
        imported.model,
        dataset,
        method=method,
        exclude=exclude,
        scheme=replace(rules(placement).scheme, weight_bits=int(weight_bits)),
        effort=effort,
        placement=placement,
        arch=arch,
        progress=out.progress,
    )
    content = frontends.save_bytes(made.model)
    with replacing(Path(output)) as (file, _):
        file.write(content)
    integer = sum(1 for scheme in made.assignment.values() if scheme is not None)
    out.line(f"{output}: {size(len(content))}, was {size(imported.size)}")
    out.line(
        f"  {integer} of {len(made.assignment)} quantizable nodes may run in int8, over {made.ranges.samples} samples"
    )
    worth = made.worth
    if worth is not None and worth.dropped:
        out.line(f"  {len(worth.dropped)} stay float: {placement} runs them faster so on {arch}")
    elif worth is not None and not worth.pays:
        out.line(f"  int8 makes this model smaller, not faster: {placement}'s float kernels win on {arch}")
    correction = made.correction
    for stage in () if correction is None else correction.stages:
        verdict = "kept" if stage.kept else "dropped, it did not help"
        out.line(f"  {stage.name}: {stage.before:.1f} → {stage.after:.1f} dB on held-out samples, {verdict}")
    out.result({"file": output, "bytes": len(content), "source_bytes": imported.size, **made.report(imported.model)})
    out.next(f"edgec inspect {output}")
