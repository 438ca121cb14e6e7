"""constants, identity, folding, noop, chains, duplicates, unused: the smallest graph for each numbered case."""

# ruff: noqa: E501  (a model is a line of text)
from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgec import passes
from edgec.passes.check import outputs_check


class TestConstants:
    def test_1_constant_node_becomes_an_initializer_of_the_same_name(self, apply):
        got = apply(
            "a (float[2] x) => (float[2] y) { c = Constant<value_floats = [1.0, 2.0]>() y = Add(x, c) }", "constants"
        )
        assert got.ops == {"Add": 1}
        assert list(got.model.graph.initializers) == ["c"]

    def test_2_constant_that_is_an_output_stays(self, apply):
        assert apply("a () => (float y) { y = Constant<value_float = 1.5>() }", "constants").ops == {"Constant": 1}

    def test_3_initializers_of_two_branches_move_out_under_names_of_their_own(self, apply):
        text = """a (bool b, float[2] x) => (float[2] y) {
            y = If(b) <then_branch = t () => (float[2] p) <float[2] c = {1.0, 2.0}> { p = Add(x, c) },
                       else_branch = e () => (float[2] q) <float[2] c = {3.0, 4.0}> { q = Mul(x, c) }> }"""
        for b in (True, False):
            feeds = {"b": np.array(b), "x": np.array([5, 6], np.float32)}
            got = apply(text, "constants", feeds=feeds)
            assert len(got.model.graph.initializers) == 2

    def test_4_weights_of_ir_version_3_leave_the_inputs(self):
        text = "a (float[2] x, float[2] w) => (float[2] y) { y = Mul(x, w) }"
        model = onnx.parser.parse_model(f'<ir_version: 3, opset_import: ["" : 9]>\n{text}')
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, np.float32), "w"))
        changed = ir.from_proto(model)
        passes.run(changed)
        assert [v.name for v in changed.graph.inputs] == ["x"]
        assert passes.counts(changed) == {"Identity": 1}
        onnx.checker.check_model(ir.to_proto(changed))

    def test_a_string_keeps_its_zero_bytes(self):
        text = 'a () => (string[1] y) { c = Constant<value_strings = ["ab"]>() y = Identity(c) }'
        proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')
        proto.graph.node[0].attribute[0].strings[0] = b"ab\0"
        model = ir.from_proto(proto)
        passes.run(model, ["constants"])
        (value,) = model.graph.initializers.values()
        assert list(value.const_value.string_data()) == [b"ab\0"]


class TestIdentity:
    def test_1_inner(self, apply):
        got = apply("a (float[2] x) => (float[2] y) { t = Relu(x) u = Identity(t) y = Neg(u) }", "identity")
        assert got.ops == {"Neg": 1, "Relu": 1}

    def test_2_output_of_a_computed_value_takes_its_name(self, apply):
        assert apply("a (float[2] x) => (float[2] y) { t = Relu(x) y = Identity(t) }", "identity").ops == {"Relu": 1}

    def test_3_output_of_an_input_stays(self, apply):
        assert apply("a (float[2] x) => (float[2] y) { y = Identity(x) }", "identity").ops == {"Identity": 1}

    def test_3_output_of_an_initializer_stays(self, apply):
        got = apply("a () => (float[2] y) <float[2] w = {1.0, 2.0}> { y = Identity(w) }", "identity")
        assert got.ops == {"Identity": 1}

    def test_3_output_of_a_branch_that_hands_on_an_outer_value_stays(self, apply):
        text = """a (bool b, float[2] x) => (float[2] y) { t = Relu(x)
            y = If(b) <then_branch = t () => (float[2] p) { p = Identity(t) },
                       else_branch = e () => (float[2] q) { q = Neg(t) }> }"""
        assert apply(text, "identity").ops["Identity"] == 1

    def test_4_two_outputs_keep_two_names(self, apply):
        got = apply("a (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Identity(y) }", "identity")
        assert got.ops == {"Identity": 1, "Relu": 1}


