"""Sequential bias correction: bring each quantized layer's mean output back to the float layer's, first to last.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721),
section 4.2, with measured means: rounding the weights shifts the expected output of a channel; the shift goes into
the int32 bias and costs nothing at run time. The means compared are those *before* the activation function. All
layers at once diverges, since each correction changes the inputs of the next; so the quantized model is run once, cut
behind each layer: a cut's inputs are the corrected results of the one before it. One float pass and one quantized
pass in all, whatever the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.data.metrics import ratio_db
from edgec.quantize import layers
from edgec.quantize.session import Session, expose

Progress = Callable[[int, int | None], None]
# What the activations cached between two cuts may take; fewer samples are used where they would take more.
MEMORY = 256 * 2**20


@dataclass(frozen=True)
class BiasCorrection:
    """What the correction did.

    Attributes:
        model: the corrected model, or the quantized one as it came where the correction did not help.
        kept: whether it helped on samples that were not used for it: in sum, and in the mean of their decibels, so
            that one sample can't decide.
        before: SQNR of the outputs (before a final softmax) on those samples, dB.
        after: the same after the correction.
        shifts: layer name -> mean |shift| of its channels, in units of the output.
        samples: how many samples the means were taken over.
    """

    model: ir.Model
    kept: bool
    before: float
    after: float
    shifts: dict[str, float]
    samples: int


@dataclass(frozen=True)
class _Layer:
    node: ir.Node
    reference: str  # the float model's name of the result
    axis: int  # of the channels in the result


def correct_biases(
    model: ir.Model,
    quantized: ir.Model,
    data: Dataset,
    *,
    samples: int = 32,
    held_out: int = 32,
    progress: Progress | None = None,
) -> BiasCorrection:
    """Correct the biases of the quantized convolutions and Gemms, and keep that only if held-out samples gain.

    Every fourth sample of the data is held out. With fewer than four samples nothing can be held out: nothing is done.

    Args:
        model: the float model that `quantized` was made of; not changed.
        quantized: with Q/DQ; not changed.
        data: calibration feeds.
        samples: at most so many are used for the means.
        held_out: at most so many for the check.
        progress: called with (layers done, layers).
    """
    used, kept_back = _split(data, samples, held_out)
    copy = quantized.clone()
    found = _layers(model, copy)
    if not found or not kept_back:
        return BiasCorrection(quantized, False, np.nan, np.nan, {}, 0)
    count = _affordable(copy, found, used)
    used = used[:count]
    shifts = _correct(copy, found, _means(model, found, used), used, progress)
    noise = _noise(model, [quantized, copy], kept_back)
    signal, plain, corrected = noise.sum(axis=0)
    before, after = ratio_db(signal, plain), ratio_db(signal, corrected)
    tiny = np.finfo(np.float64).tiny
    typical = float(np.mean(np.log10(noise[:, 2] + tiny) - np.log10(noise[:, 1] + tiny)))
    better = after > before and typical < 0
    return BiasCorrection(copy if better else quantized, better, before, after, shifts, count)


def _split(
    data: Dataset, samples: int, held_out: int
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """The first feeds, three to correct with, one to check with, and so on; stops reading when it has enough."""
    used: list[dict[str, np.ndarray]] = []
    kept_back: list[dict[str, np.ndarray]] = []
    for i, feed in enumerate(data):
        target, limit = (kept_back, held_out) if i % 4 == 3 else (used, samples)
        if len(target) < limit:
            target.append(feed)
        elif len(used) >= samples and len(kept_back) >= held_out:
            break
    return used, kept_back


def _layers(model: ir.Model, quantized: ir.Model) -> list[_Layer]:
    """Quantized layers in graph order that can carry an int32 bias, with the float result they are held against."""
    floats = {v.name for node in model.graph for v in node.outputs}
    result = []
    for node in quantized.graph:
        if not layers.is_onnx(node) or node.op_type not in ("Conv", "Gemm") or _scales(node) is None:
            continue
        reference = _float_name(node.outputs[0], floats)
        if reference is not None:
            result.append(_Layer(node, reference, 1 if node.op_type == "Conv" else -1))
    return result


def _float_name(result: ir.Value, floats: set[str | None]) -> str | None:
    """The result's name in the float model: its own, or, where it was an output of the graph, that of its twin."""
    if result.name in floats:
        return result.name
    for quantize in result.consumers():
        for dequantize in quantize.outputs[0].consumers():
            if dequantize.outputs[0].name in floats:
                return dequantize.outputs[0].name
    return None


