"""Ask ONNX Runtime about one model: does it load (and run), and if not, does it refuse the operator or its types?"""

from __future__ import annotations

import re

# ONNX Runtime's own words (onnxruntime/core/framework/session_state.cc, graph/graph.cc, graph/model.cc): no kernel
# is registered for these types, the schema forbids a type, no such operator, or the opset is not released there.
_REFUSALS = re.compile(
    r"Could not find an implementation for|NOT_IMPLEMENTED|is not a registered function/op|"
    r"Type Error: Type '.*' of (input|output) parameter .* is invalid|No Op registered for|"
    r"is not currently registered or supported|till opset \d+|Unsupported model IR version|No opset import for domain"
)


def ask(model: bytes, run: bool) -> tuple[str, str]:
    """Return ("loads", ""), ("refused", its words) or ("unclear", its words) for a model without feeds."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # The question is which kernels exist; optimizers would only make 60,000 sessions slower.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        if run:
            session.run_with_ort_values([o.name for o in session.get_outputs()], {})
    except Exception as e:
        words = " ".join(str(e).split())
        verdict = "refused" if _REFUSALS.search(words) else "unclear"
        return verdict, re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", words)[:160]
    return "loads", ""
