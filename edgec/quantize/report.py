"""What the report shows of a quantization: per layer its type, its range, and how much noise it adds."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.data.metrics import ratio_db
from edgec.quantize import layers
from edgec.quantize.ranges import Ranges
from edgec.quantize.scheme import Assignment
from edgec.quantize.session import Session, expose


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
    model: ir.Model, assignment: Assignment, ranges: Ranges, sqnr: dict[str, float] | None = None
) -> list[dict[str, Any]]:
    """One row per quantizable node: name, type, precision, range and SQNR of its output where known."""
    rows = []
    for node, name in layers.layer_names(model).items():
        if name not in assignment:
            continue
        output = str(node.outputs[0].name)
        scheme = assignment[name]
        row: dict[str, Any] = {"name": name, "op_type": node.op_type, "precision": "int8" if scheme else "float32"}
        if output in ranges:
            row["range"] = list(ranges[output])
        if sqnr is not None and np.isfinite(sqnr.get(output, np.nan)):
            row["sqnr_db"] = round(sqnr[output], 2)
        rows.append(row)
    return rows


def _typed(model: ir.Model) -> ir.Model:
    for output in model.graph.outputs:
        if output.dtype is None:
            output.dtype = ir.DataType.FLOAT
    return model
