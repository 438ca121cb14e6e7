"""affine: the smallest graph for each numbered case."""

# ruff: noqa: E501  (a model is a line of text)
from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.passes.small import fused, weights


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
        seed = data.draw(st.integers(0, 2**16))
        arrays = weights(seed, w=w.get(layer, (4, 6)), c=shape, **({"b": (6,)} if bias else {}))
        x = np.random.default_rng(seed).standard_normal((2, 4, *space)).astype(np.float32)
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
        seed = data.draw(st.integers(0, 2**16))
        arrays = weights(seed, w=w, c=shape, **({"b": (6,)} if bias else {}))
        x = np.random.default_rng(seed).standard_normal((2, 4, *(5,) * (rank - 2))).astype(np.float32)
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
        got = apply(text, "affine", weights=weights(w=(2, 4, 3), c=(1, 4, 1), g=(4,), b=(4,), m=(4,), v=(4,)))
        assert got.ops == {"ConvTranspose": 1}
