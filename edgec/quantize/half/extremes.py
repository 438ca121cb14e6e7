"""The extremes of every float32 value of the main graph on calibration data, reduced inside the graph."""

from __future__ import annotations

from itertools import islice

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.progress import Progress, silent
from edgec.quantize.half.delicate import Seen
from edgec.quantize.session import Session, expose

# Extremes settle soon, and `delicate` leaves room above them.
SAMPLES = 32


def extremes(model: ir.Model, data: Dataset, progress: Progress = silent) -> dict[str, Seen]:
    """Extremes and size by value name over at most `SAMPLES` feeds; empty, infinite and undefined values are absent.

    Memory does not grow with the number of samples: four numbers a value leave the engine.

    Args:
        model: not changed.
        data: feeds.
        progress: of the one stage.

    Raises:
        BadInputError: the model can't be run on the data.
    """
    inputs = [str(v.name) for v in model.graph.inputs if v.dtype == ir.DataType.FLOAT]
    names = [
        str(v.name)
        for node in model.graph
        for v in node.outputs
        if v.dtype == ir.DataType.FLOAT and isinstance(v.type, ir.TensorType) and v.name
    ]
    if not names:
        return {}
    session, count = Session(_reduced(model, names)), min(SAMPLES, data.count or SAMPLES)
    low, high, size = np.full(len(names), np.inf), np.full(len(names), -np.inf), np.zeros(len(names))
    given = dict.fromkeys(inputs, (np.inf, -np.inf, 0.0))
    with progress("looking at ranges", count) as advance:
        for feed in islice(data, SAMPLES):
            got = np.array([float(a) for a in session.run(feed)], np.float64).reshape(-1, 4)
            low, high = np.fmin(low, got[:, 0]), np.fmax(high, got[:, 1])
            # Undefined values may hide from min and max, not from the sum of v − v: 0 for finite values alone.
            low[got[:, 2] != 0] = -np.inf
            size = np.maximum(size, got[:, 3])
            for name in (n for n in inputs if n in feed and np.size(feed[n])):
                array, old = np.asarray(feed[name]), given[name]
                given[name] = (
                    min(old[0], float(array.min())),
                    max(old[1], float(array.max())),
                    max(old[2], array.size),
                )
            advance(1)
    found = {n: (float(a), float(b), float(s)) for n, a, b, s in zip(names, low, high, size, strict=True)} | given
    return {n: Seen(*row) for n, row in found.items() if np.isfinite(row).all()}


def _reduced(model: ir.Model, names: list[str]) -> ir.Model:
    """A copy whose outputs are, for each named value, its min, its max, Σ (v − v) and its size."""
    copy = expose(model, names)
    exposed = list(copy.graph.outputs)
    copy.graph.outputs.clear()
    taken = {v.name for node in copy.graph.all_nodes() for v in node.outputs} | set(copy.graph.initializers)
    prefix = "extreme"
    while any(str(name).startswith(prefix) for name in taken):
        prefix += "_"
    for i, value in enumerate(exposed):
        nothing = ir.Node("", "Sub", [value, value])
        nothing.outputs[0].name = f"{prefix}/{i}/nothing"
        copy.graph.append(nothing)
        for kind, source in (
            ("ReduceMin", value),
            ("ReduceMax", value),
            ("ReduceSum", nothing.outputs[0]),
            ("Size", value),
        ):
            node = ir.Node("", kind, [source], [] if kind == "Size" else [ir.AttrInt64("keepdims", 0)])
            output = node.outputs[0]
            output.name, output.shape = f"{prefix}/{i}/{kind}", ir.Shape([])
            output.type = ir.TensorType(ir.DataType.INT64 if kind == "Size" else ir.DataType.FLOAT)
            copy.graph.append(node)
            copy.graph.outputs.append(output)
    return copy
