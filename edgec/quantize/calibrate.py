"""Calibration: run the float model over the data and see what range each value takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.errors import BadInputError
from edgec.quantize import layers
from edgec.quantize.observers import Histogram, MinMax, Observer
from edgec.quantize.ranges import Ranges
from edgec.quantize.session import Session, expose

Method = Literal["minmax", "histogram"]
Progress = Callable[[int, int | None], None]


def calibrate(
    model: ir.Model,
    data: Dataset,
    *,
    method: Method = "minmax",
    values: Iterable[str] | None = None,
    percentile: float = 99.999,
    progress: Progress | None = None,
) -> Ranges:
    """The range of every quantizable value of the main graph over all samples.

    One onnxruntime session, one sample at a time: memory doesn't grow with the number of samples. `minmax` reduces
    inside the graph (ReduceMin, ReduceMax), so that two numbers a value come out; `histogram` takes the values out
    and keeps `percentile` of their mass.

    Args:
        model: float model; not changed.
        data: calibration feeds.
        method: "minmax" or "histogram".
        values: names of the values wanted; by default all that some engine may quantize.
        percentile: for "histogram", in percent.
        progress: called with (samples done, samples in all or None).

    Raises:
        BadInputError: the data is not what the model wants, is empty, or the model can't be run on it.
    """
    wanted = _wanted(model, values)
    observers: dict[str, Observer] = {
        v.name: MinMax() if method == "minmax" else Histogram(percentile) for v in wanted if v.name
    }
    count = (_minmax if method == "minmax" else _stream)(model, data, wanted, observers, progress)
    result: dict[str, tuple[float, float]] = {}
    skipped: dict[str, str] = {}
    for name, observer in observers.items():
        low, high = observer.range()
        if math.isnan(low):
            skipped[name] = "it took infinite or undefined values"
        elif low > high:
            skipped[name] = "it was empty for every sample"
        else:
            result[name] = (low, high)
    return Ranges(result, method, count, data.digest, skipped)


def _wanted(model: ir.Model, names: Iterable[str] | None) -> list[ir.Value]:
    candidates = layers.quantizable_values(model)
    if names is None:
        return candidates
    chosen = set(names)
    return [v for v in candidates if v.name in chosen]


def _minmax(
    model: ir.Model, data: Dataset, wanted: list[ir.Value], observers: Mapping[str, Observer], progress: Progress | None
) -> int:
    reduced = _with_reductions(model, [str(v.name) for v in wanted])
    session = Session(reduced) if wanted else None
    count = 0
    for feed in data:
        if session is not None:
            for name, number in zip(session.outputs, session.run(feed), strict=True):
                observers[name.rpartition("/")[0]].update(number)
        count += 1
        if progress:
            progress(count, data.count)
    for value in wanted:
        minimum = layers.known_minimum(value)
        if minimum is not None:
            observers[str(value.name)].update(np.float32(minimum).reshape(1))
    return count


def _with_reductions(model: ir.Model, names: list[str]) -> ir.Model:
    """A copy that gives only `<value>/min` and `<value>/max` of the named values; no minimum where it is known."""
    copy = expose(model, names)
    exposed = list(copy.graph.outputs)
    copy.graph.outputs.clear()
    for value in exposed:
        kinds = ["max"] if layers.known_minimum(value) is not None else ["min", "max"]
        for kind in kinds:
            # Flatten to (1, n) first? Not needed: without axes the operator reduces over all of them, from opset 13 on.
            node = ir.Node("", f"Reduce{kind.capitalize()}", [value], [ir.AttrInt64("keepdims", 0)])
            node.outputs[0].name = f"{value.name}/{kind}"
            node.outputs[0].dtype = ir.DataType.FLOAT
            node.outputs[0].shape = ir.Shape([])
            copy.graph.append(node)
            copy.graph.outputs.append(node.outputs[0])
    return copy


def _stream(
    model: ir.Model, data: Dataset, wanted: list[ir.Value], observers: Mapping[str, Observer], progress: Progress | None
) -> int:
    names = [str(v.name) for v in wanted]
    inputs = {v.name for v in model.graph.inputs}
    session = Session(expose(model, [n for n in names if n not in inputs]))
    count = 0
    for feed in data:
        arrays = dict(zip(session.outputs, session.run(feed), strict=True)) | {k: feed[k] for k in inputs if k in feed}
        for name in names:
            observers[name].update(arrays.pop(name))
        count += 1
        if progress:
            progress(count, data.count)
    return count


def check_method(method: str) -> Method:
    """The method by name.

    Raises:
        BadInputError: there is none of that name.
    """
    if method not in ("minmax", "histogram"):
        raise BadInputError(f"there is no calibration method '{method}'", "", "use minmax or histogram", code="E910")
    return method  # type: ignore[return-value]
