"""Residual sums kept out of onnxruntime's SkipLayerNormalization, whose CPU kernel is slower than its parts.

    LayerNormalization(Add(x, y))  ->  LayerNormalization(Sum(x, y))

onnxruntime fuses Add and LayerNormalization when it loads a file, but not Sum. Release 1.32 on an AMD Zen 4, one
thread, 64 × 384: 129 µs fused, 9 + 23 µs apart; twelve of them were a fifth of an int8 MiniLM's time, which went from
2.2 to 2.65 times float's speed (`benchmarks/quantize_transformers.py`). The results are the same.
"""

from __future__ import annotations

import onnx_ir as ir

from edgec.quantize import layers

_NORMALIZATIONS = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})


def unfused_residuals(model: ir.Model) -> int:
    """Write residual sums before a normalization as Sum, in place; names stay. Returns how many there were."""
    done = 0
    for node in list(model.graph):
        if node.op_type != "Add" or not layers.is_onnx(node) or len(node.outputs[0].shape or ()) < 2:
            continue
        if any(len(tensor.shape) < 2 for v in node.inputs if (tensor := layers.constant_tensor(v)) is not None):
            continue  # a bias
        if not any(
            u.op_type in _NORMALIZATIONS and u.inputs[0] is node.outputs[0] for u in node.outputs[0].consumers()
        ):
            continue
        made = ir.node("Sum", list(node.inputs), name=node.name)
        old, new = node.outputs[0], made.outputs[0]
        new.type, new.shape = old.type, old.shape
        model.graph.insert_before(node, made)
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        name = old.name
        model.graph.remove(node, safe=True)
        new.name = name
        done += 1
    return done
