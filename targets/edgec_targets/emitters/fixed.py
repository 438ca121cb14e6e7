"""What emitters share whose files have one size and no free values."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import onnx_ir as ir

from edgec_targets.types import Problem


def sizes(model: ir.Model, what: str) -> list[Problem]:
    """Make a free first dimension of each input 1; an input that leaves others free is a problem.

    `what` has fixed shapes: "a TFLite file's".
    """
    problems = []
    for value in model.graph.inputs:
        dims = list(value.shape) if value.shape is not None else None
        if dims is None or any(not isinstance(d, int) for d in dims[1:]):
            found = "no shape" if dims is None else f"shape {value.shape}"
            fix = f"Give its whole shape: --shape {value.name}=1,3,224,224 (your own numbers)."
            problems.append(Problem(f"input '{value.name}'", "", f"It has {found}: {what} shapes are fixed.", fix))
        elif dims and not isinstance(dims[0], int):
            value.shape = ir.Shape([1, *dims[1:]])
    return problems


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The libraries log what they can't infer; what matters of it becomes a problem of ours."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