class TestFolding:
    def test_1_constant_expression(self, apply):
        text = "a (float[2] x) => (float[2] y) <float[2] p = {1.0, 2.0}, float[2] q = {3.0, 4.0}> { t = Mul(p, q) y = Add(x, t) }"
        assert apply(text, "folding").ops == {"Add": 1}

    def test_2_shape_of_a_static_shape(self, apply):
        got = apply("a (float[2,3] x) => (int64[2] y) { s = Shape(x) y = Neg(s) }", "folding")
        assert "Shape" not in got.ops

    def test_3_constant_if_becomes_its_branch(self, apply):
        text = """a (float[2] x) => (float[2] y) <bool b = {1}> { t = Relu(x)
            u = If(b) <then_branch = t () => (float[2] p) { t2 = Neg(t) p = Exp(t2) },
                       else_branch = e () => (float[2] q) { t2 = Sin(t) q = Cos(t2) }>
            y = Abs(u) }"""
        assert apply(text, "folding").ops == {"Abs": 1, "Exp": 1, "Neg": 1, "Relu": 1}

    def test_3_two_ifs_with_the_same_inner_names(self, apply):
        branch = "{ t2 = Neg(x) p = Exp(t2) }"
        text = f"""a (float[2] x) => (float[2] y) <bool b = {{1}}> {{
            u = If(b) <then_branch = t () => (float[2] p) {branch}, else_branch = e () => (float[2] p) {branch}>
            v = If(b) <then_branch = t () => (float[2] p) {branch}, else_branch = e () => (float[2] p) {branch}>
            y = Add(u, v) }}"""
        assert "If" not in apply(text, "folding").ops

    def test_3_branch_that_hands_on_an_outer_value_stays(self, apply):
        text = """a (bool b, float[2] x) => (float[2] y) <bool c = {1}> {
            y = If(c) <then_branch = t () => (float[2] p) { p = Identity(x) },
                       else_branch = e () => (float[2] q) { q = Neg(x) }> }"""
        apply(text, "folding")

    @pytest.mark.parametrize(
        "node", ["RandomUniform<shape = [2]>()", "RandomNormalLike(w)", "Bernoulli(w)", "Dropout(w, r, t)"]
    )
    def test_4_random_operators_stay(self, node):
        text = f"""<ir_version: 10, opset_import: ["" : 21]> a (float[2] x) => (float[2] y)
            <float[2] w = {{0.5, 0.5}}, float r = {{0.5}}, bool t = {{1}}> {{ u = {node} y = Add(x, u) }}"""
        model = ir.from_proto(onnx.parser.parse_model(text))
        passes.run(model)
        assert sum(passes.counts(model).values()) == 2

    def test_4_quantization_stays(self, apply):
        text = """a (float[2] x) => (float[2] y) <int8[2] w = {1, 2}, float s = {0.5}, int8 z = {0}> {
            u = DequantizeLinear(w, s, z) y = Add(x, u) }"""
        assert apply(text, "folding").ops == {"Add": 1, "DequantizeLinear": 1}

    def test_5_a_large_result_is_left_alone_and_says_so(self, apply):
        text = "a (float[1] x) => (float[n] y) <float z = {0.0}, float n = {1000000.0}, float d = {1.0}> { t = Range(z, n, d) y = Add(x, t) }"
        got = apply(text, "folding")
        assert got.ops == {"Add": 1, "Range": 1}
        assert "bytes bigger" in got.why

    def test_5_a_weight_that_is_only_moved_is_folded_at_any_size(self, apply):
        weights = {"w": np.ones((1024, 512), np.float32)}
        got = apply(
            "a (float[1,512] x) => (float[1,1024] y) { t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t) }",
            "folding",
            weights=weights,
        )
        assert got.ops == {"MatMul": 1}

    def test_6_an_output_stays_computed(self, apply):
        got = apply("a () => (float[2] y) <float[2] w = {1.0, 2.0}> { y = Neg(w) }", "folding")
        assert got.ops == {"Neg": 1}

    def test_an_overridable_initializer_is_no_constant(self):
        text = """<ir_version: 10, opset_import: ["" : 21]>
            a (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1.0, 1.0}> { t = Neg(w) y = Mul(x, w) z = Mul(y, t) }"""
        proto = onnx.parser.parse_model(text)
        del proto.graph.output[:]
        proto.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [2]))
        model = ir.from_proto(proto)
        passes.run(model)
        assert passes.counts(model) == {"Mul": 2, "Neg": 1}
        assert [v.name for v in model.graph.inputs] == ["x", "w"]
        assert model.graph.initializers["w"].const_value is not None

    @pytest.mark.parametrize("override", [None, [3, 2]])
    def test_an_overridable_shape_is_no_constant(self, override):
        text = """<ir_version: 10, opset_import: ["" : 21]>
            a (float[2,3] x, int64[2] s) => (float[m,n] y) <int64[2] s = {2, 3}> { y = Reshape(x, s) }"""
        proto = onnx.parser.parse_model(text)
        model = ir.from_proto(proto)
        feeds = {"x": np.ones((2, 3), np.float32)} | ({} if override is None else {"s": np.array(override)})
        passes.run(model, check=outputs_check(proto.SerializeToString(), [feeds]))
        outputs_check(proto.SerializeToString(), [feeds])(model, "all")
        assert passes.counts(model) == {"Reshape": 1}

    def test_cast_like_without_saturation_stays(self):
        text = """<ir_version: 10, opset_import: ["" : 21]> a (float[2] x, float8e4m3fn[1] l) => (float8e4m3fn[2] y)
            { y = CastLike<saturate = 0>(x, l) }"""
        model = ir.from_proto(onnx.parser.parse_model(text))
        passes.run(model)
        assert passes.counts(model) == {"CastLike": 1}


