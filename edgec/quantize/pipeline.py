"""Float model and data in, int8 model out: calibrate, assign, place, correct, in that order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import onnx_ir as ir

from edgec.data import Dataset
from edgec.data.metrics import reported_db
from edgec.errors import UnsupportedError, UsageError
from edgec.progress import Progress, silent
from edgec.quantize import layers
from edgec.quantize.assign import assign
from edgec.quantize.calibrate import calibrate, calibrate_many
from edgec.quantize.compact import compact
from edgec.quantize.corrections.equalize.choose import equalize_where_better
from edgec.quantize.corrections.expected import Expected, take
from edgec.quantize.corrections.smooth import Outcome, smooth_where_better
from edgec.quantize.corrections.spare import Spared, by_bytes, folds, spare, stretches
from edgec.quantize.corrections.stages import Corrected, Stage, correct
from edgec.quantize.placement import rules
from edgec.quantize.placement.insert import insert
from edgec.quantize.placement.plan import plan
from edgec.quantize.placement.worth import Worth, worthwhile
from edgec.quantize.ranges import Ranges
from edgec.quantize.report import affordable_sqnr, integer_layers, layer_table
from edgec.quantize.scheme import Assignment, Scheme
from edgec.request import Method

Effort = Literal["plain", "default"]
# Ranges that `--effort default` tries besides those of the method asked for.
ALTERNATIVES: tuple[Method, ...] = ("histogram", "mse", "output")
# By how much layers that stay float for the answers' sake may enlarge the weights, where integers pay by size alone.
MOST_BYTES = 1.0


def quantize(model: ir.Model, ranges: Ranges, assignment: Assignment, *, placement: str = "onnxruntime") -> ir.Model:
    """A new model with Q/DQ where the engine fuses them, integer weights and biases. Deterministic.

    Args:
        model: float model (opset ≥ 13); not changed.
        ranges: from `calibrate`; nodes that need a range that is not there stay float.
        assignment: from `assign`.
        placement: whose fusion rules decide.

    Raises:
        UnsupportedError: the opset is too old.
        MissingError: no placement rules of that name.
    """
    engine = rules(placement)
    copy, assignment = model.clone(), dict(assignment)
    engine.prepare(copy, assignment)
    made = plan(copy, assignment, engine, ranges.__contains__)
    insert(copy, made, ranges, min_opset=engine.min_opset, float_bias=engine.float_bias)
    return copy


def ranges_needed(model: ir.Model, assignment: Assignment, *, placement: str = "onnxruntime") -> list[str]:
    """The values whose ranges `quantize` will ask for: `calibrate(…, values=…)` then looks at no others."""
    engine = rules(placement)
    copy, assignment = model.clone(), dict(assignment)
    engine.prepare(copy, assignment)
    return plan(copy, assignment, engine).ranges_needed


@dataclass(frozen=True)
class Quantized:
    """An int8 model and how it came about.

    Attributes:
        model: with Q/DQ.
        assignment: what was asked of each layer.
        ranges: what the calibration saw.
        correction: what the corrections did; None with effort "plain".
        worth: which layers stay float because integers would not be faster there.
        smoothing: which outliers moved into weights (`corrections/smooth.py`); None where it was not tried.
        spared: the stretch of layers that stays float for the answers' sake (`corrections/spare.py`); None where none
            was looked for.
        expected: likeness to the float model that unseen inputs are expected to show (`corrections/expected.py`).
        sqnr: of each value that both models have, dB: noise up to there.
        placement: whose fusion rules decided.
    """

    model: ir.Model
    assignment: Assignment
    ranges: Ranges
    correction: Corrected | None
    worth: Worth | None = None
    smoothing: Outcome | None = None
    spared: Spared | None = None
    expected: float | None = None
    sqnr: Mapping[str, float] = field(default_factory=dict)
    placement: str = "onnxruntime"

    def report(self, float_model: ir.Model) -> dict[str, Any]:
        """Plain data for report.json and `--json`."""
        integers = integer_layers(float_model, self.assignment, self.ranges, rules(self.placement))
        result: dict[str, Any] = {
            "method": self.ranges.method,
            "samples": self.ranges.samples,
            "data": self.ranges.data,
            "skipped": dict(self.ranges.skipped),
            "layers": layer_table(float_model, self.assignment, self.ranges, self.sqnr, integers),
        }
        if self.worth is not None:
            result["worth"] = {"pays": self.worth.pays, "left_in_float": list(self.worth.dropped)}
        if self.spared is not None:
            result["spared"] = self.spared.as_dict()
        if self.expected is not None:
            result["expected_likeness"] = round(self.expected, 5)
        if self.smoothing is not None and self.smoothing.kept:
            result["smoothing"] = [group.as_dict() for group in self.smoothing.smoothed.groups]
        if self.correction is not None and self.correction.stages:
            result["corrections"] = {
                "kept": self.correction.kept,
                "sqnr_db_before": reported_db(self.correction.before),
                "sqnr_db_after": reported_db(self.correction.after),
                "samples": self.correction.samples,
                "stages": [stage.as_dict() for stage in self.correction.stages],
            }
        return result


def nothing_to_quantize(model: ir.Model) -> UnsupportedError:
    """Why no layer can be quantized."""
    what = "no layer of the model can be quantized"
    nodes = list(model.graph.all_nodes())
    done = next((n for n in nodes if "QuantizeLinear" in n.op_type or "QLinear" in n.op_type), None)
    done = done or next((n for n in nodes if n.op_type.endswith("Integer")), None)
    if done is not None:
        why = f"it is quantized already: {done.op_type} makes '{done.outputs[0].name}'"
        return UnsupportedError(what, why, "compile it as it is, with --precision float32", code="E413")
    why = "there is no convolution, Gemm or MatMul with constant float32 weights that is not excluded"
    if any(layers.weight_of(node) is not None for node in model.graph):
        why = (
            "its layers are excluded, inside If or Loop, or feed an operator of a range too wide for eight bits (Exp …)"
        )
    return UnsupportedError(what, why, "leave the model in float", code="E412")


def quantize_with_data(
    model: ir.Model,
    data: Dataset,
    *,
    method: Method = "minmax",
    exclude: Collection[str] = (),
    scheme: Scheme | None = None,
    effort: Effort = "default",
    placement: str = "onnxruntime",
    arch: str = "x86_64",
    worth: Worth | None = None,
    progress: Progress = silent,
) -> Quantized:
    """The whole way from a float model and calibration data to an int8 model.

    Args:
        model: float model (opset ≥ 13), best after the passes; not changed.
        data: calibration feeds.
        method: how ranges are taken, see `calibrate`; effort "default" tries others as well.
        exclude: names or operator types of nodes that stay float.
        scheme: number formats of the others; None: the engine's own.
        effort: "plain": ranges alone. "default": other ranges, layer-wise reconstruction and bias
            correction as well, each kept where held-out samples gain.
        placement: whose fusion rules decide.
        arch: the architecture whose kernels decide which layers stay float for speed; one that is not known: none do.
        worth: which layers stay float for speed, where that was decided already; `arch` decides nothing then.
        progress: `with progress(stage, total) as advance` for each long stage.

    Raises:
        UsageError: an exclusion matches nothing, or the engine doesn't run the scheme.
        BadInputError: the data can't be used.
        UnsupportedError: nothing in the model can be quantized, or its opset is under 13.
    """
    engine = rules(placement)
    scheme = scheme or engine.scheme
    if engine.symmetric and not (scheme.symmetric_activation and scheme.activation == "int8"):
        raise UsageError(
            f"{engine.engine} runs symmetric int8 activations only",
            "other zero points than 0 are refused by its parser",
            "leave the scheme out",
            code="E214",
        )
    from edgec_targets.emitters.onnxruntime import opset

    model = opset.lower(model, opset.candidates(model)[0])  # ONNX Runtime has no Q/DQ of the newest opsets

    def finished(made: ir.Model) -> ir.Model:
        return made if engine.symmetric else compact(made, exclude)  # TensorRT looks nothing up in integers

    given, model = model, model if effort == "plain" else engine.equivalent(model)
    assignment = assign(model, scheme=scheme, exclude=exclude)
    needed = ranges_needed(model, assignment, placement=placement)
    if not needed:
        raise nothing_to_quantize(model)
    worth = worthwhile(model, assignment, engine, arch) if worth is None else worth.of(assignment)
    assignment = worth.assignment
    needed = ranges_needed(model, assignment, placement=placement) if worth.dropped else needed
    with progress("calibrating", data.count) as advance:
        ranges = calibrate(model, data, method=method, values=needed, progress=lambda done, total: advance(1))
    quantized = quantize(model, ranges, assignment, placement=placement)
    if effort == "plain":
        return Quantized(finished(quantized), assignment, ranges, None, worth, placement=placement)

    def again(smoothed: ir.Model) -> ir.Model:
        wanted = ranges_needed(smoothed, assignment, placement=placement)
        return quantize(
            smoothed, calibrate(smoothed, data, method=method, values=wanted), assignment, placement=placement
        )

    samples = take(data)
    expected, spared = Expected(model, samples), None
    if not worth.pays:  # a smaller file is what integers are for: layers that hold little of it may stay float

        def by(part: Dataset) -> Callable[[Collection[str]], ir.Model]:
            found = calibrate(model, part, method=method, values=needed)
            return lambda floats: quantize(model, found, {**assignment, **dict.fromkeys(floats)}, placement=placement)

        offered = [s for s in stretches(model, assignment, by_bytes(model)) if s.cost <= MOST_BYTES]
        parts = folds(samples, data.inputs) if offered else []
        spared = spare(expected, offered, [by(part) for part in parts], progress=progress)
        if spared.stretch is not None:
            assignment = {**assignment, **dict.fromkeys(spared.stretch.floats)}
            needed = ranges_needed(model, assignment, placement=placement)
            ranges = calibrate(model, data, method=method, values=needed)
            quantized = quantize(model, ranges, assignment, placement=placement)
    smoothing = smooth_where_better(model, quantized, data, assignment, again, progress=progress)
    if smoothing.kept:
        model = smoothing.smoothed.model
        needed = ranges_needed(model, assignment, placement=placement)
        ranges = calibrate(model, data, method=method, values=needed)
        quantized = quantize(model, ranges, assignment, placement=placement)
    equalizing = equalize_where_better(model, quantized, data, again, progress=progress)
    if equalizing.kept and equalizing.equalized is not None:
        model, quantized = equalizing.equalized.model, equalizing.quantized
        needed = ranges_needed(model, assignment, placement=placement)
        ranges = calibrate(model, data, method=method, values=needed)
    with progress("calibrating ranges", data.count) as advance:
        others = calibrate_many(
            model,
            data,
            [m for m in ALTERNATIVES if m != method],
            values=needed,
            progress=lambda done, total: advance(1),
        )
    variants: dict[str, ir.Model] = {method: quantized}
    variants |= {str(name): quantize(model, found, assignment, placement=placement) for name, found in others.items()}
    correction = correct(model, variants, data, progress=progress)
    if equalizing.equalized is not None:
        name = f"equalization ({equalizing.equalized.by})"
        stage = Stage(name, equalizing.kept, equalizing.before, equalizing.after)
        correction = replace(correction, stages=(stage, *correction.stages), before=equalizing.before)
    if smoothing.smoothed.groups:
        stage = Stage("smoothing", smoothing.kept, smoothing.before, smoothing.after)
        correction = replace(correction, stages=(stage, *correction.stages), before=smoothing.before)
    seen = next(iter(others.values())).bars if others else {}
    ranges = replace(others.get(correction.variant, ranges), bars=seen)  # type: ignore[call-overload]
    if not correction.kept and model is not given:  # the equivalent form counts on the correction
        return quantize_with_data(
            given, data, method=method, exclude=exclude, scheme=scheme, effort="plain", placement=placement, arch=arch,
            worth=worth,
        )  # fmt: skip
    made = finished(correction.model)
    # Samples that were fitted on show less noise than others will.
    likely = expected(made, noise_of=slice(3, None, 4))
    noise = affordable_sqnr(model, made, Dataset.of(samples, data.inputs))
    return Quantized(made, assignment, ranges, correction, worth, smoothing, spared, likely, noise, placement)
