"""Which opset a payload says, and that what it says is what the model meant."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from edgec import frontends
from edgec_targets.emitters.onnxruntime import legalize, opset, write

NEWEST = onnx.defs.onnx_opset_version()


def tensor(name: str, *shape: int, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def load(
    *nodes: onnx.NodeProto, version: int = NEWEST, kind: int = TensorProto.FLOAT, shape: tuple[int, ...] = (1, 1, 4, 4)
) -> ir.Model:
    graph = helper.make_graph(list(nodes), "g", [tensor("x", *shape, kind=kind)], [tensor("y", *shape, kind=kind)])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=12)
    return frontends.load(made).model


def node(operator: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, ["x"], ["y"], name="it", **attributes)


@pytest.mark.parametrize("version", range(opset.OLDEST, NEWEST + 1))
def test_a_plain_operator_goes_to_the_oldest(version: int) -> None:
    data, written = write.write(load(node("Sigmoid"), version=version))
    assert written == opset.OLDEST
    proto = onnx.load_from_string(data)
    assert proto.opset_import[0].version == opset.OLDEST
    assert proto.ir_version == 10 <= opset.NEWEST_IR


def test_the_same_model_gives_the_same_bytes_and_stays_as_it_is() -> None:
    model = load(node("Sigmoid"))
    assert write.write(model) == write.write(model)
    assert model.opset_imports[""] == NEWEST


@pytest.mark.parametrize(
    ("made", "lowest"),
    [
        (node("Cast", to=TensorProto.FLOAT, round_mode="up"), 21),  # an attribute at its default goes
        (node("Cast", to=TensorProto.FLOAT, round_mode="nearest"), 24),  # another value stays
        (node("AveragePool", kernel_shape=[1, 1]), 21),
        (node("AveragePool", kernel_shape=[1, 1], ceil_mode=1), 22),  # another meaning below
        (node("Swish"), 24),  # a newer operator
    ],
)
def test_candidates(made: onnx.NodeProto, lowest: int) -> None:
    assert opset.candidates(load(made)) == list(range(lowest, NEWEST + 1))


def test_types_that_an_older_opset_lacks() -> None:
    assert opset.candidates(load(node("Round"), kind=TensorProto.BFLOAT16))[0] == 22
    assert opset.candidates(load(node("Round")))[0] == 21


def test_modulo_of_floats_is_new() -> None:
    def mod(kind: int, **attributes: int) -> list[int]:
        return opset.candidates(load(helper.make_node("Mod", ["x", "x"], ["y"], **attributes), kind=kind))

    assert mod(TensorProto.FLOAT) == [28]
    assert mod(TensorProto.FLOAT, fmod=1)[0] == 21
    assert mod(TensorProto.INT32)[0] == 21


def test_the_engine_is_asked_from_the_lowest_opset_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = load(node("Sigmoid")), []

    def takes(data: bytes) -> bool:
        asked.append(onnx.load_from_string(data).opset_import[0].version)
        return asked[-1] >= 23

    assert write.write(model)[1] == opset.OLDEST
    monkeypatch.setattr(write, "_takes", takes)
    assert write.write(model)[1] == 23
    assert asked == [21, 22, 23]


def test_lowering_drops_attributes_at_their_default_only_in_the_copy() -> None:
    model = load(node("Cast", to=TensorProto.FLOAT, round_mode="up"))
    low = opset.lower(model, 21)
    assert "round_mode" not in next(iter(low.graph)).attributes
    assert "round_mode" in next(iter(model.graph)).attributes


def test_an_old_opset_that_could_not_be_converted_stays() -> None:
    model = load(node("Sigmoid"))
    model.opset_imports[""] = 9
    assert opset.candidates(model) == [9]
    assert write.write(model)[1] == 9


def run(data: bytes, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_what_nothing_loads_is_written_at_its_own_opset() -> None:
    made = node("BitCast", to=TensorProto.UINT8)  # onnxruntime 1.32 has no kernel from bool
    x, y = tensor("x", 2, kind=TensorProto.BOOL), tensor("y", 2, kind=TensorProto.UINT8)
    graph = helper.make_graph([made], "g", [x], [y])
    model = frontends.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", NEWEST)])).model
    data, written = write.write(model)
    assert written == opset.of(model)
    assert onnx.load_from_string(data).graph.node[0].op_type == "BitCast"


def test_a_body_takes_the_place_of_a_node_without_kernel() -> None:
    model = load(helper.make_node("SwiGLU", ["x", "x"], ["y"], name="glu"), shape=(1, 4))
    steps = list(legalize.variants(model))
    assert [n.op_type for n in steps[0].graph] == ["SwiGLU"]
    assert "SwiGLU" not in [n.op_type for n in steps[1].graph]
    data, _ = write.write(model)
    x = np.linspace(-2, 2, 4, dtype=np.float32).reshape(1, 4)
    np.testing.assert_allclose(run(data, x), x / (1 + np.exp(-x)) * x, rtol=1e-5)


def test_a_wider_type_gives_the_same_integers() -> None:
    model = load(helper.make_node("Max", ["x", "x"], ["y"], name="most"), kind=TensorProto.INT16, shape=(3,))
    data, _ = write.write(model)
    assert [n.op_type for n in onnx.load_from_string(data).graph.node].count("Cast") >= 2
    x = np.array([-(2**15), 0, 2**15 - 1], np.int16)
    np.testing.assert_array_equal(run(data, x), x)


@pytest.mark.parametrize(("op", "kind"), [("Max", TensorProto.INT16), ("Add", TensorProto.BFLOAT16)])
def test_writing_leaves_the_model_as_it_was(op: str, kind: int) -> None:
    model = load(helper.make_node(op, ["x", "x"], ["y"], name="n"), kind=kind, shape=(3,))
    before = write.serialize(model)
    write.write(model)
    assert write.serialize(model) == before


def test_over_2_gb_is_refused_before_anything_is_copied() -> None:
    from edgec.errors import UnsupportedError

    model = load(node("Sigmoid"))
    shape = ir.Shape([3 << 28])
    huge = ir.ExternalTensor("none.bin", 0, 3 << 30, ir.DataType.FLOAT, shape=shape, name="w", base_dir="")
    model.graph.register_initializer(ir.Value(name="w", const_value=huge))
    with pytest.raises(UnsupportedError, match="2 GB"):
        write.write(model)
