"""Each engine's own split: two int8 models in one bundle, each held against its own; one where that is as good."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from edgec.compiler import Compiled, compile
from edgec.quantize.placement.costs import X86, Cost
from edgec.rebuild import rebuild
from edgec.request import Request
from edgec.stages import boards, choose, quantize, splits
from edgec_targets import profiles

LAYERS = {"first": (16, 3, 3, 3), "second": (32, 16, 3, 3), "third": (24, 32, 3, 3)}


class Fixed:
    """Kernels of given costs: what stays float takes nothing in float."""

    def __init__(self, *floats: str) -> None:
        self.floats = floats

    def node_cost(self, node: Any) -> Cost:
        """A layer's."""
        return Cost(0.0, 100.0) if node.name in self.floats else Cost(100.0, 1.0)

    def to_integer(self, value: Any) -> float:
        """A conversion's."""
        return 1.0

    def to_float(self, value: Any) -> float:
        """A conversion's."""
        return 1.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three convolutions, and inputs for it."""
    folder = tmp_path_factory.mktemp("splits")
    random = np.random.default_rng(0)
    weights = [numpy_helper.from_array(random.normal(0, 0.2, s).astype("f4"), f"w-{n}") for n, s in LAYERS.items()]
    names = ["x", "a", "b", "y"]
    nodes = [
        helper.make_node("Conv", [names[i], f"w-{name}"], [names[i + 1]], name=name, pads=[1] * 4)
        for i, name in enumerate(LAYERS)
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 24, 12, 12])], weights,
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), folder / "m.onnx")
    np.savez(folder / "calib.npz", x=random.normal(size=(8, 3, 12, 12)).astype("f4"))
    return folder


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT's kernels want the first layer in float, ONNX Runtime's the last."""
    pytest.importorskip("ai_edge_litert")
    known = {"litert": Fixed("first"), "onnxruntime": Fixed("third")}
    monkeypatch.setattr(splits, "kernels", lambda engine, board: known.get(engine))


def made(files: Path, output: Path, names: str = "rpi5", **asked: Any) -> Compiled:
    options = {"precision": "int8", "effort": "plain", **asked}
    return compile(files / "m.onnx", names, output=output, calib=f"{files}/calib.npz", **options)


@pytest.mark.usefixtures("apart")
def test_two_models_ship_and_are_rebuilt(files: Path, tmp_path: Path) -> None:
    compiled = made(files, tmp_path / "two.edge")
    report = compiled.report
    assert {p["engine"] for p in compiled.manifest["payloads"]} == {"onnxruntime", "litert"}
    assert report["left_out"] == {}
    assert report["quantization"]["worth"]["left_in_float"] == ["third"]
    assert report["quantization"]["int8.2"]["for"] == ["litert on rpi5"]
    assert report["quantization"]["int8.2"]["worth"]["left_in_float"] == ["first"]
    assert rebuild(tmp_path / "two.edge", files / "m.onnx", calib=f"{files}/calib.npz")["identical"]


@pytest.mark.usefixtures("apart")
def test_a_payload_is_held_against_its_own_model(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = choose.overall_sqnr

    def noted(expected: Any, given: Any) -> float:
        seen.append(real(expected, given))
        return seen[-1]

    monkeypatch.setattr(choose, "overall_sqnr", noted)
    made(files, tmp_path / "m.edge")
    assert len(seen) == 1
    assert seen[0] > 90  # the same integers; the other engine's model leaves other layers in float


@pytest.mark.usefixtures("apart")
def test_one_engine_alone_gets_its_own_split(files: Path, tmp_path: Path) -> None:
    for engine, floats in (("litert", "first"), ("onnxruntime", "third")):
        compiled = made(files, tmp_path / f"{engine}.edge", engines=(engine,))
        assert compiled.report["quantization"]["worth"]["left_in_float"] == [floats]
        assert "int8.2" not in compiled.report["quantization"]


def test_boards_of_two_architectures_share_what_both_take(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = quantize.quantize.quantize_with_data

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(named["worth"].dropped)
        return real(*arguments, **named)

    monkeypatch.setattr(
        splits, "kernels", lambda engine, board: Fixed("first") if engine in ("onnxruntime", "litert") else None
    )
    monkeypatch.setattr(quantize.quantize, "quantize_with_data", counted)
    made(files, tmp_path / "m.edge", "intel-n100,rpi4,rpi5")
    assert calls == [("first",)]


def test_what_is_predicted_is_in_the_report_and_orders_the_payloads(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    compiled = made(files, tmp_path / "m.edge", "rpi5,rpi3")
    found = compiled.report["predicted"]
    for board in ("rpi5", "rpi3"):
        ids = [p["id"] for p in compiled.manifest["payloads"] if p["board"] == board]
        amounts = [found[name]["instructions"] for name in ids]
        assert len(ids) == 2
        assert amounts == sorted(amounts)
        why = next(d.why for d in compiled.decisions if d.board == board)
        assert "first: about" in why
        assert "not a time" in why
    assert {row["core"] for row in found.values()} == {"dotprod", "armv8.0"}


def test_an_engine_that_can_not_run_the_model_decides_nothing(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteRT would win by far and wants another split; it is missing, so ONNX Runtime's is made."""

    class Cheap(Fixed):
        def node_cost(self, node: Any) -> Cost:
            cost = super().node_cost(node)
            return Cost(cost.in_float / 9, cost.in_integer / 9)

    known = {"litert": Cheap("first"), "onnxruntime": Fixed("third")}
    monkeypatch.setattr(splits, "kernels", lambda engine, board: known.get(engine))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
        compiled = made(files, tmp_path / "m.edge")
    assert [p["engine"] for p in compiled.manifest["payloads"]] == ["onnxruntime"]
    assert compiled.report["quantization"]["worth"]["left_in_float"] == ["third"]
    pytest.importorskip("ai_edge_litert")
    compiled = made(files, tmp_path / "n.edge")
    assert compiled.report["quantization"]["worth"]["left_in_float"] == ["first"]


def test_whose_costs_are_taken() -> None:
    rpi4, host = boards.find(Request(boards=("rpi4", "host")))
    assert splits.kernels("litert", rpi4.board) is profiles.load("litert", "armv8.0-a72")
    assert splits.kernels("another", rpi4.board) is None
    if host.board.arch == "x86_64":
        assert splits.kernels("onnxruntime", host.board) is X86
    known = profiles.load("litert", "vnni")
    assert known is not None
    assert splits.margin(known) == 2 * known.error > 0
    assert splits.margin(X86) == 0


def test_a_search_decides_for_itself(files: Path) -> None:
    request = Request(boards=("rpi5",), effort="search")
    assert splits.splits({}, boards.find(request), request) == {}
