"""What the values that equalization looks at take, channel by channel."""

from __future__ import annotations

from itertools import islice

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.quantize import layers
from edgec.quantize.corrections.equalize.ties import groups
from edgec.quantize.observers import ChannelMinMax
from edgec.quantize.session import Session, expose

Extremes = dict[str, tuple[np.ndarray, np.ndarray]]
# So many samples are enough to tell wide channels from narrow ones.
SAMPLES = 32


def channel_extremes(model: ir.Model, data: Dataset) -> Extremes:
    """Smallest and largest value by channel, (channels,) each, of what groups hold and Relus read.

    Values that turn infinite are left out. One sample at a time is in memory.

    Args:
        model: float model with shapes; not changed.
        data: calibration feeds; the first `SAMPLES` are used.
    """
    axes = {str(v.name): group.axis for group in groups(model) for v in group.values}
    for node in model.graph:
        value = node.inputs[0] if node.inputs else None
        producer = None if value is None else value.producer()
        if node.op_type != "Relu" or value is None or producer is None or layers.weight_of(producer) is None:
            continue
        axis = 1 if producer.op_type in ("Conv", "ConvTranspose") else len(value.shape or ()) - 1
        if value.shape is not None and axis > 0 and isinstance(value.shape[axis], int):
            axes.setdefault(str(value.name), axis)
    if not axes:
        return {}
    observers = {name: ChannelMinMax(axis) for name, axis in axes.items()}
    session = Session(expose(model, axes))
    for feed in islice(data, SAMPLES):
        for name, array in zip(session.outputs, session.run(feed), strict=True):
            observers[name].update(array)
    found = {name: observer.ranges() for name, observer in observers.items()}
    return {n: (low, high) for n, (low, high) in found.items() if low.size and np.isfinite([low, high]).all()}
