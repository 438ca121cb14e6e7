"""A float model's splits into float and integers, as `quantize_with_data` would make them; nothing is calibrated."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from edgec.quantize.assign import assign
from edgec.quantize.placement import rules
from edgec.quantize.placement.costs import Kernels
from edgec.quantize.placement.worth import Split


def split(
    model: ir.Model,
    kernels: Kernels,
    *,
    exclude: Collection[str] = (),
    placement: str = "onnxruntime",
    margin: float = 0.0,
) -> Split:
    """What every split of a model costs by an engine's kernels.

    Args:
        model: float model (opset ≥ 13), after the passes; not changed.
        kernels: the costs.
        exclude: names or operator types of nodes that stay float.
        placement: whose rules say what can be an integer.
        margin: see `Split`.

    Raises UsageError where an exclusion matches nothing.
    """
    from edgec_targets.emitters.onnxruntime import opset

    engine = rules(placement)
    model = opset.lower(model, opset.candidates(model)[0])
    return Split(model, assign(model, scheme=engine.scheme, exclude=exclude), engine, kernels, margin)
