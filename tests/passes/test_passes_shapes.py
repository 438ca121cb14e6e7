"""shapes, pad, gemm: the smallest graph for each numbered case."""

# ruff: noqa: E501  (a model is a line of text)
from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgec import passes
from edgec.passes.check import outputs_check
from tests.passes.small import weights


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
