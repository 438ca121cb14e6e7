"""Every precision by its name: made from the command line, compiled into a bundle, run, and made again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from click.testing import CliRunner

import edgec_runtime as rt
from edgec import data, quantize
from edgec.cli import edgec as group
from edgec.compiler import compile
from edgec.errors import BudgetError, UsageError
from edgec.quantize import forms
from edgec.rebuild import rebuild
from edgec.request import FORMS, Request
from edgec_runtime import selftest

# dB that each form surely has on a small network of noise.
LEAST = {
    "int8-dynamic": 25, "int8-weights": 35, "int4-weights": 12, "float16": 60, "bfloat16": 40, "int16x8": 30,
}  # fmt: skip
RANDOM = np.random.default_rng(3)
FEEDS = [RANDOM.normal(size=(1, 64)).astype(np.float32) for _ in range(16)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forms")
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[b,64] x) => (float[b,32] y) {
            a = MatMul (x, w)  r = Relu(a)  y = Gemm (r, v, c) }"""
    )
    for name, shape in (("w", (64, 256)), ("v", (256, 32)), ("c", (32,))):
        array = (RANDOM.normal(size=shape) * 0.1).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "calib.npz", x=np.concatenate(FEEDS))
    return folder


def answers(content: bytes) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return [session.run(None, {"x": x})[0] for x in FEEDS]


@pytest.fixture(scope="module")
def expected(files: Path) -> list[np.ndarray]:
    return answers((files / "model.onnx").read_bytes())


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("with_data", [True, False], ids=["data", "no data"])
def test_edgec_quantize_writes_each(name: str, with_data: bool, files: Path, expected, tmp_path: Path) -> None:
    if not with_data and name in forms.NEED_DATA:
        pytest.skip("it needs data")
    output = tmp_path / "q.onnx"
    flags = ["--calib", str(files / "calib.npz")] if with_data else []
    done = CliRunner().invoke(
        group, ["quantize", str(files / "model.onnx"), "-o", str(output), "--precision", name, "--json", *flags]
    )
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["bytes"] == output.stat().st_size and answer["method"]
    if name != "int16x8":
        assert answer["bytes"] < 0.62 * answer["source_bytes"]
    assert data.sqnr_db(expected, answers(output.read_bytes())) > LEAST[name]


@pytest.mark.parametrize("name", FORMS)
def test_a_bundle_ships_the_form_that_was_asked_for(name: str, files: Path, expected, tmp_path: Path) -> None:
    made = compile(
        files / "model.onnx", "host,rpi4", output=tmp_path / "m.edge", calib=str(files / "calib.npz"), precision=name
    )
    assert {p["precision"] for p in made.manifest["payloads"]} == {name}
    assert {d.precision for d in made.decisions} == {name} and "without a budget" in made.decisions[0].why
    assert made.report["quantization"][name]
    with rt.load(tmp_path / "m.edge") as model:
        got = [model.run({"x": x})["y"] for x in FEEDS]
    assert data.sqnr_db(expected, got) > LEAST[name]
    assert {p["result"] for p in selftest.bundle(tmp_path / "m.edge")["payloads"]} == {"passed"}


def test_a_form_is_rebuilt_to_the_same_bytes(files: Path, tmp_path: Path) -> None:
    calib = str(files / "calib.npz")
    compile(files / "model.onnx", "host,rpi4", output=tmp_path / "m.edge", calib=calib, precision="int8-dynamic")
    again = rebuild(tmp_path / "m.edge", model=files / "model.onnx", calib=calib)
    assert again["identical"]


def test_a_budget_holds_for_every_form(files: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="int4-weights does not keep the budget"):
        compile(
            files / "model.onnx", "rpi4", output=tmp_path / "m.edge", calib=str(files / "calib.npz"),
            precision="int4-weights", max_drop="0", eval=nearness(answers((files / "model.onnx").read_bytes())),
        )  # fmt: skip
    assert not (tmp_path / "m.edge").exists()


def nearness(expected: list[np.ndarray]) -> data.Evaluation:
    def evaluate(run):
        errors = [np.abs(run({"x": x})[0] - y).max() / np.abs(y).max() for x, y in zip(FEEDS, expected, strict=True)]
        return {"metric": "nearness", "value": 1 - float(np.mean(errors)), "n": len(errors)}

    return data.Evaluation(evaluate, "nearness")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--precision", "int16x8"], "needs calibration data"),
        (["--precision", "int8"], "needs calibration data"),
        (["--precision", "float16", "--method", "mse"], "--method would be ignored"),
        (["--precision", "float16", "--effort", "plain"], "--effort would be ignored"),
        (["--precision", "float16", "--weight-bits", "7"], "--weight-bits would be ignored"),
        (["--precision", "float16", "--max-bytes", "9"], "--max-bytes would be ignored"),
        (["--precision", "int8-dynamic", "--placement", "tensorrt"], "--placement would be ignored"),
        (["--precision", "int8-dynamic", "--effort", "search"], "does not look for"),
        (["--precision", "int4-weights", "--exclude", "nothing"], "nothing is called"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_what_makes_no_sense_is_refused(flags: list[str], words: str, files: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(group, ["quantize", str(files / "model.onnx"), "-o", str(tmp_path / "q.onnx"), *flags])
    assert isinstance(done.exception, UsageError) and words in str(done.exception.what)
    assert not (tmp_path / "q.onnx").exists()


def test_a_search_is_int8s() -> None:
    with pytest.raises(UsageError, match="does not look for"):
        Request(("host",), precision="float16", effort="search")


def test_auto_tries_dynamic_int8_where_weights_are_mostly_matrices(files: Path) -> None:
    assert forms.mostly_products(ir.load(files / "model.onnx"))
    conv = ir.from_proto(
        onnx.helper.make_model(
            onnx.helper.make_graph(
                [onnx.helper.make_node("Conv", ["x", "w"], ["y"])], "g",
                [onnx.helper.make_tensor_value_info("x", 1, (1, 3, 8, 8))],
                [onnx.helper.make_tensor_value_info("y", 1, None)],
                [onnx.numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")],
            )
        )
    )  # fmt: skip
    assert not forms.mostly_products(conv)


def test_seven_bits_where_products_may_saturate(files: Path) -> None:
    model = ir.load(files / "model.onnx")
    for narrow, bits in ((True, 7), (False, 8)):
        made = forms.make("int8-dynamic", model, forms.Wish(narrow=narrow))
        assert made.report["weight_bits"] == bits
        weights = [t for v in made.model.graph.initializers.values() if (t := v.const_value).dtype == ir.DataType.INT8]
        assert max(np.abs(t.numpy().astype(int)).max() for t in weights) == quantize.Scheme(weight_bits=bits).weight_max
