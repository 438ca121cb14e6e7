"""Transformer blocks as ONNX Runtime's own operators (com.microsoft): attention, skip connections, activations.

Engine-specific: only for a payload that ONNX Runtime runs, as a float model, and never before quantization (the fused
operators have no QDQ form). Not in the default list.
"""

from __future__ import annotations

import collections
from collections.abc import Callable

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.rewriter.ort_fusions.attention import fuse_attention
from onnxscript.rewriter.ort_fusions.bias_gelu import fuse_bias_gelu
from onnxscript.rewriter.ort_fusions.cos_sin_cache import fuse_cos_sin_cache
from onnxscript.rewriter.ort_fusions.gqa import fuse_gqa
from onnxscript.rewriter.ort_fusions.gqa_packed_qkv import fuse_qkv_gqa
from onnxscript.rewriter.ort_fusions.mha import fuse_mha1, fuse_mha2
from onnxscript.rewriter.ort_fusions.mha_bias import fuse_mha_bias
from onnxscript.rewriter.ort_fusions.mha_scale import fuse_mha_scale
from onnxscript.rewriter.ort_fusions.rotary_embedding import fuse_partial_rotary_embedding, fuse_rotary_embedding
from onnxscript.rewriter.ort_fusions.sdpa import fuse_sdpa
from onnxscript.rewriter.ort_fusions.skip_normalization import (
    fuse_skip_layer_normalization,
    fuse_skip_rms_normalization,
)

from edgec.passes import folding, library, naming, noop, shapes, unused
from edgec.passes.report import Log

_DOMAIN = "com.microsoft"

# onnxscript's fusions, in the order in which it composes them itself (`optimize_for_ort`).
_FUSIONS: tuple[tuple[str, Callable[[ir.Model], int]], ...] = (
    ("SkipLayerNormalization", fuse_skip_layer_normalization),
    ("SkipSimplifiedLayerNormalization", fuse_skip_rms_normalization),
    ("RotaryEmbedding", fuse_rotary_embedding),
    ("cos/sin cache", fuse_cos_sin_cache),
    ("partial RotaryEmbedding", fuse_partial_rotary_embedding),
    ("scaled dot product attention", fuse_sdpa),
    ("GroupQueryAttention", fuse_gqa),
    ("packed GroupQueryAttention", fuse_qkv_gqa),
    ("MultiHeadAttention", fuse_mha1),
    ("MultiHeadAttention", fuse_mha2),
    ("scale into MultiHeadAttention", fuse_mha_scale),
    ("bias into MultiHeadAttention", fuse_mha_bias),
    ("Attention", fuse_attention),
    ("BiasGelu", fuse_bias_gelu),
)


def apply(model: ir.Model, log: Log) -> None:
    """Applies onnxscript's fusions for ONNX Runtime.

    1. Add + LayerNormalization: SkipLayerNormalization, with its bias.
    2. Attention over heads, with mask, scale and bias: MultiHeadAttention, then Attention with packed weights.
    3. Rotary embeddings with their tables.
    4. Add + Gelu: BiasGelu.
    5. A model whose attention is not recognised keeps its parts: what was half fused is taken apart again.
    """
    shapes.infer(model)
    names = collections.Counter(n.name for g in model.graphs() for n in g)
    known = list(model.functions)
    with library.quiet():
        for title, fuse in _FUSIONS:
            for _ in range(fuse(model)):
                log.fire(title)
        # A half-way operator of onnxscript's own ("SDPA") that no engine has: back to its parts.
        if any(identifier not in known for identifier in model.functions):
            common.InlinePass()(model)
    if not log.count:
        return
    _rename(model, names)
    folding.apply(model, Log())
    noop.apply(model, Log())
    unused.apply(model, Log())


def _rename(model: ir.Model, known: collections.Counter[str | None]) -> None:
    """Names the new nodes after what they compute, like every other pass."""
    names = naming.Names(model)
    for graph in model.graphs():
        for node in graph:
            if node.domain == _DOMAIN and node.name not in known:
                node.name = names.node(f"{node.op_type}:{node.outputs[0].name}")
            for key in ("pkg.onnxscript.rewriter.rule_name",):
                node.metadata_props.pop(key, None)
    naming.separate(model)
    naming.name_nodes(model)
