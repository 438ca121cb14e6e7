"""hardswish, clip, normalization, gelu: the smallest graph for each numbered case."""

# ruff: noqa: E501  (a model is a line of text)
from __future__ import annotations

import pytest

from tests.passes.small import weights

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
