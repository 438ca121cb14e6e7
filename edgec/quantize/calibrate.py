"""Calibration: run the float model over the data and see what range each value takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.errors import BadInputError
from edgec.quantize import layers
from edgec.quantize.observers import Histogram, MinMax, MovingAverage, Observer, bars, entropy, least_error, percentile
from edgec.quantize.ranges import Ranges
from edgec.quantize.session import Session, expose
from edgec.request import METHODS, Method

Progress = Callable[[int, int | None], None]
# Of a larger value, about so many elements of each sample go into its histogram where rare ones don't decide.
SAMPLED = 16384


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

    One onnxruntime session, one sample at a time: memory doesn't grow with the number of samples.

    Args:
        model: float model; not changed.
        data: calibration feeds.
        method: "minmax" and "average" (moving average of each sample's extremes) reduce inside the graph, so that two
            numbers a value come out; the others take the values out: "histogram" keeps `percentile` of the mass,
            "entropy" least divergence, "mse" and "l4" least mean |error|² and |error|⁴, "output" least squared error
            of the outputs of the layers that read the value.
        values: names of the values wanted; by default all that some engine may quantize.
        percentile: for "histogram", in percent.
        progress: called with (samples done, samples in all or None).

    Raises:
        BadInputError: the data is not what the model wants, is empty, or the model can't be run on it.
    """
    wanted = _wanted(model, values)
    if method in ("minmax", "average"):
        observers: dict[str, Observer] = {
            v.name: MinMax() if method == "minmax" else MovingAverage() for v in wanted if v.name
        }
        count = _extremes(model, data, wanted, observers, progress)
    else:
        most = None if method == "histogram" else SAMPLED
        observers = {
            v.name: Histogram(most=most, energy=_read_energy(v) if method == "output" else None)
            for v in wanted
            if v.name
        }
        count = _stream(model, data, wanted, observers, progress)
    return _ranges({n: _range(o, method, percentile) for n, o in observers.items()}, method, count, data)


