"""The ncnn emitter: what a payload has, models that are refused, and that nothing unproven is handed on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgec_runtime.engines import ncnn
from edgec_runtime.errors import MissingError, UnsupportedError
from edgec_targets import registry
from edgec_targets.emitters.ncnn import EMITTER, ENGINE_VERSION, ops, prove
from edgec_targets.emitters.ncnn import registry as operators
from edgec_targets.emitters.ncnn.conversion import convert
from edgec_targets.memory import estimate
from tests.targets.ncnn_cases import compare, feeds, model, reference, run, single

needs_ncnn = pytest.mark.skipif(ncnn.library() is None, reason="ncnn is not installed (pip install 'edgec[ncnn]')")
RNG = np.random.default_rng(11)


def board(name: str = "rpi5", **changes: object):
    found = registry.board(name)
    return replace(found, engines={**found.engines, "ncnn": ENGINE_VERSION}, **changes)


def small() -> ir.Model:
    """A convolution, a pool and a classifier; the batch is free."""
    constants = {
        "w": RNG.standard_normal((6, 3, 3, 3)).astype(np.float32), "b": RNG.standard_normal(6).astype(np.float32),
        "v": RNG.standard_normal((6, 4)).astype(np.float32), "to": np.array([-1, 6]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Reshape", ["g", "to"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["l"]),
        helper.make_node("Softmax", ["l"], ["y"]),
    ]
    return model(nodes, {"x": ("n", 3, 8, 8)}, ["y"], constants)


@needs_ncnn
def test_what_a_payload_has():
    built = EMITTER.emit(small(), board(), precision="float32")
    assert built.engine == built.package == "ncnn" and built.numbers == "float32" and built.precision == "float32"
    assert sorted(built.files) == ["bin", "interface", "param"]
    assert built.files["param"][0] == "model.float32.ncnn.param"
    assert built.engine_version == ENGINE_VERSION and built.isa == ("asimd",) and built.portable
    assert not built.native_code and built.options == {"threads": 4, "spinning": False}
    found = estimate(small())
    assert built.memory == found.weights + 4 * 6 * 3 * 9 * 4 + 2 * found.activations  # one 3 × 3 kernel
    interface = json.loads(built.files["interface"][1])
    assert interface["inputs"] == [{"name": "x", "shape": [1, 3, 8, 8], "blob": "b0", "dims": [3, 8, 8]}]
    assert interface["outputs"][0]["shape"] == [1, 4] and interface["bin"] == len(built.files["bin"][1])
    again = EMITTER.emit(small(), board(), precision="float32")
    assert again.files["param"] == built.files["param"]


@needs_ncnn
def test_weights_that_half_precision_holds_take_half_the_bytes(tmp_path):
    made = small()
    for value in made.graph.initializers.values():
        data = value.const_value.numpy()
        if data.dtype == np.float32:
            value.const_value = ir.Tensor(data.astype(np.float16).astype(np.float32), name=value.name)
    whole, half = convert(small()), convert(made)
    tags, bias = 2 * 4, 6 * 4  # a bias has no tag, and stays as it is
    assert len(half.bin) - tags - bias == (len(whole.bin) - tags - bias) / 2
    given_, fixed = feeds(made_fixed(made)), made_fixed(made)
    assert np.allclose(run(half, tmp_path, given_)["y"], reference(fixed, given_)["y"], atol=1e-6)


def made_fixed(made: ir.Model) -> ir.Model:
    copy = made.clone()
    for value in copy.graph.inputs:
        value.shape = ir.Shape([d if isinstance(d, int) else 1 for d in value.shape])
    return copy


@needs_ncnn
def test_the_float16_form_is_stored_so_and_answers_alike(tmp_path):
    from edgec.quantize.half import to_half

    form = made_fixed(to_half(small(), kind="float16").model)
    built = EMITTER.emit(form, board(), precision="float16")
    plain = EMITTER.emit(made_fixed(small()), board(), precision="float32")
    assert built.numbers == "half" and len(built.files["bin"][1]) < 0.6 * len(plain.files["bin"][1])
    given_ = feeds(form)
    assert np.allclose(run(convert(form), tmp_path, given_)["y"], reference(form, given_)["y"], atol=1e-5)


def test_integers_are_refused():
    with pytest.raises(UnsupportedError, match="ncnn") as caught:
        EMITTER.emit(small(), board(), precision="int8")
    assert "int8" in caught.value.why and caught.value.code == "E441"


@needs_ncnn
def test_a_refusal_names_the_nodes_and_problems_lists_them_all():
    nodes = [helper.make_node("Hardmax", ["x"], [f"y{n}"], name=f"hard{n}") for n in range(6)]
    made = model(nodes, {"x": (1, 4)}, [f"y{n}" for n in range(6)])
    with pytest.raises(UnsupportedError, match=r"node hard0 \(Hardmax\) by ncnn; also hard1 .* and 2 more"):
        EMITTER.emit(made, board(), precision="float32")
    assert [p.node for p in EMITTER.problems(made, board())] == [f"hard{n}" for n in range(6)]
    assert EMITTER.problems(small(), board()) == []


@needs_ncnn
def test_a_wrong_conversion_is_never_handed_on(monkeypatch):
    """As if a layer of ncnn's meant something else than the operator."""
    ops.load()
    monkeypatch.setitem(operators.OPERATORS, "Relu", lambda ctx, node: ctx.unary(node, "Sigmoid"))
    monkeypatch.setattr(prove, "_ASKED", {})
    with pytest.raises(UnsupportedError) as caught:
        EMITTER.emit(small(), board(), precision="float32")
    assert "dB from ONNX Runtime's" in caught.value.why


