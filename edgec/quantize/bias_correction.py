"""Sequential bias correction: bring each quantized layer's mean output back to the float layer's, first to last.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721),
section 4.2, with measured means: rounding the weights shifts the expected output of a channel; the shift goes into
the int32 bias and costs nothing at run time. The means compared are those *before* the activation function. All
layers at once diverges, since each correction changes the inputs of the next; so the quantized model is run once, cut
behind each layer: a cut's inputs are the corrected results of the one before it. One float pass and one quantized
pass in all, whatever the depth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.data.metrics import ratio_db
from edgec.quantize import layers
from edgec.quantize.corrections.bias import layer_scales, shift_bias
from edgec.quantize.corrections.judge import noise, split
from edgec.quantize.corrections.lockstep import Cuts, float_twin
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
    used, kept_back = split(data, samples, held_out)
    copy = quantized.clone()
    found = _layers(model, copy)
    if not found or not kept_back:
        return BiasCorrection(quantized, False, np.nan, np.nan, {}, 0)
    count = _affordable(copy, found, used)
    used = used[:count]
    shifts = _correct(copy, found, _means(model, found, used), used, progress)
    energies = noise(model, [quantized, copy], kept_back)
    signal, plain, corrected = energies.sum(axis=0)
    before, after = ratio_db(signal, plain), ratio_db(signal, corrected)
    tiny = np.finfo(np.float64).tiny
    typical = float(np.mean(np.log10(energies[:, 2] + tiny) - np.log10(energies[:, 1] + tiny)))
    better = after > before and typical < 0
    return BiasCorrection(copy if better else quantized, better, before, after, shifts, count)


def _layers(model: ir.Model, quantized: ir.Model) -> list[_Layer]:
    """Quantized layers in graph order that can carry an int32 bias, with the float result they are held against."""
    floats = {v.name: v for node in model.graph for v in node.outputs}
    result = []
    for node in quantized.graph:
        if not layers.is_onnx(node) or node.op_type not in ("Conv", "Gemm") or layer_scales(node) is None:
            continue
        twin = float_twin(node, floats)
        if twin is not None and twin.name is not None:
            result.append(_Layer(node, twin.name, 1 if node.op_type == "Conv" else -1))
    return result


def _reduce_to_channels(copy: ir.Model, value: ir.Value, axis: int, rank: int) -> ir.Value:
    """Append a ReduceMean over all axes but the channels'; those before a last one are made one, however many."""
    axes = [i for i in range(rank) if i != axis]
    if axis == -1:
        flat = ir.Node("", "Flatten", [value], [ir.AttrInt64("axis", -1)])
        flat.outputs[0].name, flat.outputs[0].dtype = f"{value.name}/rows", ir.DataType.FLOAT
        copy.graph.append(flat)
        value, axes = flat.outputs[0], [0]
    constant = ir.Value(name=f"{value.name}/mean over", const_value=ir.Tensor(np.array(axes, np.int64)))
    opset = copy.graph.opset_imports.get("", 0)
    if opset >= 18:
        constant.type, constant.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([len(axes)])
        copy.graph.register_initializer(constant)
        node = ir.Node("", "ReduceMean", [value, constant], [ir.AttrInt64("keepdims", 0)])
    else:
        attributes = [ir.AttrInt64("keepdims", 0), ir.AttrInt64s("axes", axes)]
        node = ir.Node("", "ReduceMean", [value], attributes)
    node.outputs[0].name, node.outputs[0].dtype = f"{value.name}/mean of channels", ir.DataType.FLOAT
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
    """Rank of a convolution's result: that of its weight."""
    dequantize = layer.node.inputs[1].producer() if layer.node.inputs[1] is not None else None
    weight = None if dequantize is None else dequantize.inputs[0]
    assert weight is not None and weight.shape is not None
    return len(weight.shape)


def _affordable(quantized: ir.Model, found: list[_Layer], used: list[dict[str, np.ndarray]]) -> int:
    """How many samples' activations fit into `MEMORY`, from the largest layer's result on the first."""
    largest = 0
    cuts = Cuts(quantized, [layer.node.outputs[0] for layer in found])
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
    cuts = Cuts(quantized, [layer.node.outputs[0] for layer in found])
    state = [dict(feed) for feed in used]
    shifts = {}
    for k, layer in enumerate(found):
        results = cuts.advance(k, state)
        axes = tuple(i for i in range(results[0].ndim) if i != layer.axis % results[0].ndim)
        mean = np.mean([r.mean(axis=axes, dtype=np.float64) for r in results], axis=0)
        shift = shift_bias(quantized.graph, layer.node, reference[k] - mean)
        spread = shift.reshape([-1 if i == layer.axis % results[0].ndim else 1 for i in range(results[0].ndim)])
        for r in results:
            r += spread.astype(np.float32)
        shifts[names[layer.node]] = float(np.abs(shift).mean())
        if progress:
            progress(k + 1, len(found))
    cuts.close()
    return shifts
