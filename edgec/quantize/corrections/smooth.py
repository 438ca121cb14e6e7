"""SmoothQuant: outliers of activations moved into the weights that read them, as a float model that computes the same.

Transformers have channels of activations that are ten and more times as wide as the others; with one scale for all,
those get nearly all of the 256 steps. X W = (X / s)(s W) lets each channel use the range, and the weights, which have
a scale a column and hardly an outlier, pay for it (Xiao et al. 2022, arXiv:2211.10438).

1. Where all that reads X are layers to be quantized, 1/s goes into what makes X (`absorb.py`): the scale and bias of a
   LayerNormalization, the columns of the product before (through attention as well).
2. Else, for post-norm residuals and behind GELU, into a Mul before the layers: it costs its time, so only where it
   gains, and not behind convolutions, whose results would have stayed integer.

The search for s is in `smooth_search.py`; `smooth_where_better` keeps the result only where held-out samples gain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.data.metrics import ratio_db, reported_db
from edgec.progress import Progress, silent
from edgec.quantize import layers
from edgec.quantize.corrections.absorb import absorb, apply
from edgec.quantize.corrections.judge import Feed, Judge, Verdict, noise, split
from edgec.quantize.corrections.smooth_search import Choice, Sample, choose
from edgec.quantize.scheme import Assignment
from edgec.quantize.session import Session, expose
from edgec.quantize.weights.edit import Editor

# Samples that are looked at, rows of each value that are kept in all, and what all rows may take together.
SAMPLES, ROWS, MEMORY = 128, 512, 64 * 2**20
# Layers of fewer channels have no outliers worth an operator.
FEWEST_CHANNELS = 16
# What a group must gain (dB of its layers' results), absorbed or by a Mul of its own; what is above ENOUGH stays.
GAIN_FREE, GAIN_MUL, ENOUGH = 0.2, 1.5, 45.0
# The float model must stay the same to so many dB (float32 rounding alone is at 100 to 130).
SAME = 70.0
CHECKED = 4
_CONVOLUTIONAL = layers.POOLS | {"Concat", "Conv", "ConvTranspose", "LeakyRelu"}


@dataclass(frozen=True)
class Group:
    """Layers that read one value, and what was moved from it into them.

    Attributes:
        value: its name.
        layers: their names.
        choice: the factors.
        absorbed: whether its producers took them; else a Mul divides.
    """

    value: str
    layers: tuple[str, ...]
    choice: Choice
    absorbed: bool

    def as_dict(self) -> dict[str, Any]:
        """For the report and `--json`."""
        return {
            "value": self.value,
            "layers": list(self.layers),
            "alpha": self.choice.alpha,
            "absorbed": self.absorbed,
            "sqnr_db_before": reported_db(self.choice.before),
            "sqnr_db_after": reported_db(self.choice.after),
        }


@dataclass(frozen=True)
class Smoothed:
    """A float model that computes the same and quantizes better.

    Attributes:
        model: the given one where there are no groups.
        groups: what was moved, in graph order.
    """

    model: ir.Model
    groups: tuple[Group, ...]


def smooth(model: ir.Model, feeds: Sequence[Feed], assignment: Assignment, *, progress: Progress = silent) -> Smoothed:
    """Move outliers of activations into the weights of MatMul and Gemm layers that are to be quantized.

    Values that a layer that stays float reads too keep what they are; weights that something else reads as well
    (tied embeddings) are left alone. Names of nodes and values stay.

    Args:
        model: float model with shapes; not changed.
        feeds: calibration samples.
        assignment: layer name → scheme; those with None are not touched.
        progress: `with progress(stage, total) as advance`.
    """
    copy = model.clone()
    found = _candidates(copy, assignment)
    if not found or not feeds:
        return Smoothed(model, ())
    with progress("smoothing", None) as advance:
        samples = _observe(model, feeds, [str(v.name) for v in found])
        editor, groups = Editor(copy.graph), []
        names = layers.layer_names(copy)
        for value, nodes in found.items():
            schemes = {assignment[names[node]] for node in nodes}
            scheme = next(iter(schemes))
            sample = samples.get(str(value.name))
            if scheme is None or len(schemes) > 1 or sample is None or len(sample.low) != _features(nodes[0]):
                continue
            weight = np.concatenate([_matrix(node) for node in nodes], 1)
            choice = choose(sample, weight, scheme)
            advance(1)
            if choice is None or choice.before > ENOUGH or choice.after - choice.before < GAIN_FREE:
                continue
            name = str(value.name)  # it gets another where its producers take the factors
            absorbed = _move(editor, value, nodes, choice)
            if absorbed is not None:
                groups.append(Group(name, tuple(names[n] for n in nodes), choice, absorbed))
    if not groups or _similarity(model, copy, feeds[:CHECKED]) < SAME:
        return Smoothed(model, ())
    return Smoothed(copy, tuple(groups))


@dataclass(frozen=True)
class Outcome:
    """Whether smoothing stays.

    Attributes:
        kept: whether held-out samples gained.
        smoothed: what was moved.
        before: SQNR on them without it, dB; NaN where nothing was tried.
        after: with it.
    """

    kept: bool
    smoothed: Smoothed
    before: float
    after: float


def smooth_where_better(
    model: ir.Model,
    quantized: ir.Model,
    data: Dataset,
    assignment: Assignment,
    requantize: Callable[[ir.Model], ir.Model],
    *,
    progress: Progress = silent,
) -> Outcome:
    """Smooth, quantize again, and say whether held-out samples gain (every fourth is held out).

    Args:
        model: the float model.
        quantized: made of it without smoothing.
        data: calibration feeds.
        assignment: layer name → scheme.
        requantize: makes of a smoothed float model what `quantized` is of the float model.
        progress: `with progress(stage, total) as advance`.
    """
    nothing = Outcome(False, Smoothed(model, ()), float("nan"), float("nan"))
    if not _candidates(model, assignment):
        return nothing
    used, kept_back = split(data, SAMPLES, 32)
    if not kept_back:
        return nothing
    smoothed = smooth(model, used, assignment, progress=progress)
    if not smoothed.groups:
        return nothing
    judge = Judge(model, kept_back)
    before: Verdict = judge(quantized)
    after: Verdict = judge(requantize(smoothed.model))
    return Outcome(after.beats(before), smoothed, before.sqnr, after.sqnr)


def _candidates(model: ir.Model, assignment: Assignment) -> dict[ir.Value, list[ir.Node]]:
    """Values with layers that read them and could take factors, in graph order."""
    names = layers.layer_names(model)
    found: dict[ir.Value, list[ir.Node]] = {}
    for node in model.graph:
        weight, value = layers.weight_of(node), node.inputs[0] if node.inputs else None
        if node.op_type not in ("MatMul", "Gemm") or weight is None or value is None or not value.name:
            continue
        if names.get(node) is None or assignment.get(names[node]) is None or value.is_graph_input():
            continue
        tensor, flipped = layers.constant_tensor(weight), node.attributes.get("transA")
        if tensor is None or len(tensor.shape) != 2 or (flipped is not None and flipped.as_int()):
            continue
        if len(weight.uses()) != 1 or layers.constant_tensor(value) is not None or value.name == "":
            continue
        if _features(node) >= FEWEST_CHANNELS:
            found.setdefault(value, []).append(node)
    return found


def _transposed(node: ir.Node) -> bool:
    attribute = node.attributes.get("transB")
    return node.op_type == "Gemm" and attribute is not None and attribute.as_int() != 0


def _features(node: ir.Node) -> int:
    tensor = layers.constant_tensor(node.inputs[1])
    assert tensor is not None
    return int(tensor.shape[1 if _transposed(node) else 0])  # type: ignore[arg-type]


def _matrix(node: ir.Node) -> np.ndarray:
    """The weight as float32 (features, results)."""
    weight = layers.constant(node.inputs[1])
    assert weight is not None
    return weight.T if _transposed(node) else weight


def _observe(model: ir.Model, feeds: Sequence[Feed], names: Sequence[str]) -> dict[str, Sample]:
    """Extremes of each channel over all feeds, and some rows, evenly from all of them."""
    session = Session(expose(model, names))
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    count: int | None = None
    rng = np.random.default_rng(0)
    for feed in feeds:
        arrays = session.run(feed)
        if count is None:
            width = 4 * sum(a.shape[-1] for a in arrays if a.ndim)
            count = max(1, min(ROWS, MEMORY // max(width, 1)) // len(feeds))
        for name, array in zip(names, arrays, strict=True):
            matrix = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
            if not len(matrix):
                continue
            bottom, top = matrix.min(0), matrix.max(0)
            low[name] = np.minimum(low[name], bottom) if name in low else bottom
            high[name] = np.maximum(high[name], top) if name in high else top
            picked = np.sort(rng.choice(len(matrix), min(count, len(matrix)), replace=False))
            rows[name].append(matrix[picked].astype(np.float32))
    return {name: Sample(low[name], high[name], np.concatenate(rows[name])) for name in low}


def _move(editor: Editor, value: ir.Value, nodes: Sequence[ir.Node], choice: Choice) -> bool | None:
    """Divide the value, multiply the weights; True where its producers took it, None where it isn't worth a Mul."""
    edits = absorb(value, 1 / choice.scale.astype(np.float64), len(nodes))
    if edits is None and (choice.after - choice.before < GAIN_MUL or _from_convolutions(value)):
        return None
    if edits is not None:
        apply(editor, edits)
    else:
        inverse = editor.constant(f"{value.name}_smooth", (1 / choice.scale.astype(np.float64)).astype(np.float32))
        divided = editor.node("Mul", [value, inverse], f"{value.name}_smoothed", kind=ir.DataType.FLOAT)
        divided.outputs[0].shape = value.shape
        editor.graph.insert_before(nodes[0], divided)
        for node in nodes:
            node.replace_input_with(0, divided.outputs[0])
    for node in nodes:
        weight = node.inputs[1]
        assert weight is not None
        scaled = np.ascontiguousarray(_matrix(node) * choice.scale[:, None])
        array = np.ascontiguousarray(scaled.T) if _transposed(node) else scaled
        node.replace_input_with(1, editor.constant(f"{weight.name}_smooth", array))
        editor.drop(weight)
    return edits is not None


def _from_convolutions(value: ir.Value) -> bool:
    """Whether it comes from layers whose results stay integer up to here: a float Mul would stand in the way."""
    while (node := value.producer()) is not None:
        if node.op_type in _CONVOLUTIONAL:
            return True
        source = node.inputs[0] if node.inputs else None
        if node.op_type not in layers.SAME_VALUES | layers.ACTIVATIONS or source is None:
            return False
        value = source
    return False


def _similarity(model: ir.Model, smoothed: ir.Model, feeds: Sequence[Feed]) -> float:
    """SQNR of the smoothed float model's outputs, dB."""
    signal, error = noise(model, [smoothed], list(feeds)).sum(0)
    return ratio_db(float(signal), float(error))
