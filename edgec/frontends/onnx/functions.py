"""The model's own functions, inlined."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from edgec.frontends.onnx import isolated


def inline(model: ir.Model) -> tuple[ir.Model, list[str]]:
    """Inline every call; nodes keep the names they have in the function, made unique by a suffix.

    onnx_ir's pass does it, in place and without touching weights. It wants one opset for all; where a function
    has another, ONNX's own inliner converts its body, on a serialised copy of the model.
    """
    if not model.functions:
        return model, []
    count = len(model.functions)
    if _one_opset(model):
        common.InlinePass()(model)
    else:
        proto = isolated.inline(isolated.infer(ir.to_proto(model)))  # it needs the types of what calls give
        model = ir.from_proto(proto)
    left = [node for node in model.graph.all_nodes() if node.op_identifier() in model.functions]
    if not left:
        model.functions.clear()
    return model, [f"{count} function(s) of the model were inlined"]


def _one_opset(model: ir.Model) -> bool:
    return all(
        model.opset_imports.get(domain, version) == version
        for function in model.functions.values()
        for domain, version in function.opset_imports.items()
    )