def _scales(node: ir.Node) -> tuple[np.ndarray, np.ndarray] | None:
    """(activation scale, weight scale) of a layer whose input and weight are both dequantized."""
    scales = []
    for value in node.inputs[:2]:
        producer = value.producer() if value is not None else None
        if producer is None or producer.op_type != "DequantizeLinear":
            return None
        scale = layers.constant(producer.inputs[1])
        if scale is None:
            return None
        scales.append(scale)
    return scales[0], scales[1]


def _reduce_to_channels(copy: ir.Model, value: ir.Value, axis: int, rank: int) -> ir.Value:
    """Append a ReduceMean over all axes but the channels'."""
    axes = [i for i in range(rank) if i != axis % rank]
    constant = ir.Value(name=f"{value.name}/axes", const_value=ir.Tensor(np.array(axes, np.int64)))
    opset = copy.graph.opset_imports.get("", 0)
    if opset >= 18:
        constant.type, constant.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([len(axes)])
        copy.graph.register_initializer(constant)
        node = ir.Node("", "ReduceMean", [value, constant], [ir.AttrInt64("keepdims", 0)])
    else:
        attributes = [ir.AttrInt64("keepdims", 0), ir.AttrInt64s("axes", axes)]
        node = ir.Node("", "ReduceMean", [value], attributes)
    node.outputs[0].name, node.outputs[0].dtype = f"{value.name}/mean", ir.DataType.FLOAT
    copy.graph.append(node)
    return node.outputs[0]


