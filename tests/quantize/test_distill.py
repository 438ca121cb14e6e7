"""Distillation: the torch interpreter answers as ONNX does, what it learns is written back, and worse is dropped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest

from edgec import quantize as q
from edgec.data import Dataset, sqnr_db
from edgec.errors import MissingError
from edgec.quantize import layers
from edgec.quantize.corrections import distill as package
from edgec.quantize.corrections.distill import Rates, distill
from edgec.quantize.corrections.distill.blocks import blocks, needed
from edgec.quantize.corrections.distill.program import Program
from edgec.quantize.corrections.distill.store import store
from edgec.quantize.session import Session

Build = Callable[..., ir.Model]
Feeds = Callable[..., Dataset]
PAD = {"pads": [1, 1, 1, 1]}
X = {"x": [1, 4, 8, 8]}
ABSENT = "torch is absent: pip install 'edgec[distill]'"
needs_torch = pytest.mark.skipif(not package.available(), reason=ABSENT)


def weights(seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {k: (rng.standard_normal(s) * (2 / max(np.prod(s[1:]), 1)) ** 0.5).astype("f") for k, s in shapes.items()}


def residual(build: Build, *, odd: bool = False) -> ir.Model:
    """Two residual blocks, the second with an operator that torch has no twin of here, and a classifier."""
    names = ("a1", "a2", "c1", "c2")
    shapes = {"w0": (8, 4, 3, 3), **dict.fromkeys(names, (8, 8, 3, 3)), "fc": (5, 8)}
    constants = weights(1, **shapes, b0=(8,), b1=(8,)) | {"flat": np.int64([0, -1])}
    nodes = [
        ("Conv", ["x", "w0", "b0"], ["v0"], PAD), ("Relu", ["v0"], ["r0"]),
        ("Conv", ["r0", "a1", "b1"], ["v1"], PAD), ("Relu", ["v1"], ["r1"]),
        ("Conv", ["r1", "a2", "b1"], ["v2"], PAD), ("Add", ["v2", "r0"], ["s1"]), ("Relu", ["s1"], ["o1"]),
        ("Conv", ["o1", "c1"], ["v3"], PAD), ("Softsign" if odd else "Relu", ["v3"], ["r3"]),
        ("Conv", ["r3", "c2"], ["v4"], PAD), ("Add", ["v4", "o1"], ["s2"]), ("Relu", ["s2"], ["o2"]),
        ("GlobalAveragePool", ["o2"], ["g"]), ("Reshape", ["g", "flat"], ["f"]),
        ("Gemm", ["f", "fc"], ["l"], {"transB": 1}), ("Softmax", ["l"], ["y"]),
    ]  # fmt: skip
    return build(nodes, X, ["y"], constants)


def spoiled(quantized: ir.Model) -> ir.Model:
    """Activation scales a third too wide: something to learn."""
    copy = quantized.clone()
    done = set()
    for node in copy.graph:
        if node.op_type == "QuantizeLinear" and node.inputs[1] not in done:
            value = node.inputs[1]
            done.add(value)
            value.const_value = ir.Tensor(layers.constant(value) * np.float32(1.4), name=value.name)
    return copy


OPERATORS = {
    "Relu": {}, "LeakyRelu": {"alpha": 0.2}, "Elu": {"alpha": 0.7}, "Sigmoid": {}, "Tanh": {}, "HardSwish": {},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4}, "Gelu": {}, "Softplus": {}, "Softmax": {"axis": 1},
    "MaxPool": PAD | {"kernel_shape": [3, 3], "strides": [2, 2]}, "AveragePool": {"kernel_shape": [2, 2]},
    "GlobalAveragePool": {}, "Flatten": {}, "Transpose": {"perm": [0, 2, 3, 1]}, "Identity": {},
}  # fmt: skip
WITH_CONSTANT = {
    "Conv": (
        {"pads": [0, 1, 2, 1], "strides": [2, 1], "dilations": [1, 2], "group": 2},
        {"w": (6, 2, 3, 3), "b": (6,)},
    ),
    "PRelu": ({}, {"s": (4, 1, 1)}),
    "Add": ({}, {"s": (4, 1, 1)}),
    "Mul": ({}, {"s": (1, 4, 1, 1)}),
    "MatMul": ({}, {"w": (8, 3)}),
    "Reshape": ({}, {"shape": np.int64([1, -1, 4])}),
    "Squeeze": ({}, {"axes": np.int64([0])}),
    "ReduceMean": ({"keepdims": 0}, {"axes": np.int64([2, 3])}),
}  # fmt: skip


@needs_torch
@pytest.mark.parametrize("kind", [*OPERATORS, *WITH_CONSTANT])
def test_operators_answer_as_onnxruntime_does(build: Build, kind: str) -> None:
    torch = pytest.importorskip("torch", reason=ABSENT)

    attributes, shapes = WITH_CONSTANT.get(kind, (OPERATORS.get(kind), {}))
    constants = {k: v if isinstance(v, np.ndarray) else weights(2, v=v)["v"] for k, v in shapes.items()}
    model = build([(kind, ["x", *constants], ["y"], attributes)], X, ["y"], constants)
    x = np.random.default_rng(3).standard_normal((1, 4, 8, 8)).astype(np.float32)
    program = Program(list(model.graph), model.graph.inputs[0], model.graph.outputs[0])
    assert not program.missing
    np.testing.assert_allclose(program(torch.from_numpy(x)).numpy(), Session(model).run({"x": x})[0], atol=2e-5)


@needs_torch
def test_the_interpreter_answers_as_the_quantized_model_does(build: Build, feeds: Feeds) -> None:
    torch = pytest.importorskip("torch", reason=ABSENT)

    model = residual(build)
    data = feeds(model, 8)
    made = q.quantize_with_data(model, data, effort="plain", arch="aarch64").model
    last = next(n for n in made.graph if n.op_type == "Softmax").inputs[0]
    program = Program(needed(list(made.graph), last, made.graph.inputs[0]), made.graph.inputs[0], last)
    assert not program.missing and len(program.trained) == 6
    session = Session(made, optimize=False)
    expected = [session.run(f)[0] for f in data]
    with torch.no_grad():
        got = [torch.softmax(program(torch.from_numpy(f["x"])), -1).numpy() for f in data]
    assert sqnr_db(expected, got) > 45
    before = {k: v.const_value.numpy().copy() for k, v in made.graph.initializers.items()}
    store(made, program)
    for name, array in before.items():  # nothing was learned: nothing changes but a bias's last step
        after = made.graph.initializers[name].const_value.numpy()
        assert after.dtype == array.dtype and after.shape == array.shape
        np.testing.assert_allclose(after.astype(np.float64), array, rtol=1e-6, atol=1.01 * (array.dtype == np.int32))


@needs_torch
@pytest.mark.parametrize("way", ["by_block", "end_to_end"])
def test_what_was_spoiled_is_learned_again(build: Build, feeds: Feeds, way: str) -> None:
    model = residual(build)
    data = feeds(model, 40)
    quantized = spoiled(q.quantize_with_data(model, data, effort="plain", arch="aarch64").model)
    names = list(quantized.graph.initializers)
    before = ir.to_proto(quantized).SerializeToString(deterministic=True)
    options = {"by_block": way == "by_block", "end_to_end": way == "end_to_end", "rates": Rates(scales=2e-2)}
    made = distill(model, quantized, data, steps=60, batch=8, **options)
    assert made.kept and made.after > made.before + 0.7
    assert ir.to_proto(quantized).SerializeToString(deterministic=True) == before
    assert list(made.model.graph.initializers) == names  # the same file, other numbers
    assert [n.op_type for n in made.model.graph] == [n.op_type for n in quantized.graph]
    again = distill(model, quantized, data, steps=60, batch=8, **options)
    assert ir.to_proto(again.model).SerializeToString(deterministic=True) == ir.to_proto(made.model).SerializeToString(
        deterministic=True
    )


@needs_torch
def test_int32_biases_follow_the_scales_that_were_learned(build: Build, feeds: Feeds) -> None:
    model = residual(build)
    data = feeds(model, 40)
    quantized = spoiled(q.quantize_with_data(model, data, effort="plain", arch="aarch64").model)
    made = distill(model, quantized, data, steps=30, batch=8, rates=Rates(scales=2e-2)).model
    for node in made.graph:
        if node.op_type != "Conv" or len(node.inputs) < 3:
            continue
        x, w, b = (v.producer() for v in node.inputs)
        np.testing.assert_array_equal(
            layers.constant(b.inputs[1]), layers.constant(x.inputs[1]) * layers.constant(w.inputs[1])
        )


@needs_torch
def test_a_training_that_makes_it_worse_is_dropped(build: Build, feeds: Feeds) -> None:
    model = residual(build)
    data = feeds(model, 40)
    quantized = q.quantize_with_data(model, data, arch="aarch64").model
    made = distill(model, quantized, data, steps=8, batch=8, rates=Rates(weights=50.0, biases=5.0, scales=3.0))
    assert not made.kept and made.model is quantized
    assert all(p.after >= p.before for p in made.parts)


@needs_torch
def test_what_torch_does_not_know_is_left_alone(build: Build, feeds: Feeds) -> None:
    model = residual(build, odd=True)
    data = feeds(model, 40)
    quantized = spoiled(q.quantize_with_data(model, data, effort="plain", arch="aarch64").model)
    made = distill(model, quantized, data, steps=40, batch=8, rates=Rates(scales=2e-2))
    left = [p for p in made.parts if p.left]
    assert {"not in torch: Softsign"} == {p.left for p in left} and made.parts[-1].left
    assert any(p.after > p.before + 0.5 for p in made.parts if not p.left)


@needs_torch
def test_few_samples_change_nothing(build: Build, feeds: Feeds) -> None:
    model = residual(build)
    quantized = q.quantize_with_data(model, feeds(model, 5), effort="plain").model
    made = distill(model, quantized, feeds(model, 5))
    assert not made.kept and made.model is quantized and np.isnan(made.before)


def test_blocks_lie_between_the_values_that_all_goes_through(build: Build, feeds: Feeds) -> None:
    model = residual(build)
    made = q.quantize_with_data(model, feeds(model, 8), effort="plain", arch="aarch64").model
    last = next(n for n in made.graph if n.op_type == "Softmax").inputs[0]
    found = blocks(model, made, last)
    assert [b.reference for b in found] == ["o1", "o2", "l"] and [b.trained for b in found] == [3, 2, 1]
    assert all(a.result is b.source for a, b in pairwise(found))


def test_without_torch_it_says_what_to_install(build: Build, feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "available", lambda: False)
    model = residual(build)
    with pytest.raises(MissingError, match="torch") as refused:
        distill(model, model, feeds(model, 8))
    assert "edgec[distill]" in refused.value.fix


def test_torch_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, edgec.quantize.corrections.distill; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