NOTHING = {
    "Cast": "Cast<to = 1>(t)",
    "CastLike": "CastLike(t, x)",
    "Reshape": "Reshape(t, shape)",
    "Expand": "Expand(t, shape)",
    "Flatten": "Flatten(t)",
    "Transpose": "Transpose<perm = [0, 1]>(t)",
    "Slice": "Slice(t, zero, far)",
    "Pad": "Pad(t, none)",
    "Tile": "Tile(t, ones)",
    "Dropout": "Dropout(t)",
    "Concat": "Concat<axis = 0>(t)",
    "Sum": "Sum(t)",
    "Max": "Max(t)",
    "Mul": "Mul(one, t)",
    "Div": "Div(t, one)",
    "Add": "Add(t, nought)",
    "Sub": "Sub(t, nought)",
    "Pow": "Pow(t, one)",
}
SOMETHING = {
    "Cast": "v = Cast<to = 10>(t) u = Cast<to = 1>(v)",
    "Reshape": "v = Reshape(t, turned) u = Transpose<perm = [1, 0]>(v)",
    "Slice": "v = Slice(t, zero, near) u = Pad(v, row)",
    "Pad": "v = Pad(t, row) u = Slice(v, one_row, far)",
    "Mul": "u = Mul(t, two)",
    "Add": "u = Add(t, one)",
    "Sub": "u = Sub(nought, t)",
    "Div": "u = Div(one, t)",
    "Pow": "u = Pow(one, t)",
    "Sum": "u = Sum(t, t)",
    "Concat": "v = Concat<axis = 0>(t, t) u = Slice(v, zero, near)",
}
CONSTANTS = """int64[2] shape = {2, 3}, int64[2] turned = {3, 2}, int64[1] zero = {0}, int64[1] far = {9223372036854775807},
    int64[1] near = {1}, int64[1] one_row = {1}, int64[4] none = {0, 0, 0, 0}, int64[4] row = {0, 0, 1, 0}, int64[2] ones = {1, 1},
    float one = {1.0}, float nought = {0.0}, float two = {2.0}"""


class TestNoop:
    @pytest.mark.parametrize("op", NOTHING)
    def test_1_to_7_nothing(self, apply, op):
        got = apply(
            f"a (float[2,3] x) => (float[2,3] y) <{CONSTANTS}> {{ t = Relu(x) u = {NOTHING[op]} y = Neg(u) }}", "noop"
        )
        assert got.ops == {"Neg": 1, "Relu": 1}

    @pytest.mark.parametrize("op", SOMETHING)
    def test_8_something(self, apply, op):
        text = f"a (float[2,3] x) => (float[m,n] y) <{CONSTANTS}> {{ t = Relu(x) {SOMETHING[op]} y = Neg(u) }}"
        assert apply(text, "noop").ops.get(op)

    def test_7_a_constant_that_makes_the_result_bigger_stays(self, apply):
        text = "a (float[3] x) => (float[2,3] y) <float[2,1] c = {1.0, 1.0}> { t = Relu(x) y = Mul(t, c) }"
        assert apply(text, "noop").ops == {"Mul": 1, "Relu": 1}

    def test_5_a_mask_that_is_read_keeps_the_dropout(self, apply):
        got = apply("a (float[2] x) => (float[2] y, bool[2] m) { t = Relu(x) y, m = Dropout(t) }", "noop")
        assert got.ops == {"Dropout": 1, "Relu": 1}

    def test_8_dimensions_that_paddle_calls_the_same_question_mark_are_not_the_same(self):
        model = onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21]> a (float[2,2] x, int64[2] s) => (float[2,2] y) { y = Reshape(x, s) }'
        )
        for value in (model.graph.input[0], model.graph.output[0]):
            for dim in value.type.tensor_type.shape.dim:
                dim.dim_param = "?"
        changed = ir.from_proto(model)
        passes.run(changed)
        assert passes.counts(changed) == {"Reshape": 1}


