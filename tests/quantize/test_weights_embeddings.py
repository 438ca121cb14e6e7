"""Embedding tables in integers: the same rows up to rounding, wherever they are read, and nothing else touched."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgec.errors import UsageError
from edgec.quantize.session import Session
from edgec.quantize.weights.embeddings import quantize_embeddings


def model(
    nodes: list, table: np.ndarray, *, opset: int = 17, ids: tuple = (2, 3), more: dict | None = None
) -> ir.Model:
    """A model of int64 `ids` and a constant `table`, giving `y`."""
    kind = helper.np_dtype_to_tensor_dtype(table.dtype)
    constants = {"table": table, **(more or {})}
    graph = helper.make_graph(
        [helper.make_node(op, i, o, **a) for op, i, o, a in nodes],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ids)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    proto = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    )
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


GATHER = [("Gather", ["table", "ids"], ["y"], {})]


def normal(rows: int, features: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, features)).astype(dtype)


def outputs(m: ir.Model, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By onnxruntime and by ONNX's reference operators."""
    proto = ir.to_proto(m)
    onnx.checker.check_model(proto, full_check=True)
    return Session(m).run({"ids": ids})[0], np.asarray(ReferenceEvaluator(proto).run(None, {"ids": ids})[0])


@settings(max_examples=25)
@given(
    bits=st.sampled_from([8, 6, 5, 4]),
    features=st.sampled_from([16, 24, 33, 50, 96]),
    group=st.sampled_from([None, 8, 16, 48]),
    seed=st.integers(0, 9),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
)
def test_rows_come_back_within_half_a_step_and_alike_in_both_runtimes(bits, features, group, seed, scale):
    table = normal(8192 // 16, features, seed) * np.float32(scale)
    made = quantize_embeddings(model(GATHER, table), bits=bits, group=group)
    ids = np.random.default_rng(seed).integers(-len(table), len(table), (2, 3))
    ours, reference = outputs(made.model, ids)
    np.testing.assert_array_equal(ours, reference)
    width = features if "/" not in made.formats["table"] else int(made.formats["table"].split("/")[1])
    largest = np.abs(table[ids].reshape(2, 3, features // width, width)).max(-1)
    steps = {"8": 127, "6": 31, "5": 15, "4": 7}[made.formats["table"][3]]
    # Clipped ranges trade a larger error of the largest for a smaller one of the others: at most 0.4 of it.
    worst = np.abs(ours - table[ids]).reshape(2, 3, -1, width).max(-1)
    assert (worst <= largest * (0.501 / steps + {127: 0.1, 31: 0.2, 15: 0.3, 7: 0.4}[steps])).all()
    noise = float(np.square(ours - table[ids]).sum() / np.square(table[ids]).sum())
    assert 10 * np.log10(noise) < {127: -35, 31: -26, 15: -21, 7: -16}[steps]


def test_file_shrinks_to_the_bytes_that_are_promised():
    made8 = quantize_embeddings(model(GATHER, normal(2000, 64)))
    made4 = quantize_embeddings(model(GATHER, normal(2000, 64)), bits=4)
    assert made8.bytes_before == 2000 * 64 * 4
    assert made8.bytes_after == 2000 * 64 + 2000 * 4
    assert made4.bytes_after == 2000 * 32 + 2000 * 4 * 2
    for made in (made8, made4):
        size = len(ir.to_proto(made.model).SerializeToString())
        assert made.bytes_after < size < made.bytes_after + 2500
        assert "table" not in made.model.graph.initializers


def test_two_gathers_share_one_table():
    nodes = [
        ("Gather", ["table", "ids"], ["a"], {}),
        ("Gather", ["table", "zero"], ["b"], {"axis": -2}),
        ("Add", ["a", "b"], ["y"], {}),
    ]
    m = model(nodes, normal(600, 32), more={"zero": np.array([0], np.int64)})
    made = quantize_embeddings(m)
    assert [k for k in made.model.graph.initializers if k.startswith("table")] == ["table_int8", "table_scale"]
    ids = np.arange(6).reshape(2, 3)
    ours, _ = outputs(made.model, ids)
    np.testing.assert_allclose(ours, Session(m).run({"ids": ids})[0], atol=0.06)


def test_tied_output_layer_reads_the_same_integers():
    nodes = [
        ("Gather", ["table", "ids"], ["a"], {}),
        ("Transpose", ["table"], ["t"], {"perm": [1, 0]}),
        ("MatMul", ["a", "t"], ["y"], {}),
    ]
    m = model(nodes, normal(600, 32), opset=21)
    for bits in (8, 4):
        made = quantize_embeddings(m, bits=bits)
        assert made.formats == {"table": "int8"}
        ids = np.arange(6).reshape(2, 3)
        ours, reference = outputs(made.model, ids)
        np.testing.assert_allclose(ours, reference, rtol=1e-4, atol=1e-4)
        expected = Session(m).run({"ids": ids})[0]
        assert 10 * np.log10(np.square(ours - expected).sum() / np.square(expected).sum()) < -35


@pytest.mark.parametrize("bits", [8, 4])
def test_float16_tables_give_float16(bits):
    table = normal(600, 32, dtype=np.float16) * np.float16(1e-3)  # scales are subnormal in float16
    made = quantize_embeddings(model(GATHER, table), bits=bits)
    ours, reference = outputs(made.model, np.arange(6).reshape(2, 3))
    assert ours.dtype == np.float16
    np.testing.assert_array_equal(ours, reference)
    expected = table[:6].reshape(2, 3, 32).astype(np.float64)
    assert np.square(ours - expected).sum() < np.square(expected).sum() * (1e-3 if bits == 8 else 0.03)


def test_scalar_ids_and_a_row_of_zeros():
    table = normal(600, 32)
    table[5] = 0
    for bits in (8, 6, 5, 4):
        ours, _ = outputs(quantize_embeddings(model(GATHER, table, ids=()), bits=bits).model, np.array(5))
        np.testing.assert_array_equal(ours, np.zeros(32, np.float32))


def test_what_stays_float_and_why():
    def why(table: np.ndarray, **kwargs) -> str:
        m = model(GATHER, table)
        made = quantize_embeddings(m, **kwargs)
        assert ir.to_proto(made.model).SerializeToString() == ir.to_proto(m).SerializeToString()
        return made.skipped["table"]

    assert why(normal(10, 32)).startswith("small")
    assert why(normal(9000, 4)).startswith("its rows are short")
    assert why(normal(600, 32), exclude=["table"]) == "excluded"
    bad = normal(600, 32)
    bad[3, 3] = np.nan
    assert why(bad) == "it holds NaN or infinity"


def test_a_table_read_in_a_body_stays_float():
    body = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["inner"])],
        "body",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    nodes = [
        ("If", ["yes"], ["z"], {"then_branch": body, "else_branch": body}),
        ("Gather", ["table", "ids"], ["a"], {}),
    ]
    m = model([*nodes, ("Add", ["a", "z"], ["y"], {})], normal(600, 32), more={"yes": np.array(True)})
    assert "Loop" in quantize_embeddings(m).skipped["table"]


def test_arguments_that_make_no_sense():
    m = model(GATHER, normal(600, 32))
    with pytest.raises(UsageError):
        quantize_embeddings(m, bits=3)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        quantize_embeddings(m, group=0)


def test_names_that_are_taken_already():
    nodes = [("Gather", ["table", "ids"], ["y_float"], {}), ("Identity", ["y_float"], ["y"], {})]
    m = model(nodes, normal(600, 32), more={"table_int8": np.zeros(1, np.float32)})
    outputs(quantize_embeddings(m).model, np.zeros((2, 3), np.int64))


def test_minilm_table_in_bytes(zoo):
    m = ir.load(zoo("minilm_sts") / "model.onnx")
    made = quantize_embeddings(m)
    assert made.formats["m.embeddings.word_embeddings.weight"] == "int8"
    assert made.bytes_after < 0.27 * made.bytes_before
