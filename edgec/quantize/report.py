"""What the report shows of a quantization: per layer its type, its range, and how much noise it adds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.data.metrics import ratio_db
from edgec.quantize import layers
from edgec.quantize.placement.plan import plan
from edgec.quantize.placement.rules import Rules
from edgec.quantize.ranges import Ranges
from edgec.quantize.scheme import Assignment
from edgec.quantize.session import Session, expose

HISTOGRAMS = 256  # layers that have one in a report, at most
MEMORY = 192 << 20  # bytes that all values of both models may take, to be compared


def layer_sqnr(model: ir.Model, quantized: ir.Model, data: Dataset, *, samples: int = 8) -> dict[str, float]:
    """SQNR (dB) of each value that both graphs still have, in the order of the float graph.

    Noise accumulates: a value's SQNR is that of the whole quantized model up to it. The quantized graph is run as
    written (not fused), so that its inner values exist; onnxruntime's fused kernels round a little differently.

    Args:
        model: the float model.
        quantized: made of it.
        data: feeds; the first `samples` of them are used.
        samples: how many.
    """
    floats = layers.float_values(model)
    ours = {v.name for node in quantized.graph for v in node.outputs}
    names = [str(v.name) for node in model.graph for v in node.outputs if v in floats and v.name in ours]
    if not names:
        return {}
    reference = Session(expose(model, names), optimize=False)
    tested = Session(_typed(expose(quantized, names)), optimize=False)
    signal, noise = np.zeros(len(names)), np.zeros(len(names))
    for feed in islice(data, samples):
        for i, (r, t) in enumerate(zip(reference.run(feed), tested.run(feed), strict=True)):
            signal[i] += np.square(r, dtype=np.float64).sum()
            noise[i] += np.square(r.astype(np.float64) - t).sum()
    return {n: ratio_db(float(s), float(e)) for n, s, e in zip(names, signal, noise, strict=True)}


def layer_table(
    model: ir.Model,
    assignment: Assignment,
    ranges: Ranges,
    sqnr: Mapping[str, float] | None = None,
    integers: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """One row per quantizable node: name, type, precision; range, histogram and SQNR of its output where known.

    Args:
        model: the float model.
        assignment: what was asked of each layer.
        ranges: with the histograms (`Ranges.bars`) of at most `HISTOGRAMS` values.
        sqnr: of values, by name (`layer_sqnr`).
        integers: names of the layers that run in integers (`integer_layers`); None: what was asked for.
    """
    rows = []
    shown = 0
    for node, name in layers.layer_names(model).items():
        if name not in assignment:
            continue
        output = str(node.outputs[0].name)
        integer = assignment[name] is not None if integers is None else name in integers
        row: dict[str, Any] = {"name": name, "op_type": node.op_type, "precision": "int8" if integer else "float32"}
        if output in ranges:
            row["range"] = list(ranges[output])
        if output in ranges.bars and shown < HISTOGRAMS:
            row["histogram"] = ranges.bars[output].as_dict()
            shown += 1
        if sqnr is not None and np.isfinite(sqnr.get(output, np.nan)):
            row["sqnr_db"] = round(sqnr[output], 2)
        rows.append(row)
    return rows


def integer_layers(model: ir.Model, assignment: Assignment, ranges: Ranges, rules: Rules) -> frozenset[str]:
    """Names of the layers that run in integers by an engine's rules, activations that saturate with them included.

    An assignment says what was asked; what an engine doesn't fuse, or has no range, stays float all the same.
    """
    copy, given = model.clone(), dict(assignment)
    rules.prepare(copy, given)
    names = layers.layer_names(copy)
    units = plan(copy, given, rules, ranges.__contains__).units
    nodes = [node for unit in units for node in (unit.node, unit.activation) if node is not None]
    return frozenset(names[node] for node in nodes if node in names)


def affordable_sqnr(model: ir.Model, quantized: ir.Model, data: Dataset, *, samples: int = 2) -> dict[str, float]:
    """`layer_sqnr` on few samples, or nothing where all values of both graphs together would take too much memory."""
    size = 0
    for value in (v for node in model.graph for v in node.outputs):
        shape = value.shape or ()
        size += 4 * prod(d if isinstance(d, int) else 1 for d in shape)
    return layer_sqnr(model, quantized, data, samples=samples) if 2 * size <= MEMORY else {}


def _typed(model: ir.Model) -> ir.Model:
    for output in model.graph.outputs:
        if output.dtype is None:
            output.dtype = ir.DataType.FLOAT
    return model
