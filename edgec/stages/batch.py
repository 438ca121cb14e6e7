"""What a model does with more than one sample: asked of the model as it was given, on two inputs alone and together.

Some engines' files have fixed sizes. A file of batch one serves any batch, sample by sample, if samples don't touch
each other; and it serves whatever can be run at all, if the model itself runs with nothing but one. Where samples touch
(a sequence of states), it serves one, and another engine's payload the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.measure.accuracy import Run, overall_sqnr

SPLIT, ONE, ALONE, UNKNOWN = "split", "one", "alone", ""
LEAST = 80.0
"""dB between a batch's answers and those of its samples: above what another order of float32's sums makes of them."""
Feed = Mapping[str, NDArray[Any]]


def kind(model: ir.Model, feeds: Sequence[Feed], reference: Run) -> str:
    """What is known of a model, from the inputs that it was given.

    SPLIT: samples don't touch each other. ONE: nothing but one sample runs. ALONE: they do touch, and all of `feeds`
    are of one. UNKNOWN: no free batch, no inputs to ask with, or batches among them that touch.
    """
    given = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    free = {str(v.name) for v in given if v.shape and not isinstance(v.shape[0], int)}
    if not free or not feeds:
        return UNKNOWN
    samples = _samples(feeds, free)
    if samples is None:
        return UNKNOWN
    both = {name: np.concatenate([s[name] for s in samples]) if name in free else v for name, v in samples[0].items()}
    try:
        alone = [reference(sample) for sample in samples]
    except Exception:  # onnxruntime raises its own kinds: these inputs say nothing
        return UNKNOWN
    try:
        together = reference(both)
    except Exception:
        return ONE
    touching = ALONE if all(len(feed[name]) == 1 for feed in feeds for name in free) else UNKNOWN
    shapes = [(np.shape(a), np.shape(b), np.shape(t)) for a, b, t in zip(*alone, together, strict=True)]
    if any(not t or a != b or a[0] != 1 or t != (2, *a[1:]) for a, b, t in shapes):
        return touching
    apart = [np.concatenate(pair) for pair in zip(*alone, strict=True)]
    exact = all(np.array_equal(a, t) for a, t in zip(apart, together, strict=True) if a.dtype.kind != "f")
    return SPLIT if exact and overall_sqnr([together], [apart]) >= LEAST else touching


def _samples(feeds: Sequence[Feed], free: set[str]) -> tuple[Feed, Feed] | None:
    """Two inputs of one sample each that differ; what is not of the batch is the first one's."""
    rows: list[Feed] = []
    for feed in feeds:
        if any(np.ndim(feed[name]) == 0 or not len(feed[name]) for name in free):
            return None
        for row in range(min(2, *(len(feed[name]) for name in free), 2)):
            rows.append({k: v[row : row + 1] if k in free else v for k, v in feed.items()})
    first = rows[0]
    for other in rows[1:]:
        if all(other[n].shape == first[n].shape for n in free) and _differ(first, other, free):
            return first, {k: v if k in free else first[k] for k, v in other.items()}
    turned = {k: np.flip(v) if k in free else v for k, v in first.items()}
    return (first, turned) if _differ(first, turned, free) else None


def _differ(a: Feed, b: Feed, names: set[str]) -> bool:
    return any(not np.array_equal(a[name], b[name]) for name in names)
