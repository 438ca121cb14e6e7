"""The trials themselves: importable functions of bytes and plain values, run by any worker, the same answer on each.

`noise` — how much the outputs move when one weight or one value alone is rounded to its integers. Lin, Talathi,
Annapureddy 2016, "Fixed Point Quantization of Deep Convolutional Networks" (arXiv:1511.06393): the noise-to-signal
ratios of all weights and activations add up to the model's, as long as each is small. So rounding one at a time in the
float model predicts any assignment, by a sum; and a sum is what a minimum cut can weigh against time.

`build` — a whole assignment, with the corrections.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from edgec.data import Dataset, InputSpec
from edgec.data.metrics import reported_db
from edgec.executors import content
from edgec.quantize import layers
from edgec.quantize.arithmetic import activation_parameters, quantize_weight
from edgec.quantize.compact import compact
from edgec.quantize.corrections.judge import before_probabilities
from edgec.quantize.corrections.stages import correct
from edgec.quantize.pipeline import quantize
from edgec.quantize.placement import rules
from edgec.quantize.ranges import Ranges
from edgec.quantize.scheme import Scheme
from edgec.quantize.session import Session

Feed = dict[str, np.ndarray]
Json = Mapping[str, Any]

STEP = 4  # samples between two looks at the confidence interval
PRECISE = 0.2  # half its width, relative to the mean, at which sampling stops
STUDENT = {4: 3.18, 8: 2.36, 12: 2.20, 16: 2.13, 20: 2.09, 24: 2.07, 28: 2.05, 32: 2.04}  # t, 97.5 %, n − 1


def pack_feeds(feeds: Sequence[Mapping[str, np.ndarray]]) -> bytes:
    """Feeds as the bytes of an .npz, not compressed."""
    buffer = io.BytesIO()
    arrays = {f"{i:06d}/{name}": array for i, feed in enumerate(feeds) for name, array in feed.items()}
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # keyword arguments are arrays
    return buffer.getvalue()


def unpack_feeds(data: bytes, most: int | None = None) -> list[Feed]:
    """The inverse of `pack_feeds`; the first `most`, or all."""
    feeds: dict[int, Feed] = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        for key in arrays.files:
            index, _, name = key.partition("/")
            if most is None or int(index) < most:
                feeds.setdefault(int(index), {})[name] = arrays[key]
    return [feeds[index] for index in sorted(feeds)]


def to_bytes(model: ir.Model) -> bytes:
    """A model's protobuf; the same model gives the same bytes."""
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def from_bytes(data: bytes) -> ir.Model:
    """The inverse of `to_bytes`."""
    return ir.from_proto(onnx.load_from_string(data))


def noise(model: Any, feeds: Any, what: Json, scheme: Json, negligible: float, samples: int) -> dict[str, Any]:
    """Noise-to-signal ratio of the outputs with one weight or value rounded, over as many samples as it takes.

    Each output counts alike: its noise's energy over its signal's, averaged over the float outputs (before a final
    softmax). Sampling stops when the interval (Student's t, 95 %) is within a fifth of the mean, or under `negligible`.

    Args:
        model: handle of the float model's bytes.
        feeds: handle of packed feeds.
        what: {"weight": node's name} or {"value": name, "low": …, "high": …}.
        scheme: the fields of a `Scheme`.
        negligible: a ratio that doesn't matter.
        samples: at most so many.

    Returns:
        {"noise": ratio, "half": half of its interval's width, "samples": used}; noise None where it is not finite.
    """
    float_model, inputs, expected, signal = _reference(model, feeds, samples)
    session = Session(before_probabilities(_rounded(float_model, what, Scheme(**scheme))), threads=1)
    ratios: list[float] = []
    for feed, reference in zip(inputs, expected, strict=True):
        with np.errstate(invalid="ignore", over="ignore"):
            error = [_energy(a - b) for a, b in zip(reference, _floats(session.run(feed)), strict=True)]
            ratios.append(float(np.mean([e / s for e, s in zip(error, signal, strict=True)])))
        n = len(ratios)
        if n % STEP == 0 and n in STUDENT and n < len(inputs):
            mean, half = float(np.mean(ratios)), _half(ratios)
            if half <= PRECISE * mean or mean + half <= negligible:
                break
    mean = float(np.mean(ratios))
    if not np.isfinite(mean):
        return {"noise": None, "half": None, "samples": len(ratios)}
    return {"noise": mean, "half": _half(ratios), "samples": len(ratios)}


