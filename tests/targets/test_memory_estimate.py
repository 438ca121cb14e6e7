"""The memory estimate on graphs small enough to add up by hand."""

from __future__ import annotations

import onnx_ir as ir
from onnx import parser

from edgec_targets.memory import estimate


def model(text: str) -> ir.Model:
    return ir.from_proto(parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\n' + text))


def test_a_chain_holds_two_values_besides_the_input() -> None:
    # x (400 B) lives throughout, as a caller's buffer; at each node its input and output are alive.
    e = estimate(model("g (float[100] x) => (float[100] y) { a = Relu(x) b = Relu(a) y = Relu(b) }"))
    assert (e.weights, e.activations, e.unknown) == (0, 400 + 2 * 400, 0)


def test_a_skip_connection_keeps_its_value_alive() -> None:
    chain = model("g (float[100] x) => (float[100] y) { a = Relu(x) b = Relu(a) c = Relu(b) y = Relu(c) }")
    skip = model("g (float[100] x) => (float[100] y) { a = Relu(x) b = Relu(a) c = Relu(b) y = Add(c, a) }")
    assert estimate(skip).activations == estimate(chain).activations + 400


def test_weights_are_counted_once_and_apart() -> None:
    m = model("g (float[4] x) => (float[4] y) <float[4] w = {1,2,3,4}> { a = Add(x, w) y = Mul(a, w) }")
    e = estimate(m)
    assert e.weights == 16
    assert e.activations == 3 * 16


def test_symbolic_dimensions_count_as_one_and_are_told() -> None:
    m = model("g (float[batch, 10] x) => (float[batch, 10] y) { y = Relu(x) }")
    e = estimate(m)
    assert e.activations == 80 and e.symbolic
    assert not estimate(model("g (float[10] x) => (float[10] y) { y = Relu(x) }")).symbolic


def test_a_quantized_group_is_counted_in_bytes_not_floats() -> None:
    text = """g (uint8[100] x) => (uint8[100] y) <float s = {0.1}, uint8 z = {0}> {
        a = DequantizeLinear(x, s, z) b = Relu(a) y = QuantizeLinear(b, s, z) }"""
    assert estimate(model(text)).activations == 200


def test_subgraphs_add_their_peak_at_their_node() -> None:
    text = """g (bool c, float[100] x) => (float[100] y) {
        y = If (c) <then_branch = t () => (float[100] o) { i = Relu(x) j = Relu(i) o = Relu(j) },
                    else_branch = e () => (float[100] p) { p = Relu(x) }> }"""
    e = estimate(model(text))
    assert e.activations >= 1 + 3 * 400
    assert e.activations <= 1 + 5 * 400


def test_a_value_that_no_one_can_size_is_told_and_counted_as_nothing() -> None:
    unknown = ir.from_proto(
        parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21, "com.example" : 1]>\n'
            "g (float[4] x) => (float[4] y) { a = com.example.Up(x) y = com.example.Up(a) }"
        )
    )
    e = estimate(unknown)
    assert e.unknown == 1 and e.activations == 32
