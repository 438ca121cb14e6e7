"""16-bit activations with 8-bit weights, and biases that fit int32 whatever the scales are."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx.reference import ReferenceEvaluator

from edgec import quantize as q
from edgec.data import sqnr_db
from edgec.errors import UnsupportedError
from edgec.quantize.arithmetic import BIAS_LARGEST, BIAS_LIMIT, activation_parameters, quantize, quantize_weight
from edgec.quantize.scheme import INT16X8
from edgec.quantize.session import Session

COMMON = settings(max_examples=60)
UINT16 = q.Scheme(activation="uint16")
W = np.random.default_rng(0).normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32)
B = np.random.default_rng(1).normal(0, 1, 8).astype(np.float32)
PAD = {"pads": [1, 1, 1, 1]}


def round_trip(dtype):
    """QuantizeLinear and DequantizeLinear of one type, as a model of x, scale and zero point."""
    h, kind = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [h.make_node("QuantizeLinear", list("xsz"), ["i"]), h.make_node("DequantizeLinear", list("isz"), ["y"])]
    infos = [h.make_tensor_value_info(n, t, s) for n, t, s in (("x", 1, [30]), ("s", 1, []), ("z", kind, []))]
    outputs = [h.make_tensor_value_info(n, t, [30]) for n, t in (("i", kind), ("y", 1))]
    graph = h.make_graph(nodes, "g", infos, outputs)
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 21)], ir_version=10)


MODELS = {name: round_trip(name) for name in ("uint16", "int16")}
REFERENCE = {name: ReferenceEvaluator(model) for name, model in MODELS.items()}
ENGINE = {
    name: ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, model in MODELS.items()
}


@pytest.mark.parametrize("scheme", [UINT16, INT16X8, q.Scheme(activation="int16")], ids=lambda s: s.activation)
@given(
    parts=arrays(np.float32, 30, elements=st.floats(-4, 4, width=32)),
    low=st.floats(np.float32(-1e5), 0, width=32),
    high=st.floats(np.float32(1e-3), np.float32(1e5), width=32),
)
@COMMON
def test_it_is_onnx_quantize_and_dequantize_bit_for_bit(scheme, parts, low, high):
    p, x = activation_parameters(low, high, scheme), parts * np.float32(high)
    scale, zero = np.asarray(p.scale, np.float32), np.asarray(p.zero_point, p.dtype)
    feed = {"x": x, "s": scale, "z": zero}
    info = np.iinfo(p.dtype)
    ours = quantize(x, scale, p.zero_point, info.min, info.max)
    for tool in (REFERENCE, ENGINE):
        integers, values = tool[p.dtype.name].run(None, feed)
        np.testing.assert_array_equal(ours, integers)
        np.testing.assert_array_equal((ours - p.zero_point).astype(np.float32) * scale, values)
    inside = x[(x >= low) & (x <= high)].astype(np.float64)
    again = (quantize(inside, scale, p.zero_point, info.min, info.max) - p.zero_point) * p.scale
    assert (np.abs(again - inside) <= p.scale * 0.5001 + np.abs(inside) * 2.0**-22).all()


def test_parameters_by_the_book():
    assert activation_parameters(-1, 3, INT16X8).zero_point == 0
    assert activation_parameters(-1, 3, INT16X8).scale == pytest.approx(3 / 32767)
    p = activation_parameters(-1, 3, UINT16)
    assert p.zero_point == 16384 and p.scale == pytest.approx(4 / 65535)  # 16383.75 rounded
    assert activation_parameters(0, 0, UINT16).scale == 1.0


def network(build, opset=21):
    return build(
        [
            ("Conv", ["x", "w", "b"], ["c"], PAD),
            ("Relu", ["c"], ["r"]),
            ("Conv", ["r", "w"], ["d"], PAD),
            ("Add", ["d", "r"], ["s"]),
            ("MaxPool", ["s"], ["p"], {"kernel_shape": [2, 2]}),
            ("Conv", ["p", "w", "b"], ["y"], PAD),
        ],
        {"x": [1, 8, 8, 8]},
        ["y"],
        {"w": W, "b": B},
        opset=opset,
    )


def exact(model):
    """A session that doesn't quantize a product's activations to 8 bits, as onnxruntime does by default."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    content = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("scheme", [UINT16, INT16X8], ids=lambda s: s.activation)
def test_activations_add_no_noise_worth_mentioning(build, feeds, scheme):
    model = network(build)
    data = feeds(model)
    made = {s: q.quantize_with_data(model, data, effort="plain", scheme=s).model for s in (q.Scheme(), scheme)}
    onnx.checker.check_model(ir.to_proto(made[scheme]), full_check=True)
    kinds = {
        n.outputs[0].consumers()[0].inputs[2].dtype.name.lower()
        for n in made[scheme].graph
        if n.op_type == "QuantizeLinear"
    }
    assert kinds == {scheme.activation}
    assert "Relu" not in [n.op_type for n in made[scheme].graph] or scheme.symmetric_activation
    feed = next(iter(data))
    (expected,) = Session(model).run(feed)
    noise = {s: sqnr_db(expected, Session(m).run(feed)[0]) for s, m in made.items()}
    assert noise[scheme] > noise[q.Scheme()] + 2
    # Weights alone, in float: what is left is theirs.
    weights = model.clone()
    for name in ("w",):
        w = quantize_weight(W, axis=0)
        data8 = (w.data * w.scale.reshape(-1, 1, 1, 1)).astype(np.float32)
        weights.graph.initializers[name].const_value = ir.Tensor(data8, name=name)
    assert abs(noise[scheme] - sqnr_db(expected, Session(weights).run(feed)[0])) < 0.5
    plain = Session(made[scheme], optimize=False).run(feed)[0]
    assert sqnr_db(plain, exact(made[scheme]).run(None, feed)[0]) > 70