class TestChains:
    def test_1_reshape_reshape(self, apply):
        text = "a (float[2,6] x) => (float[4,3] y) <int64[2] p = {3, 4}, int64[2] q = {4, -1}> { t = Reshape(x, p) y = Reshape(t, q) }"
        assert apply(text, "chains").ops == {"Reshape": 1}

    def test_1_a_zero_in_the_second_shape_stays(self, apply):
        text = "a (float[2,6] x) => (float[3,4] y) <int64[2] p = {3, 4}, int64[2] q = {0, -1}> { t = Reshape(x, p) y = Reshape(t, q) }"
        got = apply(text, "chains")
        assert got.ops == {"Reshape": 2}
        assert "copies a dimension" in got.why

    def test_the_first_stays_where_something_else_uses_it(self, apply):
        text = """a (float[2,6] x) => (float[4,3] y, float[3,4] z) <int64[2] p = {3, 4}, int64[2] q = {4, 3}> {
            z = Reshape(x, p) y = Reshape(z, q) }"""
        got = apply(text, "chains")
        assert got.ops == {"Reshape": 2}
        assert all(n.inputs[0].name == "x" for n in got.model.graph)

    def test_2_transpose_transpose(self, apply):
        text = "a (float[2,3,4] x) => (float[4,2,3] y) { t = Transpose<perm = [1, 0, 2]>(x) y = Transpose<perm = [2, 1, 0]>(t) }"
        assert apply(text, "chains").ops == {"Transpose": 1}

    def test_2_inverse_transposes_without_a_permutation_vanish(self, apply):
        text = "a (float[2,3,4] x) => (float[2,3,4] y) { s = Relu(x) t = Transpose(s) u = Transpose(t) y = Neg(u) }"
        assert "Transpose" not in apply(text, "chains", "identity").ops

    def test_3_cast_cast(self, apply):
        text = "a (float[3] x) => (float16[3] y) { t = Cast<to = 11>(x) y = Cast<to = 10>(t) }"
        assert apply(text, "chains").ops == {"Cast": 1}

    def test_3_a_first_cast_that_rounds_stays(self, apply):
        got = apply("a (float[3] x) => (float[3] y) { t = Cast<to = 7>(x) y = Cast<to = 1>(t) }", "chains")
        assert got.ops == {"Cast": 2}
        assert "may round" in got.why

    @pytest.mark.parametrize("first", range(-2, 2))
    @pytest.mark.parametrize("second", range(-3, 3))
    def test_4_unsqueeze_unsqueeze(self, apply, first, second):
        text = f"""a (float[5] x) => (float[a,b,c] y) <int64[1] p = {{{first}}}, int64[1] q = {{{second}}}> {{
            t = Unsqueeze(x, p) y = Unsqueeze(t, q) }}"""
        assert apply(text, "chains").ops == {"Unsqueeze": 1}

    def test_4_squeeze_squeeze(self, apply):
        text = "a (float[1,5,1] x) => (float[5] y) <int64[1] p = {0}, int64[1] q = {-1}> { t = Squeeze(x, p) y = Squeeze(t, q) }"
        assert apply(text, "chains").ops == {"Squeeze": 1}

    def test_5_slices_of_two_axes(self, apply):
        text = """a (float[4,5] x) => (float[2,3] y) <int64[1] p = {1}, int64[1] q = {3}, int64[1] r = {4}, int64[1] a0 = {0},
            int64[1] a1 = {-1}> { t = Slice(x, p, q, a0) y = Slice(t, p, r, a1) }"""
        assert apply(text, "chains").ops == {"Slice": 1}

    def test_5_slices_of_one_axis_stay(self, apply):
        text = "a (float[6] x) => (float[n] y) <int64[1] p = {1}, int64[1] q = {4}> { t = Slice(x, p, q) y = Slice(t, p, q) }"
        assert apply(text, "chains").ops == {"Slice": 2}


