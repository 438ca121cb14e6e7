"""Passes: from the imported float model to the fused one, with the same outputs.

    from edgec import passes
    applied = passes.run(model)                       # the default list, in place
    check = passes.outputs_check(original, feeds)     # then passes.run(model, check=check) raises where outputs move

A pass is one file with `apply(model, log)`; its docstring lists the cases by number. The default list keeps to standard
ONNX operators. Fusions into operators of one engine have names that begin with it (`ort_…`) and are a target's choice.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence

import onnx_ir as ir

from edgec.errors import UsageError
from edgec.passes.check import outputs_check
from edgec.passes.report import Applied, Fired, Log, Refused, counts

__all__ = ["ALL", "NAMES", "Applied", "Fired", "Refused", "counts", "outputs_check", "run"]

# The default list, in order. Constants and shapes come first since fusions ask for them; duplicates before the fusions
# of many nodes, whose patterns share values; what the fusions leave behind is cleared at the end.
NAMES: tuple[str, ...] = (
    "constants",
    "identity",
    "folding",
    "shapes",
    "noop",
    "chains",
    "duplicates",
    "pad",
    "batchnorm",
    "hardswish",
    "clip",
    "normalization",
    "gelu",
    "affine",
    "gemm",
    "unused",
)

# Everything `run` knows by name.
ALL: tuple[str, ...] = (*NAMES, "ort_transformer")


def run(
    model: ir.Model, names: Sequence[str] | None = None, *, check: Callable[[ir.Model, str], None] | None = None
) -> list[Applied]:
    """Applies passes to `model`, in place.

    Inputs and outputs keep their names, order, types and shapes. A node that remains keeps its name; a fused node has
    that of its main part (the Conv). Nothing depends on time, chance or the order of a set: the same model gives the
    same bytes.

    Args:
        model: With functions inlined; functions that are left are not looked into.
        names: Which passes, in which order; default `NAMES`. A target may choose others from `ALL`.
        check: Called as `check(model, pass name)` after each pass that changed something; see `outputs_check`.

    Returns:
        What each pass did, in order.

    Raises:
        UsageError: A name that is no pass.
        GoldenError: From `check`: a pass moved an output.
    """
    chosen = NAMES if names is None else tuple(names)
    if unknown := [name for name in chosen if name not in ALL]:
        raise UsageError(
            f"There is no pass '{unknown[0]}'.", f"Passes are: {', '.join(ALL)}.", "Take one of these names."
        )
    from edgec.passes import naming, shapes, unused

    naming.name_nodes(model)
    with _overridable_hidden(model):
        shapes.infer(model)
    applied = []
    for name in chosen:
        before = _size(model)
        log = Log()
        with _overridable_hidden(model):
            importlib.import_module(f"edgec.passes.{name}").apply(model, log)
            if log.count:
                unused.sweep(model)
        applied.append(Applied(name, bool(log.count), before, _size(model), log.fired, log.refused))
        if check is not None and log.count:
            check(model, name)
    return applied


def _size(model: ir.Model) -> int:
    return sum(len(graph) for graph in model.graphs())


@contextlib.contextmanager
def _overridable_hidden(model: ir.Model) -> Iterator[None]:
    """Takes the value off initializers that are also inputs: whoever calls the model may override them.

    The libraries' passes ask for `const_value` alone, and would fold a default that need not hold.
    """
    hidden = [
        (value, value.const_value)
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.is_graph_input() and model.ir_version >= 4
    ]
    try:
        for value, _ in hidden:
            value.const_value = None
        yield
    finally:
        for value, tensor in hidden:
            value.const_value = tensor