def _means(model: ir.Model, found: list[_Layer], used: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """Per layer the float model's mean output per channel, reduced inside the graph."""
    copy = expose(model, [layer.reference for layer in found])
    exposed = list(copy.graph.outputs)
    copy.graph.outputs.clear()
    for layer, value in zip(found, exposed, strict=True):
        rank = _rank(layer)
        copy.graph.outputs.append(_reduce_to_channels(copy, value, layer.axis, rank))
    session = Session(copy)
    total: list[np.ndarray] = [np.zeros(()) for _ in found]
    for feed in used:
        total = [t + m.astype(np.float64) for t, m in zip(total, session.run(feed), strict=True)]
    return [t / len(used) for t in total]


def _rank(layer: _Layer) -> int:
    """Rank of a layer's result: that of the weight, for Conv and Gemm alike."""
    dequantize = layer.node.inputs[1].producer() if layer.node.inputs[1] is not None else None
    weight = None if dequantize is None else dequantize.inputs[0]
    assert weight is not None and weight.shape is not None
    return len(weight.shape)


def _affordable(quantized: ir.Model, found: list[_Layer], used: list[dict[str, np.ndarray]]) -> int:
    """How many samples' activations fit into `MEMORY`, from the largest layer's result on the first."""
    largest = 0
    cuts = _Cuts(quantized, found)
    state = [dict(used[0])]
    for k in range(len(found)):
        cuts.advance(k, state)
        largest = max(largest, sum(a.nbytes for a in state[0].values()))
    cuts.close()
    return max(1, min(len(used), MEMORY // max(largest, 1)))


def _correct(
    quantized: ir.Model,
    found: list[_Layer],
    reference: list[np.ndarray],
    used: list[dict[str, np.ndarray]],
    progress: Progress | None,
) -> dict[str, float]:
    """Correct each layer in place, in order; returns the mean |shift| by layer name."""
    names = layers.layer_names(quantized)
    cuts = _Cuts(quantized, found)
    state = [dict(feed) for feed in used]
    shifts = {}
    for k, layer in enumerate(found):
        results = cuts.advance(k, state)
        axes = tuple(i for i in range(results[0].ndim) if i != layer.axis % results[0].ndim)
        mean = np.mean([r.mean(axis=axes, dtype=np.float64) for r in results], axis=0)
        shift = _apply(quantized.graph, layer.node, reference[k] - mean)
        spread = shift.reshape([-1 if i == layer.axis % results[0].ndim else 1 for i in range(results[0].ndim)])
        for r in results:
            r += spread.astype(np.float32)
        shifts[names[layer.node]] = float(np.abs(shift).mean())
        if progress:
            progress(k + 1, len(found))
    cuts.close()
    return shifts


class _Cuts:
    """Runs a model cut behind each layer: cut k takes what is alive before it and gives what is alive after it."""

    def __init__(self, model: ir.Model, found: list[_Layer]) -> None:
        self._model, self._found = model, found
        self._nodes = list(model.graph)  # as of now: correcting inserts constants, which `extract` finds itself
        self._position = {node: i for i, node in enumerate(self._nodes)}
        self._ends = [self._position[layer.node] for layer in found]
        bodies = {node: list(_bodies(node)) for node in model.graph}
        for node, graphs in bodies.items():
            self._position |= {inner: self._position[node] for g in graphs for inner in g.all_nodes()}
        self._constant: set[ir.Value] = set(model.graph.initializers.values())
        for node in model.graph:
            if not bodies[node] and all(v is None or v in self._constant for v in node.inputs):
                self._constant.update(node.outputs)
        self._last_use = {v: self._last(v) for v in (*model.graph.inputs, *(o for n in model.graph for o in n.outputs))}
        self._typed: list[ir.Value] = []
        floats = layers.float_values(model)
        for node in model.graph:  # a cut's inputs need a type
            for value in node.outputs:
                kind = _type(node, value in floats)
                if value.dtype is None and kind is not None:
                    value.dtype = kind
                    self._typed.append(value)

    def close(self) -> None:
        """Take the types back that were only needed here: the file is not to grow by them."""
        for value in self._typed:
            value.type = None

    def _last(self, value: ir.Value) -> int:
        """Position of the last node of the main graph that reads a value, itself or in a body of it; -1: none."""
        return max((self._position[consumer] for consumer in value.consumers()), default=-1)

    def advance(self, k: int, state: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
        """Run cut k for each sample's live values, in place; returns the layer's results (the arrays in `state`)."""
        start = self._ends[k - 1] + 1 if k else 0
        end = self._ends[k]
        result = self._found[k].node.outputs[0]
        made = [o for n in self._nodes[start : end + 1] for o in n.outputs if o not in self._constant]
        alive = [v for v in made if v is result or self._last_use[v] > end]
        before = [v for v in self._last_use if v.name in state[0]]
        inputs = [v for v in before if self._last_use[v] >= start]
        graph = ir.convenience.extract(self._model.graph, inputs, alive)
        session = Session(ir.Model(graph, ir_version=self._model.ir_version), optimize=False)
        wanted = [str(v.name) for v in graph.inputs]
        keep = {str(v.name) for v in before if self._last_use[v] > end}
        results = []
        for sample in state:
            outputs = dict(zip(session.outputs, session.run({n: sample[n] for n in wanted}), strict=True))
            for name in list(sample):
                if name not in keep:
                    del sample[name]
            sample.update(outputs)
            results.append(sample[str(result.name)])
        return results


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _type(node: ir.Node, is_float: bool) -> ir.DataType | None:
    if node.op_type == "QuantizeLinear" and node.inputs[2] is not None:
        return node.inputs[2].dtype
    if node.op_type == "DequantizeLinear" or is_float:
        return ir.DataType.FLOAT
    first = node.inputs[0] if node.inputs else None
    return first.dtype if first is not None and node.op_type in layers.SAME_VALUES else None


def _apply(graph: ir.Graph, node: ir.Node, difference: np.ndarray) -> np.ndarray:
    """Add a difference (output units, per channel) to a layer's bias; returns what was added after rounding."""
    floating = layers.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if floating is not None:  # an engine that wants float biases; `insert` gave each layer one of its own
        value = node.inputs[2]
        assert value is not None and floating.shape == difference.shape
        value.const_value = ir.Tensor((floating + difference).astype(np.float32), name=value.name)
        return difference
    scales = _scales(node)
    assert scales is not None and node.inputs[1] is not None
    scale = np.broadcast_to(np.float32(scales[0]) * scales[1].astype(np.float32), difference.shape)
    steps = np.rint(difference / scale.astype(np.float64))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    producer = bias.producer() if bias is not None else None
    old = layers.constant(producer.inputs[0]) if producer is not None else np.zeros(difference.shape, np.int32)
    if old is None:
        return np.zeros(difference.shape)
    new = np.clip(old.astype(np.float64) + steps, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    name = f"{node.outputs[0].name}_bias"
    while f"{name}_quantized" in graph.initializers:
        name += "_"
    inputs = []
    arrays = {"quantized": new, "scale": np.array(scale)}
    for part, array in arrays.items():
        tensor = ir.Tensor(array, name=f"{name}_{part}")
        value = ir.Value(
            name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
        )
        graph.register_initializer(value)
        inputs.append(value)
    # A dequantizer of its own: the old one may be shared with another layer, whose shift is another.
    dequantize = ir.Node("", "DequantizeLinear", inputs, [ir.AttrInt64("axis", 0)], name=f"{name}_dequantized")
    dequantize.outputs[0].name, dequantize.outputs[0].dtype = dequantize.name, ir.DataType.FLOAT
    graph.insert_before(node, dequantize)
    if bias is None:
        node.resize_inputs(3)
    node.replace_input_with(2, dequantize.outputs[0])
    if producer is not None and not producer.outputs[0].uses():
        unused = [v for v in producer.inputs if v is not None]
        graph.remove(producer, safe=True)
        for value in unused:
            if not value.uses() and value.name is not None and value.name in graph.initializers:
                del graph.initializers[value.name]
    return (new.astype(np.float64) - old) * scale


def _noise(model: ir.Model, candidates: list[ir.Model], feeds: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Per sample the signal's energy, then each candidate's noise energy, over the float outputs: (samples, 1 + n).

    Outputs are taken before a final Softmax or Sigmoid: a saturated probability hides errors on most samples and
    blows up the few others, so that it ranks corrections by chance.
    """
    reference, *sessions = (Session(_before_probabilities(m)) for m in (model, *candidates))
    rows = []
    for feed in feeds:
        expected = reference.run(feed)
        row = [_energy(expected)]
        for session in sessions:
            row.append(
                _energy([a - b for a, b in zip(expected, session.run(feed), strict=True) if a.dtype.kind == "f"])
            )
        rows.append(row)
    return np.array(rows)


def _energy(arrays: list[np.ndarray]) -> float:
    return float(sum(np.square(a, dtype=np.float64).sum() for a in arrays if a.dtype.kind == "f"))


def _before_probabilities(model: ir.Model) -> ir.Model:
    copy = model.clone()
    for i, output in enumerate(copy.graph.outputs):
        node = output.producer()
        if node is not None and layers.is_onnx(node) and node.op_type in ("Softmax", "LogSoftmax", "Sigmoid"):
            before = node.inputs[0]
            if before is not None and not before.is_graph_input():
                before.dtype = ir.DataType.FLOAT
                copy.graph.outputs[i] = before
    return copy