def build(
    model: Any, feeds: Any, ranges: Json, assignment: Json, placement: str, corrections: bool, exclude: Sequence[str]
) -> tuple[dict[str, Any], bytes]:
    """An int8 model by an assignment: quantized with each kind of ranges, the best kept and corrected.

    Args:
        model: handle of the float model's bytes.
        feeds: handle of packed feeds, for the corrections.
        ranges: method -> the fields of `Ranges`, the default first.
        assignment: layer's name -> the fields of a `Scheme`, or None.
        placement: whose fusion rules.
        corrections: whether to correct.
        exclude: names and types of nodes that stay float, embeddings among them.

    Returns:
        What `correct` did, and the model's bytes.
    """
    float_model = from_bytes(content(model))
    schemes = {name: None if fields is None else Scheme(**fields) for name, fields in assignment.items()}
    variants = {
        method: quantize(float_model, Ranges(**fields), schemes, placement=placement)
        for method, fields in ranges.items()
    }
    first = next(iter(variants))

    def finished(made: ir.Model) -> bytes:
        # TensorRT looks nothing up in integers.
        return to_bytes(made if rules(placement).symmetric else compact(made, exclude))

    if not corrections:
        return {"variant": first, "stages": [], "before": None, "after": None, "samples": 0}, finished(variants[first])
    graph_inputs = [v for v in float_model.graph.inputs if v.name not in float_model.graph.initializers]
    data = Dataset.of(unpack_feeds(content(feeds)), [InputSpec.of(v) for v in graph_inputs])
    made = correct(float_model, variants, data)
    return {
        "variant": made.variant,
        "stages": [asdict(stage) for stage in made.stages],
        "before": reported_db(made.before),
        "after": reported_db(made.after),
        "samples": made.samples,
    }, finished(made.model)


@lru_cache(maxsize=2)
def _reference(
    model: Any, feeds: Any, samples: int
) -> tuple[ir.Model, list[Feed], list[list[np.ndarray]], list[float]]:
    """The float model, its inputs, its outputs on them, and each output's mean energy: taken once a worker."""
    float_model = from_bytes(content(model))
    inputs = unpack_feeds(content(feeds), samples)
    session = Session(before_probabilities(float_model), threads=1)
    expected = [_floats(session.run(feed)) for feed in inputs]
    with np.errstate(invalid="ignore", over="ignore"):
        energies = np.array([[_energy(a) for a in outputs] for outputs in expected], np.float64)
    signal = [float(e) if e > 0 else 1.0 for e in energies.mean(0)] if energies.size else []
    return float_model, inputs, expected, signal


def _rounded(model: ir.Model, what: Json, scheme: Scheme) -> ir.Model:
    """A copy of the float model in which one weight, or one value, takes only what its integers can say."""
    copy = model.clone()
    if "weight" in what:
        node = next(n for n, name in layers.layer_names(copy).items() if name == what["weight"])
        weight = layers.constant(node.inputs[1])
        assert weight is not None
        axis = layers.weight_axis(node, weight.ndim) if scheme.per_channel else None
        q = quantize_weight(weight, axis=axis, qmax=scheme.weight_max)
        spread = q.scale if axis is None else q.scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
        node.replace_input_with(1, _constant(copy, "edgec_rounded", (q.data * spread).astype(np.float32)))
        return copy
    value = next(v for v in _values(copy) if v.name == what["value"])
    affine = activation_parameters(what["low"], what["high"], scheme)
    constants = [
        _constant(copy, "edgec_scale", np.asarray(affine.scale, np.float32)),
        _constant(copy, "edgec_zero", np.asarray(affine.zero_point, affine.dtype)),
    ]
    uses = list(value.uses())
    nodes = [ir.Node("", "QuantizeLinear", [value, *constants], name="edgec_q")]
    nodes.append(ir.Node("", "DequantizeLinear", [nodes[0].outputs[0], *constants], name="edgec_dq"))
    for node in nodes:
        node.outputs[0].name = f"{node.name}_out"
    twin = nodes[1].outputs[0]
    twin.type, twin.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
    producer = value.producer()
    if producer is None:
        copy.graph.insert_before(copy.graph[0], nodes)
    else:
        copy.graph.insert_after(producer, nodes)
    for use in uses:
        use.node.replace_input_with(use.idx, twin)
    for i, output in enumerate(copy.graph.outputs):
        if output is value:
            copy.graph.outputs[i] = twin
    return copy


def _values(model: ir.Model) -> list[ir.Value]:
    return [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]


def _constant(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.Tensor(np.ascontiguousarray(array) if array.ndim else array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    model.graph.register_initializer(value)
    return value


def _floats(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [a for a in arrays if a.dtype.kind == "f"]


def _energy(array: np.ndarray) -> float:
    return float(np.square(array, dtype=np.float64).sum())


def _half(ratios: Sequence[float]) -> float:
    """Half the width of the mean's 95 % interval."""
    n = len(ratios)
    if n < 2:
        return float("inf") if n == 0 else abs(ratios[0])
    return float(STUDENT.get(n, 2.0) * np.std(ratios, ddof=1) / np.sqrt(n))
