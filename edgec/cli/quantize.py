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
    type=click.Choice(["plain", "default", "search"]),
    default="default",
    show_default=True,
    help="plain: ranges alone; default: corrections as well; search: the fastest mixture within --max-drop.",
)
@click.option(
    "--max-drop", metavar="DROP", help="With search, what may be lost of the likeness to float: 0.5%, 0.5pt or 0.005."
)
@click.option(
    "--executor",
    default="local",
    show_default=True,
    metavar="WHERE",
    help="Where a search's trials run: local, local:N (processes) or dask://HOST:PORT.",
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
    max_drop: str | None,
    executor: str,
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

    refuse_ignored(click.get_current_context())
    imported = frontends.load(model, shapes=shape)
    inputs = [v for v in imported.model.graph.inputs if v.name not in imported.model.graph.initializers]
    dataset = data.load_calibration(calib, inputs)
    passes.run(imported.model)
    common: dict[str, Any] = {
        "method": method, "exclude": exclude, "placement": placement, "arch": arch, "progress": out.progress,
        "scheme": replace(rules(placement).scheme, weight_bits=int(weight_bits)),
    }  # fmt: skip
    report: dict[str, Any] = {}
    if effort == "search":
        found = searched(imported.model, dataset, max_drop, executor, out, common)
        assert found.quantized is not None
        made, report = found.quantized, {"search": {"int8": found.report}}
    else:
        made = quantize.quantize_with_data(imported.model, dataset, effort=effort, **common)
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
    out.result(
        {"file": output, "bytes": len(content), "source_bytes": imported.size, **made.report(imported.model), **report}
    )
    out.next(f"edgec inspect {output}")


def searched(model: Any, dataset: Any, max_drop: str | None, executor: str, out: Output, common: dict[str, Any]) -> Any:
    """Search within the budget of likeness to the float model; the points that were measured are shown.

    Raises BudgetError (exit 3) where no assignment keeps it.
    """
    import platform

    from edgec.data import Budget
    from edgec.decide import DEFAULT_DROP
    from edgec.executors import workers
    from edgec.quantize import search
    from edgec.stages.quantize import missed

    store = search.Store(search.default_path(), tell=lambda text: out.line(f"  {text}"))
    timed = common["placement"] == "onnxruntime" and common["arch"] == platform.machine()
    try:
        with workers(executor) as crew:
            found = search.search(
                model, dataset, budget=Budget.parse(max_drop or DEFAULT_DROP), workers=crew, store=store, timed=timed,
                **common,
            )  # fmt: skip
    finally:
        store.close()
    if found.quantized is None:
        raise missed(found.report, found.why_not)
    rows = []
    for number, point in enumerate(found.report["points"]):
        speed = "–" if point["speed"] is None else f"{point['speed']:.2f}"
        mark = "chosen" if number == found.report["chosen"] else "" if point["within_budget"] else "over the budget"
        rows.append([len(point["float_layers"]), f"{point['value']:.4f}", speed, size(point["bytes"]), mark])
    out.table("", ["layers in float", str(found.report["metric"]), "× float's speed", "size", ""], rows)
    return found


def refuse_ignored(ctx: click.Context) -> None:
    """Raise UsageError for a flag that was given and would do nothing."""
    from click.core import ParameterSource

    from edgec.errors import UsageError

    for name in ("max_drop", "executor"):
        if ctx.params["effort"] != "search" and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                f"--{name.replace('_', '-')} would be ignored",
                "It is about --effort search.",
                "Add --effort search, or leave the flag out.",
                code="E212",
            )
