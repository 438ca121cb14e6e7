"""Nodes that ONNX Runtime has no kernel for, in operators that it has. Only ever used after it refused the model.

1. A node whose operator ONNX defines by a function body becomes that body (SwiGLU → Swish, Mul → Sigmoid, Mul …;
   FlexAttention); ONNX Runtime does so itself for some, not for all.
2. LSTM, GRU and RNN with layout = 1 (batch first) get Transposes around layout = 0.
3. A node that has a kernel for wider types only gets Casts around it: bfloat16 and float16 through float32,
   small integers through larger ones where the operator only selects among its inputs (Max, Min): the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
import onnx_ir as ir
from onnx import defs
from onnx_ir.passes import common

from edgec_targets.emitters.onnxruntime import opset, recurrent, support, widen

_ROUNDS = 6
"""Bodies call operators that have bodies: FlexAttention → Softmax, CastLike → Cast: three deep in opset 28."""


def variants(model: ir.Model) -> Iterator[ir.Model]:
    """The model itself, then copies with more and more replaced, each only made when the one before was refused."""
    yield model
    current = model
    for step in (_functions, recurrent.batch_second, widen.around):
        for _ in range(_ROUNDS):
            copy = current.clone()
            try:
                if not step(copy):
                    break
                _infer(copy)
            except Exception:  # a body that can't be put in place: the engine then says what it lacks, by node
                break
            current = copy
            yield current


def refused(model: ir.Model) -> list[ir.Node]:
    """Nodes that the probed table has no kernel for at the model's own opset, or doesn't know at all."""
    own = opset.of(model)
    return [node for node in model.graph.all_nodes() if support.judge(node, own) is not None or _unheard(node)]


def _unheard(node: ir.Node) -> bool:
    return node.domain.startswith("ai.onnx.preview")


def _functions(model: ir.Model) -> bool:
    """Put the function bodies of refused nodes in their place. True when there were any."""
    done = 0
    for node in refused(model):
        body = _body(node, model)
        if body is None:
            continue
        name = f"{node.op_type}_{done}"
        body.domain, body.name = "edgec.body", name
        function = ir.serde.deserialize_function(body)
        for domain in list(function.opset_imports):
            model.opset_imports.setdefault(domain, function.opset_imports[domain])
            function.opset_imports[domain] = model.opset_imports[domain]
        model.functions[function.identifier()] = function
        node.resize_outputs(len(function.outputs))
        graphs = [a.name for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
        for attribute in [a for a in node.attributes if a not in function.attributes or a in graphs]:
            del node.attributes[attribute]  # worked into the body already, like FlexAttention's graphs
            function.attributes.pop(attribute, None)
        node.domain, node.op_type, node.overload = "edgec.body", name, ""
        done += 1
    if done:
        model.opset_imports["edgec.body"] = 1
        common.InlinePass()(model)
        model.functions.clear()
        del model.opset_imports["edgec.body"]
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        used = {node.domain for node in model.graph.all_nodes()} | {""}
        for domain in [d for d in model.opset_imports if d not in used]:
            del model.opset_imports[domain]
    return bool(done)


def _body(node: ir.Node, model: ir.Model) -> onnx.FunctionProto | None:
    """The node's function body by ONNX's schema, for its types; None when there is none or its types aren't known."""
    version = model.opset_imports.get(node.domain, 0)
    try:
        schema: Any = defs.get_schema(node.op_type, version, node.domain)  # the stubs lack the function bodies
    except defs.SchemaError:
        return None
    try:
        if schema.has_function:
            data = schema.get_function_with_opset_version(max(schema.function_opset_versions))
        elif schema.has_context_dependent_function:
            types = [
                (ir.to_proto(v).type if v is not None and v.type is not None else onnx.TypeProto()).SerializeToString()
                for v in node.inputs
            ]
            of_body = max(schema.context_dependent_function_opset_versions)
            proto = ir.to_proto(node)
            for attribute in proto.attribute:
                if attribute.HasField("g"):
                    _weights_to_constants(attribute.g, _outer_weights(node.attributes[attribute.name].as_graph()))
            data = schema.get_context_dependent_function_with_opset_version(of_body, proto.SerializeToString(), types)
        else:
            return None
    except RuntimeError:  # it needs a shape that isn't known
        return None
    body = onnx.FunctionProto()
    body.ParseFromString(data)
    made = {*body.input, *(name for inner in body.node for name in inner.output)}
    wanted = max((i + 1 for i, out in enumerate(node.outputs) if out.name), default=0)
    del body.output[wanted:]  # bodies list outputs that they leave out where the node doesn't ask for them
    return body if body.node and all(name in made for name in body.output) else None


def _outer_weights(graph: ir.Graph) -> list[onnx.TensorProto]:
    """Initializers of the graphs around it that this one uses."""
    used = {v.name: v for node in graph.all_nodes() for v in node.inputs if v is not None and v.is_initializer()}
    outer = [v.const_value for name, v in used.items() if v.graph is not graph and v.const_value is not None]
    return [ir.to_proto(tensor) for tensor in outer]


def _weights_to_constants(graph: onnx.GraphProto, more: list[onnx.TensorProto]) -> None:
    """ONNX's body builders copy a subgraph's nodes only, and know nothing of what is around it."""
    weights = [*graph.initializer, *more]
    nodes = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in weights] + list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.node.extend(nodes)


def _infer(model: ir.Model) -> None:
    """Types for the new values; the next step, and the choice of the opset, look at them."""
    common.NameFixPass()(model)
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