def calibrate_many(
    model: ir.Model,
    data: Dataset,
    methods: Iterable[Method],
    *,
    values: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> dict[Method, Ranges]:
    """As `calibrate`, by several of the methods that need a histogram, from one pass over the data."""
    wanted, methods = _wanted(model, values), tuple(methods)
    plain: dict[str, Observer] = {str(v.name): Histogram(most=SAMPLED) for v in wanted}
    weighted: dict[str, Observer] = {}
    if "output" in methods:
        weighted = {str(v.name): Histogram(most=SAMPLED, energy=_read_energy(v)) for v in wanted}
    count = _stream(model, data, wanted, plain, progress, weighted)
    result: dict[Method, Ranges] = {}
    shown = {n: b for n, o in plain.items() if isinstance(o, Histogram) and (b := bars(o)) is not None}
    for method in methods:
        observers = weighted if method == "output" else plain
        found = _ranges({n: _range(o, method, 99.999) for n, o in observers.items()}, method, count, data)
        result[method] = replace(found, bars=shown)
    return result


def _range(observer: Observer, method: Method, keep: float) -> tuple[float, float]:
    if not isinstance(observer, Histogram) or method in ("minmax", "average"):
        return observer.range()
    if method == "histogram":
        return percentile(observer, keep)
    return entropy(observer) if method == "entropy" else least_error(observer, norm=4 if method == "l4" else 2)


def _ranges(found: Mapping[str, tuple[float, float]], method: Method, count: int, data: Dataset) -> Ranges:
    result: dict[str, tuple[float, float]] = {}
    skipped: dict[str, str] = {}
    for name, (low, high) in found.items():
        if math.isnan(low):
            skipped[name] = "it took infinite or undefined values"
        elif low > high:
            skipped[name] = "it was empty for every sample"
        else:
            result[name] = (low, high)
    return Ranges(result, method, count, data.digest, skipped)


def _read_energy(value: ir.Value) -> np.ndarray | None:
    """How much an error in each channel of a value (axis 1) weighs in the layers that read it: Σ weight²; else None."""
    total: np.ndarray | None = None
    for node in value.consumers():
        weight = layers.weight_of(node)
        if weight is None or node.inputs[0] is not value or node.op_type != "Conv":
            return None
        array = layers.constant(weight)
        assert array is not None
        group = node.attributes.get("group")
        groups = 1 if group is None else group.as_int()
        squares = np.square(array, dtype=np.float64).sum(axis=tuple(range(2, array.ndim)))
        energy = squares.reshape(groups, -1, squares.shape[1]).sum(1).reshape(-1)
        total = energy if total is None else total + energy
    return total if total is not None and np.isfinite(total).all() and total.sum() > 0 else None


def _wanted(model: ir.Model, names: Iterable[str] | None) -> list[ir.Value]:
    candidates = layers.quantizable_values(model)
    if names is None:
        return candidates
    chosen = set(names)
    return [v for v in candidates if v.name in chosen]


def _extremes(
    model: ir.Model, data: Dataset, wanted: list[ir.Value], observers: Mapping[str, Observer], progress: Progress | None
) -> int:
    reduced = _with_reductions(model, [str(v.name) for v in wanted])
    session = Session(reduced) if wanted else None
    known = {str(v.name): layers.known_minimum(v) for v in wanted}
    known = {n: low for n, low in known.items() if low is not None}
    count = 0
    for feed in data:
        if session is not None:
            extremes: dict[str, list[Any]] = {n: [low] for n, low in known.items()}
            for name, number in zip(session.outputs, session.run(feed), strict=True):
                extremes.setdefault(name.rpartition("/")[0], []).append(number)
            for name, numbers in extremes.items():
                observers[name].update(np.array(numbers, np.float32))
        count += 1
        if progress:
            progress(count, data.count)
    return count


def _with_reductions(model: ir.Model, names: list[str]) -> ir.Model:
    """A copy that gives only `<value>/min` and `<value>/max` of the named values; no minimum where it is known."""
    copy = expose(model, names)
    exposed = list(copy.graph.outputs)
    copy.graph.outputs.clear()
    taken = {v.name for node in copy.graph for v in node.outputs} | set(copy.graph.initializers)
    tail = ""
    while any(f"{name}/{kind}{tail}" in taken for name in names for kind in ("min", "max")):
        tail += "_"  # the passes call the bounds of a Clip so
    for value in exposed:
        kinds = ["max"] if layers.known_minimum(value) is not None else ["min", "max"]
        for kind in kinds:
            # Flatten to (1, n) first? Not needed: without axes the operator reduces over all of them, from opset 13 on.
            node = ir.Node("", f"Reduce{kind.capitalize()}", [value], [ir.AttrInt64("keepdims", 0)])
            node.outputs[0].name = f"{value.name}/{kind}{tail}"
            node.outputs[0].dtype = ir.DataType.FLOAT
            node.outputs[0].shape = ir.Shape([])
            copy.graph.append(node)
            copy.graph.outputs.append(node.outputs[0])
    return copy


def _stream(
    model: ir.Model,
    data: Dataset,
    wanted: list[ir.Value],
    observers: Mapping[str, Observer],
    progress: Progress | None,
    others: Mapping[str, Observer] | None = None,
) -> int:
    names = [str(v.name) for v in wanted]
    inputs = {v.name for v in model.graph.inputs}
    computed = [n for n in names if n not in inputs]
    session = Session(expose(model, computed)) if computed else None  # a single layer may read an input alone
    count = 0
    for feed in data:
        arrays = {str(k): feed[k] for k in inputs if k in feed}
        if session is not None:
            arrays |= dict(zip(session.outputs, session.run(feed), strict=True))
        for name in names:
            array = arrays.pop(name)
            observers[name].update(array)
            if others:
                others[name].update(array)
        count += 1
        if progress:
            progress(count, data.count)
    return count


def check_method(method: str) -> Method:
    """The method by name.

    Raises:
        BadInputError: there is none of that name.
    """
    if method not in METHODS:
        raise BadInputError(
            f"there is no calibration method '{method}'", "", f"use one of {', '.join(METHODS)}", code="E910"
        )
    return method
