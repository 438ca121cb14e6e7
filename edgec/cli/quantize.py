"""`edgec quantize`: a float model in, a plain ONNX file out: int8 with Q/DQ from data, or in another precision."""

from __future__ import annotations

import platform
from typing import Any

import click

from edgec.cli.common import Output, options, shape_option, size
from edgec.cli.quantizing import how, refuse, refuse_for_form, refuse_search_alone
from edgec.request import FORMS


@click.command("quantize")
@click.argument("model")
@click.option("--calib", metavar="DATA", help="Real inputs: .npz, a folder of .npz, file.py:function.")
@click.option("-o", "output", required=True, metavar="FILE", help="Write the model here.")
@click.option(
    "--precision",
    type=click.Choice(["int8", *FORMS]),
    default="int8",
    show_default=True,
    metavar="NAME",
    help=f"One of int8, {', '.join(FORMS)}; int8 and int16x8 need --calib.",
)
@click.option(
    "--max-drop", metavar="DROP", help="With search, what may be lost of the likeness to float: 0.5%, 0.5pt or 0.005."
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Size of the file, with int8-weights and int4-weights: each weight gets its own number of bits.",
)
@how
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
    calib: str | None,
    output: str,
    precision: Any,
    max_bytes: int | None,
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
    """Write MODEL in another precision as plain ONNX, for use anywhere: int8 with QuantizeLinear, unless told."""
    from dataclasses import replace

    from edgec import data, frontends, passes, quantize
    from edgec.errors import UsageError
    from edgec.quantize import forms
    from edgec.quantize.placement import rules

    ctx = click.get_current_context()
    refuse_ignored(ctx)
    if precision == "int8" and calib is None:
        raise UsageError(
            "int8 needs calibration data",
            "Ranges of the activations are taken from real inputs.",
            f"Add --calib DATA (a few dozen inputs), or take one of {', '.join(sorted(set(FORMS) - forms.NEED_DATA))}.",
            code="E213",
        )
    imported = frontends.load(model, shapes=shape)
    inputs = [v for v in imported.model.graph.inputs if v.name not in imported.model.graph.initializers]
    dataset = data.load_calibration(calib, inputs) if calib is not None else None
    passes.run(imported.model)
    if precision in FORMS:
        wish = forms.Wish(dataset, exclude, method, effort, arch, narrow=weight_bits == "7", max_bytes=max_bytes)
        formed = forms.make(precision, imported.model, wish, out.progress)
        written = write(out, output, formed.model, imported.size)
        out.result({"file": output, "bytes": written, "source_bytes": imported.size, **formed.report})
        out.next(f"edgec inspect {output}")
        return
    assert dataset is not None
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
    written = write(out, output, made.model, imported.size)
    tell(out, made, placement, arch)
    out.result(
        {"file": output, "bytes": written, "source_bytes": imported.size, **made.report(imported.model), **report}
    )
    out.next(f"edgec inspect {output}")


def write(out: Output, output: str, model: Any, was: int) -> int:
    """Write the model's file, whole or not at all, and say its size in bytes."""
    from pathlib import Path

    from edgec import frontends
    from edgec.bundle.atomic import replacing

    content = frontends.save_bytes(model)
    with replacing(Path(output)) as (file, _):
        file.write(content)
    out.line(f"{output}: {size(len(content))}, was {size(was)}")
    return len(content)


def tell(out: Output, made: Any, placement: str, arch: str) -> None:
    """What became of the layers, and which corrections were kept."""
    integer = sum(1 for scheme in made.assignment.values() if scheme is not None)
    out.line(
        f"  {integer} of {len(made.assignment)} quantizable nodes may run in int8, over {made.ranges.samples} samples"
    )
    worth = made.worth
    if worth is not None and worth.dropped:
        out.line(f"  {len(worth.dropped)} stay float: {placement} runs them faster so on {arch}")
    elif worth is not None and not worth.pays:
        out.line(f"  int8 makes this model smaller, not faster: {placement}'s float kernels win on {arch}")
    spared = made.spared
    if spared is not None and spared.stretch is not None:
        likely = f"expected likeness {spared.before or 0:.1%} → {spared.after or 0:.1%}"
        out.line(f"  {spared.stretch.name} stay float for the answers' sake: {likely}")
    correction = made.correction
    for stage in () if correction is None else correction.stages:
        verdict = "kept" if stage.kept else "dropped, it did not help"
        out.line(f"  {stage.name}: {stage.before:.1f} → {stage.after:.1f} dB on held-out samples, {verdict}")


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
    refuse_search_alone(ctx, "max_drop", "executor")
    precision = ctx.params["precision"]
    if precision not in ("int8-weights", "int4-weights"):
        refuse(ctx, ["max_bytes"], "It is about weights alone.", "Add --precision int8-weights or int4-weights.")
    if precision == "int8":
        return
    refuse_for_form(ctx, precision, has_data=ctx.params["calib"] is not None)
    refuse(ctx, ["placement"], "It is about int8.", "Leave it out.")
    if precision != "int8-dynamic":
        refuse(ctx, ["weight_bits", "arch"], "It is about int8 arithmetic.", "Leave it out.")
