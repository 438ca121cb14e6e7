"""pad, batchnorm, affine, hardswish, clip, normalization, gelu, gemm, shapes: the smallest graph for each numbered case."""

# ruff: noqa: E501  (a model is a line of text)
from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec import passes
from edgec.passes.check import outputs_check

RNG = np.random.default_rng(3)


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """float32 numbers between 0.5 and 2: no division by nearly nothing."""
    return {name: RNG.uniform(0.5, 2, shape).astype(np.float32) for name, shape in shapes.items()}


class TestShapes:
    def test_1_one_known_dimension_of_a_shape_that_is_not_all_known(self, apply):
        text = """a (float[batch,3,8,8] x) => (int64[1] y) <int64[1] two = {2}, int64[1] three = {3}> {
            s = Shape(x) t = Slice(s, two, three) y = Neg(t) }"""
        got = apply(text, "shapes")
        assert got.ops == {"Neg": 1}
        assert got.fired == {"shape arithmetic to constant": 1}

    def test_2_flatten_by_shape_arithmetic(self, apply):
        text = """a (float[batch,3,8] x) => (float[m,n] y) <int64 zero = {0}, int64[1] ax = {0}, int64[1] rest = {-1}> {
            s = Shape(x) b = Gather(s, zero) u = Unsqueeze(b, ax) t = Concat<axis = 0>(u, rest) y = Reshape(x, t) }"""
        got = apply(text, "shapes")
        assert got.ops == {"Reshape": 1}
        target = got.node("Reshape").inputs[1].const_value.numpy().tolist()
        assert target == [0, -1]

    def test_2_two_unknown_dimensions_stay(self, apply):
        text = """a (float[a,b,6] x, int64[1] p, int64[1] q) => (float[m,n] y) { t = Concat<axis = 0>(p, q) y = Reshape(x, t) }"""
        feeds = {"x": np.ones((2, 2, 6), np.float32), "p": np.array([4]), "q": np.array([6])}
        got = apply(text, "shapes", feeds=feeds)
        assert got.ops == {"Concat": 1, "Reshape": 1}
        assert got.why

    def test_3_expand_to_its_own_shape(self, apply):
        text = "a (float[batch,3] x) => (float[batch,3] y) { t = Relu(x) s = Shape(t) u = Expand(t, s) y = Neg(u) }"
        assert apply(text, "shapes", "identity").ops == {"Neg": 1, "Relu": 1}

    def test_4_expand_to_another_shape_stays(self, apply):
        text = "a (float[1,3] x, float[batch,3] like) => (float[batch,3] y) { s = Shape(like) t = Expand(x, s) y = Neg(t) }"
        assert apply(text, "shapes").ops["Expand"] == 1

    def test_arithmetic(self, apply):
        text = """a (float[n,6,4] x) => (float[m,k] y) <int64 one = {1}, int64 two = {2}, int64[1] ax = {0}, int64[1] rest = {-1}> {
            s = Shape(x) c = Gather(s, one) d = Gather(s, two) p = Mul(c, d) q = Div(p, two)
            u = Unsqueeze(q, ax) t = Concat<axis = 0>(rest, u) y = Reshape(x, t) }"""
        got = apply(text, "shapes")
        assert got.ops == {"Reshape": 1}
        assert got.node("Reshape").inputs[1].const_value.numpy().tolist() == [-1, 12]

    def test_what_a_file_says_of_inner_shapes_is_not_believed(self):
        text = """<ir_version: 10, opset_import: ["" : 21]> a (float[batch,3] x) => (int64[k] y) <float[1,3] t> {
            t = Relu(x) y = Shape(t) }"""
        proto = onnx.parser.parse_model(text)
        assert proto.graph.value_info
        model = ir.from_proto(proto)
        passes.run(model, check=outputs_check(proto.SerializeToString(), [{"x": np.ones((5, 3), np.float32)}]))
        assert "Shape" in passes.counts(model)


PAD = "a (float[1,2,5,5] x) => (float[1,3,m,n] y) <{extra}> {{ t = Pad{mode}(x, p{fill}) y = Conv{pads}(t, w) }}"


