"""Profiles: least squares, what files are read as, which core a board has, and predictions that order engines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import edgec_targets
from edgec_targets import profiles
from edgec_targets.profiles import onnx_file, tflite
from edgec_targets.profiles.features import features
from edgec_targets.profiles.fit import fit, nonnegative
from edgec_targets.profiles.work import Work, depthwise, pair
from edgec_targets.types import Board, Built

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "kernel_counts.json"
CORES = ("armv8.0", "armv8.0-a72", "dotprod", "i8mm")


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 12), columns=st.integers(1, 6))
def test_least_squares_meet_the_conditions_of_an_optimum(seed: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    matrix, target = random.normal(size=(rows, columns)), random.normal(size=rows)
    found = nonnegative(matrix, target)
    gradient = matrix.T @ (matrix @ found - target)
    assert (found >= 0).all()
    assert (gradient >= -1e-6).all()  # no direction upwards helps
    assert abs(float(gradient @ found)) < 1e-6  # and none that is in use


def test_least_squares_of_a_feature_that_is_nowhere() -> None:
    assert nonnegative(np.zeros((3, 2)), np.ones(3)).tolist() == [0, 0]


def test_fit_finds_tile_and_coefficients() -> None:
    tiles = {"conv int8": (4, 16, 4), "call float": (1, 1, 1)}
    truth = {"call float call": 12_000.0, "conv int8 tile step": 21.0, "conv int8 tile": 60.0}
    counted = []
    for m in (1, 3, 4, 9, 16, 30, 64):
        for n in (4, 16, 24, 40):
            for k in (3, 8, 32, 100):
                work = [Work("call", "float", 1), Work("conv", "int8", m, n, k)]
                counted.append(
                    (work, sum(truth.get(f, 0) * a for one in work for f, a in features(one, tiles).items()))
                )
    found = fit(counted)
    assert found.tiles["conv int8"] == (4, 16, 4)
    assert np.abs(found.errors).max() < 1e-6


def test_fit_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        fit([])


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
@pytest.mark.parametrize("core", CORES)
def test_committed_profiles_are_sound(engine: str, core: str) -> None:
    profile = profiles.load(engine, core)
    assert profile is not None
    assert profile.unit == "instructions"
    assert profile.error < 0.1
    assert profile.versions["emulator"].startswith("qemu")
    assert all(np.isfinite(c) and c >= 0 for c in profile.coefficients.values())
    for kind in ("conv", "product"):
        assert profile.knows(f"{kind} float")
    assert profile.knows("conv int8")


def test_integers_take_fewer_instructions_the_newer_the_core() -> None:
    work = Work("conv", "int8", 196, 64, 64, 9, 1, 14, True)
    for engine in ("onnxruntime", "litert"):
        found = [profiles.load(engine, core) for core in ("armv8.0", "dotprod", "i8mm")]
        first, second, third = (profile.work(work) for profile in found if profile is not None)
        assert first > 1.5 * second
        assert second > third


@settings(deadline=None, max_examples=40)
@given(
    m=st.integers(2, 400), n=st.integers(1, 300), k=st.integers(1, 300), taps=st.sampled_from([1, 9, 25]),
    engine=st.sampled_from(["onnxruntime", "litert"]), numbers=st.sampled_from(["float", "int8"]),
)  # fmt: skip
def test_twice_the_rows_are_more_and_at_most_twice_the_work(
    m: int, n: int, k: int, taps: int, engine: str, numbers: Any
) -> None:
    profile = profiles.load(engine, "dotprod")
    assert profile is not None
    once = profile.work(Work("conv", numbers, 8 * m, n, k, taps, 1, 1, taps > 1))
    twice = profile.work(Work("conv", numbers, 16 * m, n, k, taps, 1, 1, taps > 1))
    assert once < twice <= 2 * once + 1


@pytest.mark.parametrize(
    ("name", "core"),
    [
        ("rpi-zero2w", "armv8.0"),
        ("rpi4", "armv8.0-a72"),
        ("rpi5", "dotprod"),
        ("generic-armv8.0", "armv8.0"),
        ("generic-armv8.6-i8mm", "i8mm"),
        ("rk3588", "dotprod"),
        ("intel-n100", ""),
    ],
)
def test_cores_of_boards(name: str, core: str) -> None:
    board = edgec_targets.board(name)
    assert profiles.core(board) == core
    assert (profiles.find("litert", board) is not None) == bool(core)
    assert profiles.find("an engine", board) is None


def test_engines_without_a_profile_come_last_in_the_order_given() -> None:
    board = edgec_targets.board("rpi5")
    several = [replace(_built(name), engine=name) for name in ("later", "sooner", "onnxruntime")]
    assert profiles.rank(board, several, ["onnxruntime", "sooner", "later"]) == ("onnxruntime", "sooner", "later")


def test_a_file_that_can_not_be_read_has_no_estimate() -> None:
    board = edgec_targets.board("rpi5")
    assert profiles.estimate(replace(_built("onnxruntime"), files={"model": ("m.onnx", b"no model")}), board) is None
    assert profiles.estimate(replace(_built("onnxruntime"), files={}), board) is None


def test_words_say_who_is_first_and_that_it_is_no_time() -> None:
    found = {
        "onnxruntime": profiles.Estimate(79.3e6, "instructions", "dotprod"),
        "litert": profiles.Estimate(64.4e6, "instructions", "dotprod"),
    }
    words = profiles.words(found)
    assert words.startswith("LiteRT first: about 64.4 M predicted for Cortex-A76-class cores, ONNX Runtime 79.3 M")
    assert "not a time" in words
    assert profiles.words({"litert": found["litert"]}) == ""


def test_what_was_not_counted_is_said() -> None:
    profile = profiles.load("litert", "dotprod")
    assert profile is not None
    found = profile.total([Work("call", "float", 1), Work("unheard_of", "float", 1000, 10)])
    assert found.guessed == ("unheard_of float",)
    assert found.amount > profile.work(Work("call", "float", 1))
    assert found.as_dict() == {
        "instructions": round(found.amount),
        "core": "dotprod",
        "guessed": ["unheard_of float"],
    }


def test_pairs_and_depthwise_kernels() -> None:
    assert [pair(s) for s in ((6, 6), (6, 1), (6, 3), (1, 1))] == ["wide", "number", "narrow", "wide"]
    assert depthwise([3, 3], [1, 1]) == "plain"
    assert depthwise([5, 5], [1, 1]) == depthwise([3, 3], [2, 1]) == "planes"
    assert depthwise([3, 3], [2, 2]) == "strided"


def test_onnx_files_are_read_as_onnxruntime_runs_them() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 4, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["y"]),
    ]
    work = onnx_file.work(_onnx(nodes, {"w": weight}, [1, 4, 10, 12], [1, 8, 1, 1]))
    assert [w.name for w in work] == ["call float", "conv.strided float", "globalaveragepool float"]
    conv = work[1]
    assert (conv.m, conv.n, conv.k, conv.taps, conv.lines, conv.gathered) == (30, 8, 4, 9, 5, True)


def test_free_sizes_count_as_one() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    work = onnx_file.work(_onnx(nodes, {"w": np.ones((5, 7), np.float32)}, ["batch", 5], ["batch", 7]))
    assert (work[1].m, work[1].n, work[1].k) == (1, 7, 5)


def test_tflite_files_are_read_operator_by_operator() -> None:
    pytest.importorskip("ai_edge_litert")
    from edgec_targets.emitters.litert import write

    weight = np.random.default_rng(0).normal(size=(8, 1, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"], pads=[1] * 4, group=8),
        helper.make_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]),
    ]
    model = onnx.load_from_string(_onnx(nodes, {"w": weight}, [1, 6, 5, 8], [1, 6, 5, 8]))
    work = tflite.work(write(ir.from_proto(model)))
    assert [w.name for w in work] == ["call float", "depthwise float"]
    assert (work[1].m, work[1].n, work[1].taps) == (30, 8, 9)


def test_a_function_between_conversions_is_a_table() -> None:
    pytest.importorskip("ai_edge_litert")
    from edgec_targets.emitters.litert import write

    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Reshape", ["q", "shape"], ["m"]),
        helper.make_node("DequantizeLinear", ["m", "s", "z"], ["d"]),
        helper.make_node("HardSwish", ["d"], ["h"]),
        helper.make_node("QuantizeLinear", ["h", "s", "z"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "s", "z"], ["y"]),
    ]
    constants = {"s": np.float32(0.05), "z": np.uint8(128), "shape": np.array([4, 16])}
    work = tflite.work(write(ir.from_proto(onnx.load_from_string(_onnx(nodes, constants, [8, 8], [4, 16])))))
    names = [w.name for w in work]
    assert names.count("table int8") == 1
    assert "hard_swish float" not in names


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
@pytest.mark.parametrize("op", ["Add", "Concat", "MaxPool", "Relu", "HardSwish", "Reshape", "Gemm"])
def test_layers_have_costs_before_anything_is_decided(engine: str, op: str) -> None:
    profile = profiles.load(engine, "armv8.0")
    x = ir.Value(name="x", shape=ir.Shape([1, 16]), type=ir.TensorType(ir.DataType.FLOAT))
    w = ir.Value(
        name="w",
        shape=ir.Shape([16, 16]),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.tensor(np.ones((16, 16), np.float32)),
    )
    node = ir.Node("", op, [x, w if op == "Gemm" else x][: 2 if op in ("Add", "Concat", "Gemm") else 1])
    node.outputs[0].shape = ir.Shape([1, 16])
    assert profile is not None
    cost = profile.node_cost(node)
    assert cost.in_float >= 0
    assert cost.in_integer >= 0
    assert profile.to_integer(x) > 0
    assert (profile.to_float(x) > 0) == (op != "HardSwish" or engine != "litert")  # XNNPACK looks it up


def test_predictions_of_the_zoo_hold() -> None:
    """As committed by `python -m benchmarks.kernel_counts show`: amounts within a tenth or so, winners right."""
    rows = json.loads(RESULTS.read_text())["figures"]
    assert len(rows) >= 50
    assert not [row for row in rows if row["winner"] == "WRONG"]
    ratios = np.array([row[engine]["ratio"] for row in rows for engine in ("onnxruntime", "litert")])
    assert np.median(np.abs(ratios - 1)) < 0.03
    assert np.abs(ratios - 1).max() < 0.12


def _built(engine: str) -> Built:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return Built(engine, "float32", {"model": ("m.onnx", _onnx(nodes, {}, [1, 4], [1, 4]))}, ">=1", 21)


def _onnx(nodes: list[Any], constants: dict[str, Any], given: list[Any], made: list[Any]) -> bytes:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, made)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return bytes(model.SerializeToString())


def test_boards_of_one_core_class_share_a_profile() -> None:
    boards = [edgec_targets.board(name) for name in ("rpi3", "imx8mp")]
    assert all(isinstance(board, Board) for board in boards)
    assert profiles.find("litert", boards[0]) is profiles.find("litert", boards[1])
