"""Einsum of one or two operands: transposes, a batched matrix product, a transpose."""

from __future__ import annotations

import math

import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.registry import Refusal, operator
from edgec_targets.emitters.litert.values import text


@operator("Einsum")
def einsum(ctx: Context, node: ir.Node) -> None:
    """Letters of both operands and the result are batches, of both alone are summed by the product, others are kept."""
    left, _, result = text(node, "equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    if "..." in left or len(terms) != len(node.inputs) or len(terms) > 2:
        raise Refusal(f"Its equation '{text(node, 'equation', '')}' has an ellipsis or more than two operands.")
    if not result and "->" not in text(node, "equation", ""):
        letters = "".join(terms)
        result = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if any(len(set(t)) != len(t) for t in (*terms, result)):
        raise Refusal("Its equation takes a diagonal.")
    sizes: dict[str, int] = {}
    tensors = []
    for n, term in enumerate(terms):
        tensor = ctx.input(node, n)
        sizes.update(zip(term, tensor.shape, strict=True))
        elsewhere = set(result) | set("".join(t for m, t in enumerate(terms) if m != n))
        tensor, terms[n] = _summed(ctx, tensor, term, [c for c in term if c not in elsewhere])
        tensors.append(tensor)
    out = ctx.result(node)
    if len(terms) == 1:
        ctx.reshape(ctx.transpose(tensors[0], [terms[0].index(c) for c in result]), out.shape, out)
        return
    a, b = terms
    batch = [c for c in result if c in a and c in b]
    shared = [c for c in a if c in b and c not in result]
    rows, columns = ([c for c in t if c not in other] for t, other in ((a, b), (b, a)))
    stacks = [sizes[c] for c in batch]
    height, inner, width = (math.prod(sizes[c] for c in g) for g in (rows, shared, columns))
    x = ctx.reshape(ctx.transpose(tensors[0], [a.index(c) for c in (*batch, *rows, *shared)]), (*stacks, height, inner))
    y = ctx.reshape(
        ctx.transpose(tensors[1], [b.index(c) for c in (*batch, *columns, *shared)]), (*stacks, width, inner)
    )
    if len(stacks) > _STACKS:
        raise Refusal(f"It has {len(stacks)} batch axes; TFLite takes {_STACKS}.")
    product = ctx.op("BATCH_MATMUL", [x, y], (*stacks, height, width), "BatchMatMulOptions", adjX=False, adjY=True)
    made = [*batch, *rows, *columns]
    apart = ctx.reshape(product, [sizes[c] for c in made])
    ctx.reshape(ctx.transpose(apart, [made.index(c) for c in result]), out.shape, out)


_STACKS = 3


def _summed(ctx: Context, tensor: Tensor, term: str, letters: list[str]) -> tuple[Tensor, str]:
    """The tensor summed over axes that neither the other operand nor the result has."""
    if not letters:
        return tensor, term
    axes = [term.index(c) for c in letters]
    kept = [d for n, d in enumerate(tensor.shape) if n not in axes]
    summed = ctx.op("SUM", [tensor, ctx.numbers(axes)], kept, "ReducerOptions", keepDims=False)
    return summed, "".join(c for c in term if c not in letters)
