"""ConvTranspose that only enlarges runs in integers, as a convolution and a move; others stay as they are."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgec import quantize as q
from edgec.data import sqnr_db
from edgec.quantize.placement import rules
from edgec.quantize.session import Session

R = np.random.default_rng(5)
W1 = R.normal(0, 0.2, (16, 16, 1, 1)).astype(np.float32)
UP = R.normal(0, 0.2, (16, 12, 2, 2)).astype(np.float32)
W2 = R.normal(0, 0.2, (8, 12, 1, 1)).astype(np.float32)
B = R.normal(0, 1, 12).astype(np.float32)


def decoder(build, up, attributes=None, after=(), weights=None, shape=(1, 16, 6, 5)):
    """Conv, ConvTranspose, what comes after it, Conv."""
    last = after[-1][2][0] if after else "t"
    return build(
        [
            ("Conv", ["x", "w1"], ["c"], {}, "before"),
            ("ConvTranspose", ["c", "up", "b"], ["t"], {"strides": [2, 2], **(attributes or {})}, "up"),
            *after,
            ("Conv", [last, "w2"], ["y"], {}, "behind"),
        ],
        {"x": list(shape)},
        ["y"],
        {"w1": W1, "up": up, "b": B[: up.shape[1]], "w2": W2, **(weights or {})},
    )


def quantized(model, data, **options):
    made = q.quantize_with_data(model, data, effort="plain", arch="", **options).model
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    return made


AFTER = {
    "nothing": ((), {}),
    "Relu": ((("Relu", ["t"], ["r"], {}, "act"),), {}),
    "Clip": ((("Clip", ["t", "lo", "hi"], ["r"], {}, "act"),), {"lo": np.float32(0), "hi": np.float32(1)}),
    "Sigmoid": ((("Sigmoid", ["t"], ["r"], {}, "act"),), {}),
    "HardSwish": ((("HardSwish", ["t"], ["r"], {}, "act"),), {}),
}


@pytest.mark.parametrize("name", list(AFTER))
def test_it_runs_in_integers_with_its_activation(build, feeds, name):
    after, weights = AFTER[name]
    model = decoder(build, UP, after=after, weights=weights)
    data = feeds(model)
    made = quantized(model, data)
    report = q.fusion_report(made)
    assert report.integer["QLinearConv"] == 3 and report.unfused == report.float_layers == ()
    assert (report.quantize, report.dequantize) == ((2, 2) if name == "HardSwish" else (1, 1))
    assert report.integer.get("QLinearSigmoid", 0) == (name == "Sigmoid")
    feed = next(iter(data))
    assert sqnr_db(Session(model).run(feed), Session(made).run(feed)) > 28
    assert "up" not in made.graph.initializers and "ConvTranspose" not in [n.op_type for n in made.graph]
    assert not any("range_of" in key for n in made.graph for v in n.outputs for key in v.metadata_props)
    again = quantized(model, data)
    assert ir.to_proto(again).SerializeToString() == ir.to_proto(made).SerializeToString()


@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (4, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_float_form_gives_the_same_numbers(build, kernel, bias):
    up = R.normal(0, 0.2, (16, 12, *kernel)).astype(np.float32)
    model = decoder(build, up, {"strides": list(kernel)}, AFTER["Relu"][0])
    if not bias:
        layer = next(n for n in model.graph if n.op_type == "ConvTranspose")
        layer.replace_input_with(2, None)
        layer.resize_inputs(2)
        del model.graph.initializers["b"]
    copy = model.clone()
    assignment = q.assign(copy)
    rules("onnxruntime").prepare(copy, assignment)
    kinds = [n.op_type for n in copy.graph]
    assert "ConvTranspose" not in kinds and kinds.index("Relu") == kinds.index("Transpose") - 1
    onnx.checker.check_model(ir.to_proto(copy), full_check=True)
    assert all(name in assignment for node in copy.graph for name in [node.name])
    x = R.normal(0, 1, (1, 16, 6, 5)).astype(np.float32)
    a, b = Session(model, optimize=False).run({"x": x})[0], Session(copy, optimize=False).run({"x": x})[0]
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_free_batch(build, feeds):
    model = decoder(build, UP, shape=("n", 16, 6, 5))
    data = feeds(model)
    made = quantized(model, data)
    x = R.normal(0, 1, (3, 16, 6, 5)).astype(np.float32)
    assert sqnr_db(Session(model).run({"x": x}), Session(made).run({"x": x})) > 25


@pytest.mark.parametrize(
    ("up", "attributes", "shape"),
    [
        (R.normal(0, 0.2, (16, 12, 3, 3)).astype(np.float32), {}, (1, 16, 6, 5)),  # products meet
        (UP, {"pads": [0, 0, 1, 1]}, (1, 16, 6, 5)),
        (R.normal(0, 0.2, (16, 6, 2, 2)).astype(np.float32), {"group": 2}, (1, 16, 6, 5)),
        (UP, {}, (1, 16, "h", 5)),
        (UP, {"output_padding": [1, 1]}, (1, 16, 6, 5)),
    ],
    ids=["overlap", "pads", "groups", "free height", "output padding"],
)
def test_what_is_more_than_that_stays_float(build, feeds, up, attributes, shape):
    model = decoder(build, up, attributes, shape=shape)
    if attributes.get("group"):
        model.graph.initializers["b"].const_value = ir.Tensor(np.tile(B[:6], 2), name="b")
        model.graph.initializers["b"].shape = ir.Shape([12])
    data = feeds(model, shapes={"x": [1, 16, 6, 5]})
    made = quantized(model, data)
    assert q.fusion_report(made).float_layers == ("up",)
    feed = next(iter(data))
    assert sqnr_db(Session(model).run(feed), Session(made).run(feed)) > 25


def test_excluded_or_an_output_it_stays_as_it_is(build, feeds):
    model = decoder(build, UP)
    assert "ConvTranspose" in [n.op_type for n in quantized(model, feeds(model), exclude=["up"]).graph]
    last = build(
        [("Conv", ["x", "w1"], ["c"]), ("ConvTranspose", ["c", "up"], ["y"], {"strides": [2, 2]})],
        {"x": [1, 16, 6, 5]},
        ["y"],
        {"w1": W1, "up": UP},
    )
    assert "ConvTranspose" in [n.op_type for n in quantized(last, feeds(last)).graph]


def test_corrections_and_layer_noise_take_it(build, feeds):
    model = decoder(build, UP, after=AFTER["Relu"][0])
    data = feeds(model, 24)
    made = q.quantize_with_data(model, data, arch="")
    feed = next(iter(data))
    assert sqnr_db(Session(model).run(feed), Session(made.model).run(feed)) > 28
    found = q.layer_sqnr(model, quantized(model, data), data)
    assert found["r"] > 25  # the float model's name, with the float model's layout


def test_where_it_pays_is_decided_with_its_neighbours(build, feeds):
    def wide(channels, size):
        r = np.random.default_rng(0)
        weights = {
            "w1": r.normal(0, 0.1, (channels, channels, 1, 1)).astype(np.float32),
            "up": r.normal(0, 0.1, (channels, channels // 2, 2, 2)).astype(np.float32),
            "w2": r.normal(0, 0.1, (8, channels // 2, 1, 1)).astype(np.float32),
            "b": r.normal(0, 0.1, channels // 2).astype(np.float32),
        }
        return decoder(build, weights["up"], weights=weights, shape=(1, channels, size, size))

    model = wide(128, 16)
    made = q.quantize_with_data(model, feeds(model), effort="plain", arch="x86_64")
    assert "ConvTranspose" not in [n.op_type for n in made.model.graph] and made.worth.pays


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_stay_float_and_correct(build, feeds, kind):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    model = build(
        [
            ("MatMul", ["x", "w"], ["m"]),
            (kind, ["m", "wi", "wr"], ["h"], {"hidden_size": 8}, "layer"),
            ("Squeeze", ["h", "one"], ["s"]),
            ("MatMul", ["s", "w2"], ["y"]),
        ],
        {"x": [7, 2, 16]},
        ["y"],
        {
            "w": R.normal(0, 0.2, (16, 16)).astype(np.float32),
            "w2": R.normal(0, 0.2, (8, 8)).astype(np.float32),
            "wi": R.normal(0, 0.3, (1, gates * 8, 16)).astype(np.float32),
            "wr": R.normal(0, 0.3, (1, gates * 8, 8)).astype(np.float32),
            "one": np.array([1]),
        },
    )
    data = feeds(model)
    made = quantized(model, data)
    layer = next(n for n in made.graph if n.op_type == kind)
    for value in layer.inputs[1:]:
        assert value is None or value.const_value.dtype == ir.DataType.FLOAT
    assert q.fusion_report(made).integer == {"MatMulIntegerToFloat": 2}
    feed = next(iter(data))
    assert sqnr_db(Session(model).run(feed), Session(made).run(feed)) > 25
