"""batchnorm: the smallest graph for each numbered case."""

# ruff: noqa: E501  (a model is a line of text)
from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgec import passes
from tests.passes.small import weights

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


def test_rules_reach_into_subgraphs(apply):
    text = """a (bool k, float[1,2,5,5] x) => (float[1,4,m,n] y) {
        y = If(k) <then_branch = t () => (float[1,4,m,n] p) { t = Conv(x, w) p = BatchNormalization(t, g, b, m, v) },
                   else_branch = e () => (float[1,4,m,n] q) { t = Conv(x, w) q = Relu(t) }> }"""
    feeds = {"k": np.array(True), "x": np.random.default_rng(4).standard_normal((1, 2, 5, 5)).astype(np.float32)}
    got = apply(text, "batchnorm", weights=weights(w=(4, 2, 3, 3), **BN), feeds=feeds)
    assert got.ops == {"Conv": 2, "If": 1, "Relu": 1}
