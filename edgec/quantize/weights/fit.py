"""Layer by layer, integers for each weight, given what really reaches it where the weights before it are integers.

The float model and the one with rounded weights walk in step (`corrections.lockstep.Cuts`): sums of products of a
layer's input and of the float model's result are all that is kept of the samples. `gptq` does the rest.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.corrections.least_squares import Moments, solve
from edgec.quantize.corrections.lockstep import Cuts, Feed
from edgec.quantize.corrections.patches import geometry, rows
from edgec.quantize.weights.gptq import refit_scales, round_in_turn
from edgec.quantize.weights.groups import Format, Grouped, quantize
from edgec.quantize.weights.scales import best
from edgec.quantize.weights.targets import Target

# Positions that the sums of a layer are taken over, in all samples together: at least, and per feature.
POSITIONS, PER_FEATURE = 8192, 12
# Wider layers are rounded to nearest: the solution costs features³, the sums 8 · features² bytes.
MOST_FEATURES = 4608
# Positions added to the sums at once: adding features² numbers for each of many short samples would take longest.
TOGETHER = 1024
# What the live values of both models may take between two layers, over all samples.
MEMORY = 384 * 2**20


def fit(
    model: ir.Model,
    copy: ir.Model,
    targets: Sequence[Target],
    formats: Mapping[str, Format],
    feeds: Sequence[Feed],
    *,
    ridge: float | None = 1.0,
    progress: Callable[[int], None] = lambda n: None,
) -> dict[str, Grouped]:
    """Integers for the weights of `targets` that `fitted` accepts; the copy's weights become what they stand for.

    Args:
        model: the float model; not changed.
        copy: the same graph, its other weights already rounded; its weights are changed.
        targets: weights of the copy, in graph order.
        formats: by a weight's name.
        feeds: samples; as many as `MEMORY` allows are used.
        ridge: how much the weights are drawn to the float ones before they are rounded (see `solve`); None: they are
            the float ones, as in GPTQ itself, and what earlier layers did is not undone.
        progress: called with 1 for each layer.
    """
    chosen = [t for t in targets if fitted(t)]
    if not chosen or not feeds:
        return {}
    twins = {str(v.name): v for n in model.graph for v in n.outputs}
    ends = [twins[str(t.node.outputs[0].name)] for t in chosen], [_input(t.node) for t in chosen]
    feeds = feeds[: _affordable(((model, ends[0]), (copy, ends[1])), feeds[0])]
    expected, reached = [dict(f) for f in feeds], [dict(f) for f in feeds]
    masks = [padding(feed) for feed in feeds]
    theirs, ours = Cuts(model, ends[0]), Cuts(copy, ends[1])
    result: dict[str, Grouped] = {}
    try:
        for k, target in enumerate(chosen):
            results, inputs = theirs.advance(k, expected), ours.advance(k, reached)
            made = _layer(target, formats[target.name], inputs, results, masks, ridge)
            result[target.name] = made
            settle_on(target, made)
            progress(1)
    finally:
        theirs.close()
        ours.close()
    return result


def settle_on(target: Target, made: Grouped) -> None:
    """Put what the integers stand for in the place of the float weight, in its own dtype."""
    dtype = target.value.dtype or ir.DataType.FLOAT
    array = target.array(made.dequantized()).astype(dtype.numpy())
    target.value.const_value = ir.Tensor(array, name=target.name)


def fitted(target: Target) -> bool:
    """Whether a weight is of the kind that sums of products can tell about: of one Conv, Gemm or plain MatMul."""
    node = target.node
    if len(target.uses) != 1 or node.op_type not in ("Conv", "Gemm", "MatMul") or not node.outputs[0].name:
        return False
    if target.value.const_value is None or (node.op_type == "MatMul" and len(target.shape) != 2):
        return False
    source = node.inputs[0]
    return source is not None and layers.constant_tensor(source) is None and target.size[1] <= MOST_FEATURES


def padding(feed: Feed) -> np.ndarray | None:
    """Which positions of a sample count: the mask of a text model, whose padding would else be most of what is summed.

    An input called …mask… (not …pad…) of two axes that holds zeros and ones; None where there is none, or all count.
    """
    for name, array in feed.items():
        if "mask" in name.lower() and "pad" not in name.lower() and array.ndim == 2 and array.dtype.kind in "iub":
            flags = array.astype(bool)
            if np.array_equal(flags, array) and flags.any() and not flags.all():
                return flags
    return None


def _input(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _affordable(sides: Sequence[tuple[ir.Model, list[ir.Value]]], feed: Feed) -> int:
    """How many samples' live values fit into `MEMORY`; at least one."""
    sizes = np.zeros(len(sides[0][1]), np.int64)
    for model, ends in sides:
        cuts, state = Cuts(model, ends), [dict(feed)]
        for k in range(len(ends)):
            got = cuts.advance(k, state)
            sizes[k] += sum(a.nbytes for a in state[0].values()) + got[0].nbytes
        cuts.close()
    return max(1, MEMORY // max(int(sizes.max()), 1))


def _layer(
    target: Target,
    format: Format,
    inputs: list[np.ndarray],
    results: list[np.ndarray],
    masks: list[np.ndarray | None],
    ridge: float | None,
) -> Grouped:
    """The integers of one layer; a row that the method makes worse stays rounded to nearest."""
    weight = target.matrix()
    shape = geometry(target.node, target.shape, inputs[0].shape)
    start = weight.reshape(shape.groups, -1, weight.shape[1]).astype(np.float64)
    moments = Moments.empty(shape.groups, start.shape[2], start.shape[1], centre=False)
    count = -(-max(POSITIONS, PER_FEATURE * weight.shape[1]) // len(inputs))
    rng = np.random.default_rng(zlib.crc32(target.name.encode()))
    added, factor = _affine(target)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    for x, y, mask in zip(inputs, results, masks, strict=True):
        if mask is not None and not shape.kernel and x.shape[:2] == y.shape[:2] == mask.shape:
            x, y = x[mask], y[mask]
        x, y = x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)
        if added is not None:
            y = (y - added) / factor
        waiting.append(rows(x, y, shape, count, rng, target.node))
        if sum(part.shape[1] for part, _ in waiting) >= TOGETHER:
            _add(moments, waiting)
    _add(moments, waiting)
    if added is None:  # what else is in the result isn't known: the float weights' own product is the target
        moments.yx = start @ moments.xx
    wanted = start
    known = all(np.isfinite(a).all() for a in (moments.xx, moments.yx, moments.yy)) and moments.xx.any()
    if not known:
        return quantize(weight, *best(weight, format), format)
    if ridge is not None:
        wanted = _solved(moments, start, ridge)
    xx, yx, _ = moments.centred()
    parts = [_group(start[g], wanted[g], format, xx[g], yx[g]) for g in range(shape.groups)]
    return Grouped(format, *(np.concatenate([getattr(p, k) for p in parts]) for k in ("integers", "scale", "zero")))


def _add(moments: Moments, waiting: list[tuple[np.ndarray, np.ndarray]]) -> None:
    if waiting:
        moments.add(np.concatenate([x for x, _ in waiting], 1), np.concatenate([y for _, y in waiting]))
        waiting.clear()


def _affine(target: Target) -> tuple[np.ndarray | None, float]:
    """What a layer adds to its product, in a shape that broadcasts to the result (None: not known), and the factor."""
    node = target.node
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    array = np.zeros(1, np.float32) if bias is None else layers.constant(bias)
    alpha, beta = node.attributes.get("alpha"), node.attributes.get("beta")
    factor = 1.0 if alpha is None else alpha.as_float()
    if array is None or factor == 0:
        return None, 1.0
    array = array.astype(np.float32) * np.float32(1.0 if beta is None else beta.as_float())
    if node.op_type == "Conv" and bias is not None:
        array = array.reshape(-1, *[1] * (len(target.shape) - 2))
    return array, factor


def _solved(moments: Moments, start: np.ndarray, ridge: float) -> np.ndarray:
    try:
        made = solve(moments, start, ridge)
    except np.linalg.LinAlgError:  # moments over so many magnitudes that float64 can't hold them together
        return start
    return made if np.isfinite(made).all() else start


def _group(start: np.ndarray, wanted: np.ndarray, format: Format, xx: np.ndarray, yx: np.ndarray) -> Grouped:
    """One group of channels: to nearest, then GPTQ and its scales refitted, each row the best of the three."""
    importance = np.diagonal(xx)
    importance = importance / max(float(importance.mean()), 1e-30) + 0.01
    nearest = _rounded(start, format, importance)
    made = nearest
    try:
        weight = wanted.astype(np.float32)
        turned = round_in_turn(wanted, *best(weight, format, importance), format, xx)
        made = better(made, turned, xx, yx)
        made = better(made, refit_scales(made, xx, yx), xx, yx)
    except np.linalg.LinAlgError:
        return nearest
    return made


def _rounded(weight: np.ndarray, format: Format, importance: np.ndarray) -> Grouped:
    narrow = weight.astype(np.float32)
    return quantize(narrow, *best(narrow, format, importance), format)


def better(old: Grouped, new: Grouped, xx: np.ndarray, yx: np.ndarray) -> Grouped:
    """Row by row, the one whose result is nearer to the target."""
    gained = (_error(new, xx, yx) < _error(old, xx, yx))[:, None]
    choose = (np.where(gained, getattr(new, k), getattr(old, k)) for k in ("integers", "scale", "zero"))
    return Grouped(old.format, *choose)


def _error(made: Grouped, xx: np.ndarray, yx: np.ndarray) -> np.ndarray:
    """(rows,): squared error of each row's result, less what no weights could change."""
    weight = made.dequantized().astype(np.float64)
    result: np.ndarray = ((weight @ xx) * weight).sum(1) - 2 * (weight * yx).sum(1)
    return result
