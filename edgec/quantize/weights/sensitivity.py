"""How much the model's outputs suffer when one weight is rounded and all others are not.

The weights are inputs of one session, so that trying another costs a run and not a session (loading and preparing a
model of 90 MB takes longer than ten runs of it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.corrections.judge import before_probabilities
from edgec.quantize.corrections.lockstep import Feed
from edgec.quantize.session import Session


def noise(
    model: ir.Model,
    rounded: Mapping[str, Callable[[], np.ndarray]],
    feeds: Sequence[Feed],
    progress: Callable[[int], None] = lambda n: None,
) -> dict[str, float]:
    """Per weight, the noise that rounding it alone makes of the outputs, relative to their energy; the mean of samples.

    Args:
        model: the float model; not changed.
        rounded: by the name of a constant of the main graph, a function that gives what is put in its place.
        feeds: samples, at least one.
        progress: called with 1 for each weight.
    """
    probe = before_probabilities(model)
    given: dict[str, np.ndarray] = {}
    for name in rounded:
        value = probe.graph.initializers.get(name)
        array = layers.constant(value)
        if value is None or array is None:
            continue
        given[name] = array
        del probe.graph.initializers[name]
        value.const_value = None
        probe.graph.inputs.append(value)
    session = Session(probe)
    expected = [_floats(session.run({**feed, **given})) for feed in feeds]
    result = {}
    for name, make in rounded.items():
        if name not in given:
            continue
        changed = {**given, name: make().astype(given[name].dtype)}
        ratios = []
        for feed, wanted in zip(feeds, expected, strict=True):
            got = _floats(session.run({**feed, **changed}))
            signal = sum(float(np.square(a, dtype=np.float64).sum()) for a in wanted)
            with np.errstate(invalid="ignore", over="ignore"):
                error = sum(float(np.square(a - b, dtype=np.float64).sum()) for a, b in zip(wanted, got, strict=True))
            ratios.append(error / signal if signal > 0 else error)
        result[name] = float(np.mean(ratios))
        progress(1)
    return result


def _floats(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [a.astype(np.float32, copy=False) for a in arrays if a.dtype.kind == "f"]
