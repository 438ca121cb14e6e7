"""Layer-wise reconstruction: each layer's weights solved again, given what really reaches it. See `least_squares`."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.corrections.bias import float_bias, shift_bias
from edgec.quantize.corrections.least_squares import Moments, round_in_turn, solve
from edgec.quantize.corrections.lockstep import Cuts, Feed, Layer, quantized_layers, walk
from edgec.quantize.corrections.patches import Geometry, geometry, rows

KINDS = frozenset({"Conv", "Gemm", "MatMul"})
# Positions of a layer's result that the sums are taken over, in all samples together: at least, and per feature.
POSITIONS, PER_FEATURE = 8192, 12
# Wider layers stay as they are: the solution costs features³, the sums 8·features² bytes.
MOST_FEATURES = 4608
# What the live values of both models may take between two layers, over all samples.
MEMORY = 256 * 2**20


def reconstruct(
    model: ir.Model,
    quantized: ir.Model,
    feeds: Sequence[Feed],
    *,
    ridge: float = 10.0,
    progress: Callable[[int, int | None], None] | None = None,
) -> ir.Model | None:
    """A copy whose layers give, from the integers that reach them, results as near as can be to the float model's.

    Each layer's integers and bias are replaced; shapes, scales and operators stay, so speed and size do too.

    Args:
        model: the float model; not changed.
        quantized: made of it; not changed.
        feeds: samples to fit on, as many as `MEMORY` allows are used.
        ridge: how much the weights are drawn to the float ones, see `solve`. A large one corrects only along the
            directions in which the layer's input varies most: with few samples that is all they can tell.
        progress: called with (layers done, layers).

    Returns:
        None where there is no layer to correct.
    """
    copy = quantized.clone()
    found = quantized_layers(model, copy, KINDS)
    if not found or not feeds:
        return None
    feeds = feeds[: affordable(model, copy, found, feeds[0])]
    for done, (layer, inputs, results) in enumerate(walk(model, copy, found, feeds), 1):
        _layer(copy, layer, inputs, results, ridge)
        inputs.clear()  # else this layer's values lived on while the next one's are made
        results.clear()
        if progress:
            progress(done, len(found))
    return copy


def affordable(model: ir.Model, quantized: ir.Model, found: Sequence[Layer], feed: Feed) -> int:
    """How many samples' live values fit into `MEMORY`; at least one."""
    sizes = np.zeros(len(found), np.int64)
    for graph, ends in ((quantized, [f.integers for f in found]), (model, [f.reference for f in found])):
        cuts, state = Cuts(graph, ends), [dict(feed)]
        for k in range(len(found)):
            result = cuts.advance(k, state)
            sizes[k] += sum(a.nbytes for a in state[0].values()) + result[0].nbytes
        cuts.close()
    return max(1, MEMORY // max(int(sizes.max()), 1))


def _layer(
    quantized: ir.Model, layer: Layer, inputs: list[np.ndarray], results: list[np.ndarray], ridge: float
) -> None:
    dequantize, integers, scale = layer.weight
    shape = geometry(layer.node, integers.shape, inputs[0].shape)
    current = to_matrix(layer.node, integers, shape).astype(np.float64)
    groups, channels, features = current.shape
    spread = np.broadcast_to(scale.astype(np.float64), (groups * channels,)).reshape(groups, channels, 1)
    centred = layer.node.op_type != "MatMul"  # a product has no bias to take the means
    moments = Moments.empty(groups, features, channels, centre=centred)
    count = -(-max(POSITIONS, PER_FEATURE * features) // len(inputs))
    rng = np.random.default_rng(zlib.crc32(layer.name.encode()))
    for x, y in zip(inputs, results, strict=True):
        moments.add(*rows(layer.dequantized(x), y, shape, count, rng, layer.node))
    if not all(np.isfinite(a).all() for a in (moments.xx, moments.yx, moments.yy)):
        return
    if features <= MOST_FEATURES and not _shared(dequantize):
        limit = 127 if np.abs(integers).max(initial=0) > 63 else 63
        start = _float_weight(layer, current * spread, integers, shape)
        try:
            made = round_in_turn(solve(moments, start, ridge), spread[:, :, 0], moments.centred()[0], limit)
        except np.linalg.LinAlgError:  # moments over so many magnitudes that float64 can't hold them together
            made = current
        gained = moments.error(made * spread) < moments.error(current * spread)
        current = np.where(gained[:, :, None], made, current)
        _store(dequantize, from_matrix(layer.node, current, integers.shape).astype(np.int8))
    if centred:
        old = float_bias(layer.node, groups * channels)
        if old is not None:
            x_mean, y_mean = moments.means()
            wanted = y_mean - ((current * spread) @ x_mean[:, :, None])[:, :, 0]
            shift_bias(quantized.graph, layer.node, wanted.reshape(-1) - old)


def to_matrix(node: ir.Node, weight: np.ndarray, shape: Geometry) -> np.ndarray:
    """A weight as (groups, out channels of a group, features)."""
    if node.op_type == "Conv":
        return weight.reshape(shape.groups, weight.shape[0] // shape.groups, -1)
    return (weight if _transposed(node) else weight.T)[None]


def from_matrix(node: ir.Node, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `to_matrix`."""
    if node.op_type == "Conv":
        return matrix.reshape(shape)
    return np.ascontiguousarray(matrix[0] if _transposed(node) else matrix[0].T)


def _transposed(node: ir.Node) -> bool:
    attribute = node.attributes.get("transB")
    return node.op_type == "Gemm" and attribute is not None and attribute.as_int() != 0


def _shared(dequantize: ir.Node) -> bool:
    """Whether another layer reads the same integers, which must not change under it."""
    integers = dequantize.inputs[0]
    return integers is None or len(integers.uses()) != 1 or len(dequantize.outputs[0].uses()) != 1


def _float_weight(layer: Layer, current: np.ndarray, integers: np.ndarray, shape: Geometry) -> np.ndarray:
    """The float model's weight where it can be found and is the same up to rounding; else the dequantized one."""
    node = layer.reference.producer()
    if node is not None and node.op_type == "Add":
        node = next((p for v in node.inputs if v is not None and (p := v.producer()) is not None), None)
    weight = None if node is None else layers.constant(layers.weight_of(node))
    if weight is None or weight.shape != integers.shape:
        return current
    matrix = to_matrix(layer.node, weight, shape).astype(np.float64)
    _, _, scale = layer.weight
    return matrix if np.abs(matrix - current).max(initial=0) <= scale.max() else current


def _store(dequantize: ir.Node, array: np.ndarray) -> None:
    value = dequantize.inputs[0]
    assert value is not None
    value.const_value = ir.Tensor(array, name=value.name)
