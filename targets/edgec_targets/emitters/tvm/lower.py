"""ONNX to fused kernels: TVM's importer, NHWC layout, fusion. Runs in the child process (`worker`).

1. The importer makes Relax of the prepared model; the node that it fails at is named.
2. Convolutions become NHWC with weights HWIO; constants (weights, their transposes) are folded. What stands between
   convolutions follows where TVM knows how; transposes stay at the borders, as kernels of their own.
3. Every operator becomes a loop nest, and elementwise operators are fused into the nest before them.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from edgec_targets.emitters.tvm.refused import Refused

_LAYOUT = {"relax.nn.conv2d": ["NHWC", "HWIO"]}


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
                    transform.FoldConstant(),
                    transform.ConvertLayout(_LAYOUT),
                    transform.Normalize(),
                    transform.FoldConstant(),
                    transform.DeadCodeElimination(),
                    transform.LegalizeOps(),
                    transform.AnnotateTIROpPattern(),
                    transform.FoldConstant(),
                    transform.FuseOps(),
                    transform.FuseTIR(),
                    transform.DeadCodeElimination(),
                    transform.RewriteDataflowReshape(),
                    transform.CanonicalizeBindings(),
                    transform.DeadCodeElimination(),
                ]
            )(module)
    except Exception as e:  # a pass of TVM's may raise anything
        raise Refused("", "", f"TVM can't compile it: {_words(e)}") from e
    return lowered


def _imported(model: onnx.ModelProto) -> Any:
    at: list[tuple[str, str]] = [("", "")]

    class Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
        """Remembers the node that it is at."""

        def _convert_operator(self, op_name: str, inputs: Any, attrs: Any, opset: int) -> Any:
            at[0] = (attrs["tvm_custom"]["name"], op_name)
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


def _words(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("File ", "Traceback", "^"))]
    return f"{type(error).__name__}: {' '.join(told)[-240:]}"