class TestPad:
    @pytest.mark.parametrize("pads", ["", "<pads = [1, 0, 2, 1]>"])
    def test_1_zero_padding(self, apply, pads):
        text = PAD.format(extra="int64[8] p = {0,0,1,2,0,0,1,0}", mode="", fill="", pads=pads)
        got = apply(text, "pad", weights=weights(w=(3, 2, 3, 3)))
        assert got.ops == {"Conv": 1}

    @pytest.mark.parametrize(
        ("extra", "mode", "fill", "pads", "why"),
        [
            ("int64[8] p = {0,0,1,1,0,0,1,1}", '<mode = "reflect">', "", "", "constant"),
            ("int64[8] p = {0,0,1,1,0,0,1,1}, float f = {2.0}", "", ", f", "", "equal to 0"),
            ("int64[8] p = {0,0,-1,1,0,0,1,1}", "", "", "", "negative"),
            ("int64[8] p = {0,0,1,1,0,0,1,1}", "", "", '<auto_pad = "SAME_UPPER">', "auto_pad"),
        ],
    )
    def test_2_other_padding_stays(self, apply, extra, mode, fill, pads, why):
        got = apply(PAD.format(extra=extra, mode=mode, fill=fill, pads=pads), "pad", weights=weights(w=(3, 2, 3, 3)))
        assert got.ops == {"Conv": 1, "Pad": 1}
        assert why in got.why

    def test_4_the_pad_stays_where_something_else_reads_it(self, apply):
        text = """a (float[1,2,5,5] x) => (float[1,3,m,n] y, float[1,2,7,7] z) <int64[8] p = {0,0,1,1,0,0,1,1}> {
            z = Pad(x, p) y = Conv(z, w) }"""
        got = apply(text, "pad", weights=weights(w=(3, 2, 3, 3)))
        assert got.ops == {"Conv": 1, "Pad": 1}
        assert got.node("Conv").inputs[0].name == "x"


BN = {"g": (4,), "b": (4,), "m": (4,), "v": (4,)}