def test_a_product_is_exact_where_onnxruntime_is_told_so(build, feeds):
    w = np.random.default_rng(2).normal(0, 0.2, (64, 64)).astype(np.float32)
    model = build([("MatMul", ["x", "w"], ["y"])], {"x": [8, 64]}, ["y"], {"w": w})
    made = q.quantize_with_data(model, feeds(model), effort="plain", scheme=INT16X8).model
    feed = next(iter(feeds(model)))
    plain = Session(made, optimize=False).run(feed)[0]
    assert sqnr_db(plain, exact(made).run(None, feed)[0]) > 100
    assert q.fusion_report(made).integer == {}  # nothing of it runs in integers here


def test_corrections_take_them(build, feeds):
    model = network(build)
    made = q.quantize_with_data(model, feeds(model, 16), scheme=INT16X8)
    assert made.correction is not None and made.correction.kept
    kinds = {i.dtype for n in made.model.graph if n.op_type == "QuantizeLinear" for i in n.inputs[2:]}
    assert kinds == {ir.DataType.INT16}


def test_old_opsets_and_other_engines_are_refused(build, feeds):
    model = network(build, opset=17)
    ranges = q.Ranges({str(v.name): (-1.0, 1.0) for n in model.graph for v in n.outputs} | {"x": (-1.0, 1.0)})
    with pytest.raises(UnsupportedError, match="16 bits"):
        q.quantize(model, ranges, q.assign(model, scheme=UINT16))


def test_layers_may_mix_eight_and_sixteen_bits(build, feeds):
    model = network(build)
    data = feeds(model)
    assignment = q.assign(model)
    first = next(name for name, scheme in assignment.items() if scheme is not None)
    assignment[first] = UINT16
    ranges = q.calibrate(model, data, values=q.ranges_needed(model, assignment))
    made = q.quantize(model, ranges, assignment)
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    feed = next(iter(data))
    assert sqnr_db(Session(model).run(feed)[0], Session(made).run(feed)[0]) > 25


WIDE = st.floats(np.float32(1.2e-38), np.float32(1e30), width=32)


@given(
    w=arrays(np.float32, (3, 4), elements=st.floats(-np.float32(1e30), np.float32(1e30), width=32)),
    b=arrays(np.float32, 3, elements=st.floats(-BIAS_LARGEST, BIAS_LARGEST, width=32)),
    s=WIDE,
    axis=st.sampled_from([None, 0]),
    qmax=st.sampled_from([127, 63]),
)
@COMMON
def test_a_bias_always_fits_int32_and_is_nearly_exact(w, b, s, axis, qmax):
    """The weight's scale is raised where s_x·s_w is too small for the bias, and no more than that."""
    made = quantize_weight(w, axis=axis, qmax=qmax, bias=b, activation_scale=s)
    assert (made.scale > 0).all() and np.isfinite(made.scale).all()
    assert (made.bias_scale > 0).all() and np.isfinite(made.bias_scale).all()
    assert np.abs(made.bias.astype(np.int64)).max() <= BIAS_LIMIT * (1 + 1e-6)
    step = np.broadcast_to(made.bias_scale.astype(np.float64), b.shape)
    assert (np.abs(made.bias * step - b) <= 0.5 * step + np.abs(b) * 1e-8).all()
    plain = quantize_weight(w, axis=axis, qmax=qmax)
    raised = made.scale > np.maximum(plain.scale, np.float32(2.4e-38 / min(s, 1)))
    needed = np.abs(b.astype(np.float64)) / (np.float64(s) * BIAS_LIMIT)
    needed = needed.max() if axis is None else needed
    assert (~raised | (made.scale <= needed * (1 + 1e-6)) | (plain.scale == 1)).all()


@pytest.mark.parametrize("scheme", [q.Scheme(), UINT16, INT16X8], ids=lambda s: s.activation)
def test_tiny_weights_with_a_large_bias_in_a_model(build, feeds, scheme):
    """A dead channel keeps its bias: 1000 where s_x·s_w·2³¹ would be under 1."""
    w, b = W.copy(), B.copy()
    w[3] *= 1e-9
    b[3] = 1000
    model = build([("Conv", ["x", "w", "b"], ["y"], PAD)], {"x": [1, 8, 8, 8]}, ["y"], {"w": w, "b": b})
    data = feeds(model)
    made = q.quantize_with_data(model, data, effort="plain", scheme=scheme, arch="").model
    feed = next(iter(data))
    expected, got = Session(model).run(feed)[0], Session(made).run(feed)[0]
    assert np.abs(got[:, 3] - 1000).max() < 8  # half a step of 8 bits over 0 … 1000, and the noise of the others
    assert sqnr_db(expected, got) > 35


def test_a_bias_that_no_scale_can_hold_leaves_its_layer_in_float(build, feeds):
    b = B.copy()
    b[0] = 3e9
    nodes = [("Conv", ["x", "w", "b"], ["c"], PAD), ("Conv", ["c", "w"], ["y"], PAD)]
    model = build(nodes, {"x": [1, 8, 8, 8]}, ["y"], {"w": W, "b": b})
    made = q.quantize_with_data(model, feeds(model), effort="plain", arch="").model
    weights = [n.inputs[1].producer() for n in made.graph if n.op_type == "Conv"]
    assert [w is None for w in weights] == [True, False]