class TestDuplicates:
    def test_1_initializers(self, apply):
        text = "a (float[2] x) => (float[2] y) <float[2] p = {1.0, 2.0}, float[2] q = {1.0, 2.0}> { t = Add(x, p) y = Mul(t, q) }"
        assert len(apply(text, "duplicates").model.graph.initializers) == 1

    def test_1_another_type_stays_apart(self, apply):
        text = "a (float[1] x, int32[1] i) => (float[1] y, int32[1] j) <float[1] p = {0.0}, int32[1] q = {0}> { y = Add(x, p) j = Add(i, q) }"
        assert len(apply(text, "duplicates").model.graph.initializers) == 2

    def test_2_nodes(self, apply):
        got = apply("a (float[2] x) => (float[2] y) { t = Exp(x) u = Exp(x) y = Add(t, u) }", "duplicates")
        assert got.ops == {"Add": 1, "Exp": 1}

    def test_2_two_outputs_keep_their_names(self, apply):
        apply("a (float[2] x) => (float[2] y, float[2] z) { y = Exp(x) z = Exp(x) }", "duplicates")

    def test_3_random_operators_stay(self):
        text = '<ir_version: 10, opset_import: ["" : 21]> a (float[2] x) => (float[2] y) { t = Bernoulli(x) u = Bernoulli(x) y = Add(t, u) }'
        model = ir.from_proto(onnx.parser.parse_model(text))
        passes.run(model)
        assert passes.counts(model) == {"Bernoulli": 2, "Add": 1}
        assert all("edgec_fence" not in n.attributes for n in model.graph)

    def test_4_nodes_that_leave_out_an_output_stay(self, apply):
        proto = onnx.helper.make_model(
            onnx.helper.make_graph(
                [
                    onnx.helper.make_node("MaxPool", ["x"], ["t", ""], kernel_shape=[2]),
                    onnx.helper.make_node("MaxPool", ["x"], ["u", "i"], kernel_shape=[2]),
                    onnx.helper.make_node("Add", ["t", "u"], ["y"]),
                ],
                "g",
                [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 4])],
                [
                    onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 3]),
                    onnx.helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [1, 1, 3]),
                ],
            ),
            opset_imports=[onnx.helper.make_opsetid("", 21)],
            ir_version=10,
        )
        assert apply(proto, "duplicates").ops == {"Add": 1, "MaxPool": 2}

    @pytest.mark.parametrize("dtype", ["BFLOAT16", "FLOAT8E4M3FN", "STRING", "INT4"])
    def test_1_initializers_of_any_type(self, dtype):
        data = [b"a", b"b"] if dtype == "STRING" else [1, 2]
        tensor_type = getattr(onnx.TensorProto, dtype)
        weights = [onnx.helper.make_tensor(name, tensor_type, [2], data) for name in "pq"]
        nodes = [onnx.helper.make_node("Identity", [name], [name + "_out"]) for name in "pq"]
        outputs = [onnx.helper.make_tensor_value_info(name + "_out", tensor_type, [2]) for name in "pq"]
        graph = onnx.helper.make_graph(nodes, "g", [], outputs, weights)
        model = ir.from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)]))
        passes.run(model, ["duplicates"])
        assert len(model.graph.initializers) == 1
        onnx.checker.check_model(ir.to_proto(model))


class TestUnused:
    def test_1_and_2_a_dead_chain_and_its_weights(self, apply):
        got = apply(
            "a (float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}> { y = Relu(x) t = Mul(x, w) u = Exp(t) }",
            "unused",
        )
        assert got.ops == {"Relu": 1}
        assert not got.model.graph.initializers

    def test_2_an_overridable_initializer_stays(self):
        text = '<ir_version: 10, opset_import: ["" : 21]> a (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1.0, 1.0}> { y = Relu(x) }'
        model = ir.from_proto(onnx.parser.parse_model(text))
        passes.run(model)
        assert list(model.graph.initializers) == ["w"]