class TestBatchnorm:
    @pytest.mark.parametrize("bias", ["", ", c"])
    @pytest.mark.parametrize("group", [1, 2])
    def test_1_into_conv(self, apply, bias, group):
        text = f"a (float[1,2,5,5] x) => (float[1,4,m,n] y) {{ t = Conv<group = {group}>(x, w{bias}) y = BatchNormalization(t, g, b, m, v) }}"
        data = weights(w=(4, 2 // group, 3, 3), **BN, **({"c": (4,)} if bias else {}))
        got = apply(text, "batchnorm", weights=data)
        assert got.ops == {"Conv": 1}

    @pytest.mark.parametrize("group", [1, 2])
    def test_1_into_conv_transpose(self, apply, group):
        text = f"a (float[1,6,5] x) => (float[1,4,m] y) {{ t = ConvTranspose<group = {group}>(x, w, c) y = BatchNormalization(t, g, b, m, v) }}"
        got = apply(text, "batchnorm", weights=weights(w=(6, 4 // group, 3), c=(4,), **BN))
        assert got.ops == {"ConvTranspose": 1}

    @pytest.mark.parametrize("transposed", [0, 1])
    def test_1_into_gemm_with_alpha_and_beta(self, apply, transposed):
        text = f"a (float[3,5] x) => (float[3,4] y) {{ t = Gemm<alpha = 0.5, beta = 3.0, transB = {transposed}>(x, w, c) y = BatchNormalization(t, g, b, m, v) }}"
        got = apply(text, "batchnorm", weights=weights(w=(4, 5) if transposed else (5, 4), c=(1, 4), **BN))
        assert got.ops == {"Gemm": 1}

    def test_1_shared_weights_are_copied(self, apply):
        text = """a (float[1,2,5,5] x) => (float[1,4,m,n] y, float[1,4,m,n] z) {
            t = Conv(x, w) y = BatchNormalization(t, g, b, m, v) z = Conv(x, w) }"""
        got = apply(text, "batchnorm", weights=weights(w=(4, 2, 3, 3), **BN))
        assert got.ops == {"Conv": 2}

    def test_1_the_name_of_the_conv_is_kept(self, apply):
        text = "a (float[1,2,5,5] x) => (float[1,4,m,n] y) { t = Conv(x, w) y = BatchNormalization(t, g, b, m, v) }"
        proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')
        proto.graph.node[0].name, proto.graph.node[1].name = "stem/conv", "stem/bn"
        proto.graph.initializer.extend(
            onnx.numpy_helper.from_array(d, n) for n, d in weights(w=(4, 2, 3, 3), **BN).items()
        )
        got = apply(proto, "batchnorm")
        assert [n.name for n in got.model.graph] == ["stem/conv"]
        assert got.applied.fired == (passes.Fired("BatchNormalization into Conv", ("stem/conv",), 1),)

    def test_2_a_variance_that_is_an_input_stays(self, apply):
        text = "a (float[1,2,5,5] x, float[4] v) => (float[1,4,m,n] y) { t = Conv(x, w) y = BatchNormalization(t, g, b, m, v) }"
        data = weights(w=(4, 2, 3, 3), g=(4,), b=(4,), m=(4,))
        feeds = {"x": np.ones((1, 2, 5, 5), np.float32), "v": np.ones(4, np.float32)}
        got = apply(text, "batchnorm", weights=data, feeds=feeds)
        assert got.ops == {"BatchNormalization": 1, "Conv": 1}
        assert got.why == "Its scale, bias, mean or variance is not a constant."

    def test_2_training_mode_stays(self):
        text = """<ir_version: 10, opset_import: ["" : 21]> a (float[1,2,5,5] x) => (float[1,4,m,n] y) {
            t = Conv(x, w) y = BatchNormalization<training_mode = 1>(t, g, b, m, v) }"""
        proto = onnx.parser.parse_model(text)
        data = weights(w=(4, 2, 3, 3), **BN)
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(d, n) for n, d in data.items())
        model = ir.from_proto(proto)
        (applied,) = passes.run(model, ["batchnorm"])
        assert passes.counts(model) == {"BatchNormalization": 1, "Conv": 1}
        assert applied.refused[0].why == "The BatchNormalization is in training mode."

    def test_3_a_result_that_others_use_stays(self, apply):
        text = "a (float[1,2,5,5] x) => (float[1,4,m,n] y, float[1,4,m,n] t) { t = Conv(x, w) y = BatchNormalization(t, g, b, m, v) }"
        got = apply(text, "batchnorm", weights=weights(w=(4, 2, 3, 3), **BN))
        assert got.ops == {"BatchNormalization": 1, "Conv": 1}
        assert got.why == "A value inside the pattern is used elsewhere too."

    def test_4_half_precision_stays(self, apply):
        text = "a (float16[1,2,5,5] x) => (float16[1,4,m,n] y) { t = Conv(x, w) y = BatchNormalization(t, g, b, m, v) }"
        data = {name: w.astype(np.float16) for name, w in weights(w=(4, 2, 3, 3), **BN).items()}
        got = apply(text, "batchnorm", weights=data)
        assert got.ops == {"BatchNormalization": 1, "Conv": 1}
        assert "FLOAT16" in got.why

    def test_5_a_negative_variance_stays(self):
        text = "a (float[1,2,5,5] x) => (float[1,4,m,n] y) { t = Conv(x, w) y = BatchNormalization(t, g, b, m, v) }"
        proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')
        data = weights(w=(4, 2, 3, 3), **BN) | {"v": -np.ones(4, np.float32)}
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(d, n) for n, d in data.items())
        model = ir.from_proto(proto)
        (applied,) = passes.run(model, ["batchnorm"])
        assert passes.counts(model) == {"BatchNormalization": 1, "Conv": 1}
        assert "finite" in applied.refused[0].why


def channels(rank: int, size: int) -> list[tuple[int, ...]]:
    """Shapes of one number a channel, and of one number, for an output [batch, channel, space…]."""
    space = (1,) * (rank - 2)
    return [(1, size, *space), (size, *space), (), (1,), (1,) * rank]


class TestAffine:
    @settings(max_examples=60)
    @given(data=st.data())
    def test_1_after_a_layer(self, data):
        layer = data.draw(st.sampled_from(["Conv", "ConvTranspose", "Gemm", "MatMul"]))
        arithmetic = data.draw(st.sampled_from(["Mul", "Div"] if layer == "MatMul" else ["Mul", "Div", "Add", "Sub"]))
        group = data.draw(st.sampled_from([1, 2]))
        bias = data.draw(st.booleans()) and layer != "MatMul"
        rank = 2 if layer in ("Gemm", "MatMul") else data.draw(st.sampled_from([3, 4]))
        shape = data.draw(st.sampled_from([(6,), (), (1,)] if layer == "MatMul" else channels(rank, 6)))
        space = (5,) * (rank - 2)
        w = {"Conv": (6, 4 // group, *(3,) * (rank - 2)), "ConvTranspose": (4, 6 // group, *(3,) * (rank - 2))}
        swapped = arithmetic in ("Mul", "Add") and data.draw(st.booleans())
        attribute = f"<group = {group}>" if layer.startswith("Conv") else ""
        arrays = weights(w=w.get(layer, (4, 6)), c=shape, **({"b": (6,)} if bias else {}))
        x = RNG.standard_normal((2, 4, *space)).astype(np.float32)
        text = f"""<ir_version: 10, opset_import: ["" : 21]> a (float[{",".join(map(str, x.shape))}] x) => (float[{",".join("mnopq"[:rank])}] y) {{
            t = {layer}{attribute}(x, w{", b" if bias else ""}) y = {arithmetic}({"c, t" if swapped else "t, c"}) }}"""
        assert fused(text, arrays, {"x": x}, "affine") == {layer: 1}

    @settings(max_examples=60)
    @given(data=st.data())
    def test_2_and_3_before_a_layer(self, data):
        layer = data.draw(st.sampled_from(["Conv", "Gemm", "MatMul"]))
        arithmetic = data.draw(st.sampled_from(["Mul", "Div"] if layer == "MatMul" else ["Mul", "Div", "Add", "Sub"]))
        group = data.draw(st.sampled_from([1, 2]))
        bias = data.draw(st.booleans()) and layer != "MatMul"
        rank = 2 if layer in ("Gemm", "MatMul") else data.draw(st.sampled_from([3, 4]))
        shape = data.draw(st.sampled_from([(4,), (), (1,)] if layer == "MatMul" else channels(rank, 4)))
        padded = layer == "Conv" and arithmetic in ("Mul", "Div") and data.draw(st.booleans())
        pads = f", pads = [{', '.join(['1'] * 2 * (rank - 2))}]" if padded else ""
        attribute = f"<group = {group}{pads}>" if layer == "Conv" else ""
        w = (6, 4 // group, *(3,) * (rank - 2)) if layer == "Conv" else (4, 6)
        arrays = weights(w=w, c=shape, **({"b": (6,)} if bias else {}))
        x = RNG.standard_normal((2, 4, *(5,) * (rank - 2))).astype(np.float32)
        text = f"""<ir_version: 10, opset_import: ["" : 21]> a (float[{",".join(map(str, x.shape))}] x) => (float[{",".join("mnopq"[:rank])}] y) {{
            t = {arithmetic}(x, c) y = {layer}{attribute}(t, w{", b" if bias else ""}) }}"""
        assert fused(text, arrays, {"x": x}, "affine") == {layer: 1}

    def test_3_an_addition_before_padding_stays(self, apply):
        text = "a (float[1,2,5,5] x) => (float[1,3,m,n] y) { t = Add(x, c) y = Conv<pads = [1,1,1,1]>(t, w) }"
        got = apply(text, "affine", weights=weights(w=(3, 2, 3, 3), c=(1, 2, 1, 1)))
        assert got.ops == {"Add": 1, "Conv": 1}
        assert "pads with zeros" in got.why

    def test_4_a_scale_goes_past_the_addition(self, apply):
        text = "a (float[1,2,5,5] x) => (float[1,3,m,n] y) { s = Mul(x, c) t = Add(s, d) y = Conv<pads = [1,1,1,1]>(t, w) }"
        got = apply(text, "affine", weights=weights(w=(3, 2, 3, 3), c=(1, 2, 1, 1), d=(1, 2, 1, 1)))
        assert got.ops == {"Add": 1, "Conv": 1}

    def test_5_a_constant_along_another_axis_stays(self, apply):
        text = "a (float[1,2,5,3] x) => (float[1,3,m,n] y) { t = Conv(x, w) y = Mul(t, c) }"
        got = apply(text, "affine", weights=weights(w=(3, 2, 3, 1), c=(3,)))
        assert got.ops == {"Conv": 1, "Mul": 1}
        assert "one number a channel" in got.why

    def test_5_division_by_zero_stays(self, apply):
        text = "a (float[1,2,5,5] x) => (float[1,3,m,n] y) <float c = {0.0}> { t = Conv(x, w) y = Div(t, c) }"
        got = apply(text, "affine", weights=weights(w=(3, 2, 3, 3)))
        assert got.ops == {"Conv": 1, "Div": 1}

    def test_5_a_constant_that_makes_the_input_bigger_stays(self, apply):
        text = "a (float[1,1,5,5] x) => (float[1,3,m,n] y) { t = Mul(x, c) y = Conv(t, w) }"
        got = apply(text, "affine", weights=weights(w=(3, 2, 3, 3), c=(1, 2, 1, 1)))
        assert got.ops == {"Conv": 1, "Mul": 1}
        assert "bigger" in got.why

    def test_5_a_constant_with_more_axes_than_the_input_stays(self, apply):
        text = "a (float[2,5,5] x) => (float[1,3,m,n] y) { t = Mul(x, c) y = Conv(t, w) }"
        got = apply(text, "affine", weights=weights(w=(3, 2, 3, 3), c=(1, 2, 1, 1)))
        assert got.ops == {"Conv": 1, "Mul": 1}

    def test_6_a_residual_is_no_near_miss(self, apply):
        text = "a (float[1,2,5,5] x) => (float[1,2,5,5] y) { t = Conv<pads = [1,1,1,1]>(x, w) y = Add(t, x) }"
        assert apply(text, "affine", weights=weights(w=(2, 2, 3, 3))).why == ""

    def test_7_batch_normalization_after_a_bias(self, apply):
        text = "a (float[1,2,5] x) => (float[1,4,m] y) { t = ConvTranspose(x, w) u = Add(t, c) y = BatchNormalization(u, g, b, m, v) }"
        got = apply(text, "affine", weights=weights(w=(2, 4, 3), c=(1, 4, 1), **BN))
        assert got.ops == {"ConvTranspose": 1}


def fused(text: str, arrays: dict[str, np.ndarray], feeds: dict[str, np.ndarray], *names: str) -> dict[str, int]:
    """Node counts after the passes; the check raises where an output moved."""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(d), n) for n, d in arrays.items())
    model = ir.from_proto(proto)
    passes.run(model, names, check=outputs_check(proto.SerializeToString(), [feeds], tolerance=1e-5))
    return passes.counts(model)


HARD = "float three = {3.0}, float zero = {0.0}, float six = {6.0}, float sixth = {0.16666667}, float five = {5.0}"


class TestHardswish:
    @pytest.mark.parametrize("last", ["y = Div(c, six)", "y = Mul(c, sixth)", "y = Mul(sixth, c)"])
    def test_1_hard_sigmoid(self, apply, last):
        got = apply(
            f"a (float[9] x) => (float[9] y) <{HARD}> {{ t = Add(x, three) c = Clip(t, zero, six) {last} }}",
            "hardswish",
        )
        assert got.ops == {"HardSigmoid": 1}

    @pytest.mark.parametrize(
        "rest",
        ["p = Mul(x, c) y = Div(p, six)", "p = Mul(c, x) y = Mul(p, sixth)", "p = Div(c, six) y = Mul(p, x)",
         "p = Mul(c, sixth) y = Mul(x, p)"],
    )  # fmt: skip
    def test_2_hard_swish(self, apply, rest):
        got = apply(
            f"a (float[9] x) => (float[9] y) <{HARD}> {{ t = Add(three, x) c = Clip(t, zero, six) {rest} }}",
            "hardswish",
        )
        assert got.ops == {"HardSwish": 1}

    def test_3_from_hard_sigmoid(self, apply):
        got = apply(
            "a (float[9] x) => (float[9] y) { g = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(g, x) }",
            "hardswish",
        )
        assert got.ops == {"HardSwish": 1}

    def test_4_paddles_slope_stays(self, apply):
        got = apply(
            "a (float[9] x) => (float[9] y) { g = HardSigmoid<alpha = 0.2, beta = 0.5>(x) y = Mul(g, x) }", "hardswish"
        )
        assert got.ops == {"HardSigmoid": 1, "Mul": 1}
        assert "alpha 0.2" in got.why

    def test_4_other_bounds_stay(self, apply):
        got = apply(
            f"a (float[9] x) => (float[9] y) <{HARD}> {{ t = Add(x, three) c = Clip(t, zero, five) y = Div(c, six) }}",
            "hardswish",
        )
        assert "HardSigmoid" not in got.ops
        assert "clip(x + 3.0, 0.0, 5.0)" in got.why

    def test_4_another_divisor_stays(self, apply):
        text = (
            f"a (float[9] x) => (float[9] y) <{HARD}> {{ t = Add(x, three) c = Clip(t, zero, six) y = Div(c, five) }}"
        )
        got = apply(text, "hardswish")
        assert "HardSigmoid" not in got.ops
        assert "5.0, not 6" in got.why

    def test_6_double_stays(self, apply):
        text = "a (double[9] x) => (double[9] y) <double h = {3.0}, double z = {0.0}, double s = {6.0}> { t = Add(x, h) c = Clip(t, z, s) y = Div(c, s) }"
        assert "HardSigmoid" not in apply(text, "hardswish").ops

    def test_before_operator_set_14_a_hard_swish_stays_a_product(self, apply):
        text = f"a (float[9] x) => (float[9] y) <{HARD}> {{ t = Add(x, three) c = Clip(t, zero, six) p = Mul(x, c) y = Div(p, six) }}"
        got = apply(text, "hardswish", opset=13)
        assert "HardSwish" not in got.ops
        assert "operator set 14" in got.why


BOUNDS = "float a = {-2.0}, float b = {1.5}, float c = {2.0}, float d = {3.0}, float z = {0.0}"


class TestClip:
    @pytest.mark.parametrize(
        ("first", "second", "ops"),
        [
            ("Relu(x)", "Relu(t)", {"Relu": 1}),
            ("Clip(x, a, b)", "Relu(t)", {"Clip": 1}),
            ("Relu(x)", "Clip(t, a, b)", {"Clip": 1}),
            ("Relu(x)", "Clip(t, a)", {"Relu": 1}),
            ("Clip(x, a, b)", "Clip(t, z, c)", {"Clip": 1}),
            ("Clip(x, a, b)", "Clip(t, c, d)", {"Clip": 1}),  # the ranges do not meet: always c
            ("Clip(x, c, d)", "Clip(t, a, b)", {"Clip": 1}),  # always b
            ("Max(x, a)", "Min(t, b)", {"Clip": 1}),
            ("Min(b, x)", "Max(t, a)", {"Clip": 1}),
            ("Max(x, c)", "Min(t, b)", {"Clip": 1}),  # the lower bound above the upper
        ],
    )
    def test_1_to_3(self, apply, first, second, ops):
        text = f"a (float[40] x) => (float[40] y) <{BOUNDS}> {{ t = {first} y = {second} }}"
        assert apply(text, "clip").ops == ops

    def test_4_bounds_that_are_inputs_stay(self, apply):
        got = apply("a (float[4] x, float m) => (float[4] y) { t = Relu(x) y = Clip(t, m) }", "clip")
        assert got.ops == {"Clip": 1, "Relu": 1}
        assert "not constants" in got.why

    def test_4_a_lower_bound_above_the_upper_stays(self, apply):
        got = apply(f"a (float[4] x) => (float[4] y) <{BOUNDS}> {{ t = Relu(x) y = Clip(t, d, c) }}", "clip")
        assert got.ops == {"Clip": 1, "Relu": 1}

    def test_5_integers_stay(self, apply):
        got = apply("a (int32[4] x) => (int32[4] y) { t = Relu(x) y = Relu(t) }", "clip")
        assert got.ops == {"Relu": 2}

    def test_6_the_first_stays_where_something_else_uses_it(self, apply):
        got = apply(
            f"a (float[4] x) => (float[4] y, float[4] t) <{BOUNDS}> {{ t = Relu(x) y = Clip(t, a, b) }}", "clip"
        )
        assert got.ops == {"Clip": 1, "Relu": 1}


NORM = """a (float[2,7,8] x) => (float[2,7,8] y) <float two = {{2.0}}, float e = {{0.00001}}, int64[1] axis = {{{axis}}}> {{
    mean = ReduceMean(x, axis) d = Sub(x, mean) q = {square} v = ReduceMean(q, axis) ve = Add(v, e) s = Sqrt(ve)
    {divide} z = Mul(n, g) y = Add(z, b) }}"""


class TestNormalization:
    @pytest.mark.parametrize("square", ["Pow(d, two)", "Mul(d, d)"])
    @pytest.mark.parametrize("divide", ["n = Div(d, s)", "r = Reciprocal(s) n = Mul(d, r)"])
    def test_1_and_2(self, apply, square, divide):
        got = apply(
            NORM.format(axis=-1, square=square, divide=divide), "normalization", weights=weights(g=(8,), b=(8,))
        )
        assert got.ops == {"LayerNormalization": 1}

    def test_3_another_axis_stays(self, apply):
        text = NORM.format(axis=1, square="Mul(d, d)", divide="n = Div(d, s)")
        got = apply(text, "normalization", weights=weights(g=(8,), b=(8,)))
        assert "LayerNormalization" not in got.ops
        assert "last axis" in got.why

    def test_4_a_scale_for_each_place_stays(self, apply):
        text = NORM.format(axis=-1, square="Mul(d, d)", divide="n = Div(d, s)")
        got = apply(text, "normalization", weights=weights(g=(7, 8), b=(8,)))
        assert "LayerNormalization" not in got.ops
        assert "scale" in got.why


GELU = "a (float[9] x) => (float[9] y) <float r = {1.4142135}, float i = {0.70710677}, float one = {1.0}, float half = {0.5}, float two = {2.0}>"


class TestGelu:
    @pytest.mark.parametrize("scaled", ["Div(x, r)", "Mul(x, i)", "Mul(i, x)"])
    @pytest.mark.parametrize(
        "last", ["p = Mul(x, g) y = Mul(p, half)", "p = Mul(half, x) y = Mul(g, p)", "p = Mul(g, half) y = Mul(x, p)"]
    )
    def test_1(self, apply, scaled, last):
        got = apply(f"{GELU} {{ s = {scaled} e = Erf(s) g = Add(e, one) {last} }}", "gelu")
        assert got.ops == {"Gelu": 1}

    def test_2_other_constants_stay(self, apply):
        got = apply(f"{GELU} {{ s = Div(x, two) e = Erf(s) g = Add(e, one) p = Mul(x, g) y = Mul(p, half) }}", "gelu")
        assert "Gelu" not in got.ops
        assert "sqrt(2)" in got.why

    def test_3_operator_set_19_stays(self, apply):
        text = f"{GELU} {{ s = Div(x, r) e = Erf(s) g = Add(e, one) p = Mul(x, g) y = Mul(p, half) }}"
        assert "Gelu" not in apply(text, "gelu", opset=19).ops


class TestGemm:
    @pytest.mark.parametrize("shape", [(3,), (1, 3)])
    def test_1(self, apply, shape):
        text = "a (float[2,4] x) => (float[2,3] y) { t = MatMul(x, w) y = Add(b, t) }"
        assert apply(text, "gemm", weights=weights(w=(4, 3), b=shape)).ops == {"Gemm": 1}

    def test_2_three_axes_stay(self, apply):
        text = "a (float[2,5,4] x) => (float[2,5,3] y) { t = MatMul(x, w) y = Add(t, b) }"
        got = apply(text, "gemm", weights=weights(w=(4, 3), b=(3,)))
        assert got.ops == {"Add": 1, "MatMul": 1}
        assert "3 axes" in got.why

    def test_3_a_number_a_row_stays(self, apply):
        text = "a (float[2,4] x) => (float[2,3] y) { t = MatMul(x, w) y = Add(t, b) }"
        assert apply(text, "gemm", weights=weights(w=(4, 3), b=(2, 1))).ops == {"Add": 1, "MatMul": 1}


def test_rules_reach_into_subgraphs(apply):
    text = """a (bool k, float[1,2,5,5] x) => (float[1,4,m,n] y) {
        y = If(k) <then_branch = t () => (float[1,4,m,n] p) { t = Conv(x, w) p = BatchNormalization(t, g, b, m, v) },
                   else_branch = e () => (float[1,4,m,n] q) { t = Conv(x, w) q = Relu(t) }> }"""
    feeds = {"k": np.array(True), "x": RNG.standard_normal((1, 2, 5, 5)).astype(np.float32)}
    got = apply(text, "batchnorm", weights=weights(w=(4, 2, 3, 3), **BN), feeds=feeds)
    assert got.ops == {"Conv": 2, "If": 1, "Relu": 1}
