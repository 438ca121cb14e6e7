"""What every quantized file is relieved of, whatever its scheme: float embedding tables and exporters' traces."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from edgec.quantize.weights.embeddings import quantize_embeddings


def compact(model: ir.Model, exclude: Collection[str] = ()) -> ir.Model:
    """A copy with int8 embedding tables (`weights/embeddings.py`) and without what exporters leave on each node.

    Args:
        model: quantized or not; opset ≥ 13.
        exclude: names of tables or Gather nodes, or "Gather", that stay float.
    """
    made = quantize_embeddings(model, exclude=exclude).model
    without_traces(made)
    return made


def without_traces(model: ir.Model) -> None:
    """Drop each node's metadata: file names and stack traces of the code that was exported, 0.4 MB of MiniLM."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