@needs_ncnn
@pytest.mark.parametrize(
    ("program", "words"),
    [("import os; os.abort()", "status -6"), ("raise MemoryError('no memory left')", "no memory left")],
)
def test_a_crash_of_ncnns_is_a_refusal(monkeypatch, program, words):
    monkeypatch.setattr(prove, "_RUN", program)
    monkeypatch.setattr(prove, "_ASKED", {})
    with pytest.raises(UnsupportedError) as caught:
        EMITTER.emit(small(), board(), precision="float32")
    assert words in caught.value.why


@needs_ncnn
def test_a_run_without_an_end_is_a_refusal(monkeypatch):
    monkeypatch.setattr(prove, "_RUN", "import time; time.sleep(60)")
    monkeypatch.setattr(prove, "_SECONDS", 0.2)
    monkeypatch.setattr(prove, "_ASKED", {})
    with pytest.raises(UnsupportedError) as caught:
        EMITTER.emit(small(), board(), precision="float32")
    assert "more than 0.2 seconds" in caught.value.why


@needs_ncnn
def test_a_full_disk_is_a_refusal(monkeypatch):
    """The other payloads still ship; what is left of the disk is the bundle's business."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prove, "_run", full)
    monkeypatch.setattr(prove, "_ASKED", {})
    with pytest.raises(UnsupportedError) as caught:
        EMITTER.emit(small(), board(), precision="float32")
    assert "could not be tried" in caught.value.why and "No space left" in caught.value.why


@needs_ncnn
def test_a_board_must_name_the_engine_and_a_release_that_is_proven():
    with pytest.raises(UnsupportedError) as caught:
        EMITTER.emit(small(), replace(board(), engines={"onnxruntime": ">=1"}), precision="float32")
    assert "names no ncnn versions" in caught.value.why
    with pytest.raises(UnsupportedError) as caught:
        EMITTER.emit(small(), replace(board(), engines={"ncnn": "<1"}), precision="float32")
    assert "the board's releases are <1" in caught.value.why


def test_without_the_package_there_is_no_payload(monkeypatch):
    import edgec_targets.emitters.ncnn as emitter

    def missing(name):
        raise emitter.PackageNotFoundError(name)

    monkeypatch.setattr(emitter, "version", missing)
    with pytest.raises(MissingError, match="ncnn is not installed") as caught:
        EMITTER.emit(small(), board(), precision="float32")
    assert caught.value.code == "E1042" and "edgec[ncnn]" in caught.value.fix


@pytest.mark.parametrize(
    ("wanted", "found", "decibels"),
    [
        ([1.0, 2.0], [1.0, 2.0], np.inf),
        ([1.0, np.nan], [1.0, np.nan], np.inf),
        ([1.0, np.inf], [1.0, -np.inf], -np.inf),
        ([1.0, 1.0], [1.0, np.nan], -np.inf),
        ([1.0], [1.0, 1.0], -np.inf),
        ([0.0, 0.0], [0.0, 0.0], np.inf),
    ],
)
def test_what_counts_as_alike(wanted, found, decibels):
    assert prove.sqnr(np.array(wanted, np.float32), np.array(found, np.float32)) == decibels


def test_what_lies_between_0_and_1_is_judged_on_that_scale():
    wanted, found = np.full(9, 1e-6, np.float32), np.full(9, 1.3e-6, np.float32)
    assert prove.sqnr(wanted, found) < 20 and prove.sqnr(wanted, found, 1e-3) > 60
    assert prove.sqnr(np.ones(9, np.float32), np.full(9, 0.9, np.float32), 1e-3) < 30


@st.composite
def networks(draw) -> ir.Model:
    """Convolutions, pools, activations and branches that join again: up to eight layers."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    channels, height, width = draw(st.integers(1, 20)), draw(st.integers(5, 16)), draw(st.integers(5, 16))
    shape = (channels, height, width)
    nodes, constants, name, seen = [], {}, "x", {(channels, height, width): ["x"]}
    for n in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["conv", "depthwise", "act", "add", "gate", "pool", "norm", "concat", "upsample"]))
        channels, height, width = shape
        out = f"v{n}"
        if kind == "conv":
            units, size = draw(st.integers(1, 24)), draw(st.sampled_from([1, 3, 5]))
            strides = draw(st.sampled_from([[1, 1], [2, 2], [2, 1]]))
            kernel = rng.standard_normal((units, channels, size, size)) / np.sqrt(channels * size * size)
            constants |= {f"w{n}": kernel.astype(np.float32), f"b{n}": rng.standard_normal(units).astype(np.float32)}
            more = {"pads": [size // 2] * 4, "strides": strides}
            nodes.append(helper.make_node("Conv", [name, f"w{n}", f"b{n}"], [out], **more))
            shape = (units, (height - 1) // strides[0] + 1, (width - 1) // strides[1] + 1)
        elif kind == "depthwise":
            constants[f"w{n}"] = (rng.standard_normal((channels, 1, 3, 3)) / 3).astype(np.float32)
            nodes.append(helper.make_node("Conv", [name, f"w{n}"], [out], group=channels, pads=[1] * 4))
        elif kind == "act":
            op = draw(st.sampled_from(["Relu", "HardSwish", "Sigmoid", "LeakyRelu", "HardSigmoid", "Tanh"]))
            nodes.append(helper.make_node(op, [name], [out]))
        elif kind == "add":
            nodes.append(helper.make_node("Add", [name, draw(st.sampled_from(seen[shape]))], [out]))
        elif kind == "gate":
            nodes += [
                helper.make_node("GlobalAveragePool", [name], [f"g{n}"]),
                helper.make_node("HardSigmoid", [f"g{n}"], [f"s{n}"]),
                helper.make_node("Mul", [name, f"s{n}"], [out]),
            ]
        elif kind == "pool":
            op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
            nodes.append(helper.make_node(op, [name], [out], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))
            shape = (channels, (height - 1) // 2 + 1, (width - 1) // 2 + 1)
        elif kind == "norm":
            names = [f"{word}{n}" for word in ("scale", "offset", "mean", "variance")]
            constants |= {key: rng.uniform(0.5, 1.5, channels).astype(np.float32) for key in names}
            nodes.append(helper.make_node("BatchNormalization", [name, *names], [out]))
        elif kind == "concat":
            other = draw(st.sampled_from(seen[shape]))
            nodes.append(helper.make_node("Concat", [name, other], [out], axis=1))
            shape = (2 * channels, height, width)
        else:
            constants[f"k{n}"] = np.array([1, 1, 2, 2], np.float32)
            places = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            nodes.append(helper.make_node("Resize", [name, "", f"k{n}"], [out], mode="nearest", **places))
            shape = (channels, 2 * height, 2 * width)
        name = out
        seen.setdefault(shape, []).append(name)
    start = next(iter(seen))
    return model(nodes, {"x": (1, *start)}, [name], constants)


@needs_ncnn
@settings(max_examples=40)
@given(network=networks())
def test_random_networks_answer_as_onnx_runtime(network, tmp_path_factory):
    compare(network, tmp_path_factory.mktemp("net"), least=85.0)


@needs_ncnn
@pytest.mark.parametrize("case", ["dscnn_kws", "resnet8_cifar10", "ppocr_cls", "silero_vad", "ultraface"])
def test_models_of_the_zoo(zoo, case):
    made = ir.load(zoo(case) / "model.onnx")
    assert EMITTER.problems(made, board()) == []


@needs_ncnn
def test_a_transformer_of_text_is_refused_with_the_input(zoo):
    made = ir.load(zoo("minilm_sts") / "model.onnx")
    assert "float32" in EMITTER.problems(made, board())[0].why


@needs_ncnn
def test_a_single_operator_goes_the_whole_way():
    assert EMITTER.problems(single("Relu", [(1, 3, 4, 4)]), board()) == []
