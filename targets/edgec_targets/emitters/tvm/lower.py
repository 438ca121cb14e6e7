"""ONNX to fused kernels: TVM's importer, NHWC layout, fusion. Runs in the child process (`worker`).

1. The importer makes Relax of the prepared model; the node that it fails at is named.
2. Convolutions become NHWC with weights HWIO; constants (weights, their transposes) are folded. What stands between
   convolutions follows where TVM knows how; transposes stay at the borders, as kernels of their own.
3. Every operator becomes a loop nest, and elementwise operators are fused into the nest before them.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from typing import Any

import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from edgec_targets.emitters.tvm.layout import nhwc
from edgec_targets.emitters.tvm.refused import Refused


def lower(model: onnx.ModelProto, target: Any) -> Any:
    """An IRModule whose "main" calls kernels (PrimFuncs) on tensors of fixed shapes. Raises Refused."""
    module = _imported(model)
    transform = relax.transform
    try:
        with target, contextlib.redirect_stdout(io.StringIO()):
            lowered: Any = tvm.transform.Sequential(
                [
                    transform.DecomposeOpsForInference(),
                    transform.CanonicalizeBindings(),
                    transform.DeadCodeElimination(),
                ]
            )(module)
            lowered = nhwc(lowered)
            if _constant_work(lowered):  # each such call is compiled to be run: seconds for a hundred
                lowered = transform.FoldConstant()(lowered)
            lowered = tvm.transform.Sequential(
                [
                    transform.DeadCodeElimination(),
                    transform.LegalizeOps(),
                    transform.AnnotateTIROpPattern(),
                    transform.FuseOps(),
                    transform.FuseTIR(),
                    transform.DeadCodeElimination(),
                    transform.RewriteDataflowReshape(),
                    transform.CanonicalizeBindings(),
                    transform.DeadCodeElimination(),
                ]
            )(lowered)
    except Exception as e:  # a pass of TVM's may raise anything
        raise Refused("", "", f"TVM can't compile it: {_words(e)}") from e
    return lowered


def _imported(model: onnx.ModelProto) -> Any:
    at: list[tuple[str, str]] = [("", "")]

    class Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
        """Remembers the node that it is at."""

        def _convert_operator(self, op_name: str, inputs: Any, attrs: Any, opset: int) -> Any:
            at[0] = (attrs["tvm_custom"]["name"], op_name)
            if op_name == "Clip" and (limits := _limits(inputs)) is not None:
                # The importer would make kernels of it, which the layout pass can't see through.
                return self.bb.normalize(relax.op.clip(inputs[0], *limits))
            return super()._convert_operator(op_name, inputs, attrs, opset)

    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    known = set(onnx_frontend._get_convert_map()) | {"Constant"}
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in known:
            raise Refused(node.name, node.op_type, "TVM's importer does not know this operator")
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return Importer({}, "float32", keep_params_in_input=False, sanitize=True).from_onnx(model.graph, opset)
    except Exception as e:  # the importer raises whatever its Python or TVM's C++ does
        node, operator = at[0]
        raise Refused(node, operator, f"TVM can't import it: {_words(e)}") from e


def _limits(inputs: Any) -> tuple[float, float] | None:
    """A Clip's constant bounds; None where they are computed, or are attributes (before opset 11)."""
    if len(inputs) < 2 or not str(inputs[0].ty.dtype).startswith("float32"):
        return None
    found = [-math.inf, math.inf]
    for place, value in enumerate((inputs[1], inputs[2] if len(inputs) > 2 else None)):
        if isinstance(value, tvm.ir.GenericConst):
            found[place] = float(value.value.numpy().reshape(()))
        elif value is not None:
            return None
    return found[0], found[1]


def _constant_work(module: Any) -> bool:
    """Whether a call has only constants to read: what the ONNX model's own folding left, or the importer made."""
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            value = getattr(binding, "value", None)
            if isinstance(value, relax.Call) and value.args and all(_constant(arg) for arg in value.args):
                return True
    return False


def _constant(value: Any) -> bool:
    if isinstance(value, relax.Tuple):
        return all(_constant(field) for field in value.fields)
    return isinstance(value, (tvm.ir.GenericConst, tvm.ir.GlobalVar, relax.ShapeExpr))


def _words(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("File ", "Traceback", "^"))]
    return f"{type(error).__name__}: {' '.join(told)[-240:]}"
