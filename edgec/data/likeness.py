"""How like the float model's answers others are, where there are no labels: the measure fits what the output is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from edgec.data.metrics import Outputs, Score, cosine


class Likeness(Protocol):
    """The reference's outputs by sample and the tested model's, to a Score in [0, 1] with one value a sample."""

    def __call__(self, reference: Sequence[Outputs], outputs: Sequence[Outputs], *, output: int = 0) -> Score:
        """Judge one of the outputs."""
        ...


NEAR = 1e-3  # how far a sum of probabilities or a norm may be from 1; float16 models are this far
LOOKED_AT = 64  # samples that tell what an output is


def suited(reference: Sequence[Outputs], *, output: int = 0) -> Likeness:
    """The measure for outputs such as the reference's: by what they are, not by names.

    - labels, counts, text, logits (two axes) and probabilities over any number of positions: `agreement`
    - rows of length 1 (sentence and face embeddings): `direction`
    - everything else (images, feature maps, boxes, sequences of features, single values that are no probabilities):
      `closeness`

    Args:
        reference: per sample the reference's outputs.
        output: which output is judged.
    """
    arrays = [np.asarray(outputs[output]) for outputs in reference]
    if any(a.dtype.kind not in "fV" for a in arrays):
        # Integers of four axes and more may be an image's bytes.
        return closeness if arrays[0].ndim >= 4 and arrays[0].dtype.kind in "iu" and _many(arrays) else agreement
    if any(a.dtype.kind == "V" for a in arrays):
        return agreement
    rows = _rows(arrays[:LOOKED_AT])
    if not rows.size or not np.isfinite(rows).all():
        return agreement if arrays[0].ndim < 3 else closeness
    if rows.shape[1] == 1:
        return agreement if rows.min() >= 0 and rows.max() <= 1 else closeness
    if rows.min() >= 0 and np.abs(rows.sum(1) - 1).max() < NEAR:
        return agreement
    if np.abs(np.linalg.norm(rows, axis=1) - 1).max() < NEAR:
        return direction
    return agreement if arrays[0].ndim < 3 else closeness


def likeness(reference: Sequence[Outputs], outputs: Sequence[Outputs]) -> Score:
    """The score of the output that suffers most, each by the measure suited to it; 1.0 where all are the same.

    The float model's own score is 1. `extra` holds every output's value, by its index.

    Raises:
        ValueError: when the samples or shapes differ.
    """
    if len(reference) != len(outputs) or not reference:
        raise ValueError(f"{len(outputs)} samples to compare with {len(reference)}")
    judged = [n for n in range(len(reference[0])) if isinstance(reference[0][n], np.ndarray)]
    scores = [suited(reference, output=n)(reference, outputs, output=n) for n in judged]
    if not scores:  # sequences and maps
        return Score("agreement", 1.0, len(reference))
    return replace(
        min(scores, key=lambda score: score.value),
        extra={f"output_{n}": s.value for n, s in zip(judged, scores, strict=True)} if len(scores) > 1 else {},
    )


def _pairs(
    reference: Sequence[Outputs], outputs: Sequence[Outputs], output: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(the tested model's, the reference's) output of each sample. Raises ValueError where there is nothing to pair."""
    if len(reference) != len(outputs) or not reference:
        raise ValueError(f"{len(outputs)} samples to compare with {len(reference)}")
    for ours, theirs in zip(outputs, reference, strict=True):
        a, b = np.asarray(ours[output]), np.asarray(theirs[output])
        if a.shape != b.shape:
            raise ValueError(f"output shapes differ: {a.shape} and {b.shape}")
        yield a, b


def _rows(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """All last axes below each other, of the arrays where it is as long as in the first."""
    width = arrays[0].shape[-1] if arrays[0].ndim else 1
    found = [a for a in arrays if (a.shape[-1] if a.ndim else 1) == width]
    return np.concatenate([np.asarray(a, np.float64).reshape(a.size // max(width, 1), width) for a in found])


def _many(arrays: Sequence[np.ndarray]) -> bool:
    """Whether integers take more values than labels or masks do."""
    return len(np.unique(np.concatenate([a.ravel()[:4096] for a in arrays[:8]]))) > 64


def agreement(reference: Sequence[Outputs], outputs: Sequence[Outputs], *, output: int = 0) -> Score:
    """How often a model decides as the reference does: top-1 agreement on one of its outputs, in [0, 1].

    Args:
        reference: per sample the reference's outputs.
        outputs: per sample the tested model's outputs.
        output: which output decides. Its last axis are the classes; leading axes are positions, averaged within the
            sample. Where the last axis has one element (a probability), the decision is `> 0.5`. Outputs that are no
            floating-point numbers must be equal.

    Raises:
        ValueError: when the samples or shapes differ.
    """
    per_sample = []
    for a, b in _pairs(reference, outputs, output):
        if a.dtype.kind not in "fV":  # labels, counts, text: a decision already
            same = a == b
        elif a.ndim and a.shape[-1] > 1:
            same = a.argmax(-1) == b.argmax(-1)
        else:
            same = (a > 0.5) == (b > 0.5)
        per_sample.append(float(np.mean(same)))
    return Score("agreement", float(np.mean(per_sample)), len(per_sample), tuple(per_sample))


def closeness(reference: Sequence[Outputs], outputs: Sequence[Outputs], *, output: int = 0) -> Score:
    """How much of the reference's energy is kept: 1 − Σ (ref − test)² / Σ ref² of one output, from 0 up, at most 1.

    Args:
        reference: per sample the reference's outputs.
        outputs: per sample the tested model's outputs.
        output: which output; numbers.

    Raises:
        ValueError: when the samples or shapes differ.
    """
    per_sample = []
    for a, b in _pairs(reference, outputs, output):
        a, b = a.astype(np.float64), b.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            signal, noise = float(np.sum(b * b)), float(np.sum((a - b) ** 2))
        kept = 1 - noise / signal if signal > 0 else float(noise == 0)
        per_sample.append(max(0.0, kept) if math.isfinite(kept) else float(np.array_equal(a, b, equal_nan=True)))
    return Score("closeness", float(np.mean(per_sample)), len(per_sample), tuple(per_sample))


def direction(reference: Sequence[Outputs], outputs: Sequence[Outputs], *, output: int = 0) -> Score:
    """Mean cosine between the rows (last axis) of one output and the reference's, negative ones taken for 0.

    Args:
        reference: per sample the reference's outputs.
        outputs: per sample the tested model's outputs.
        output: which output; floating-point rows.

    Raises:
        ValueError: when the samples or shapes differ.
    """
    per_sample = []
    for a, b in _pairs(reference, outputs, output):
        rows = zip(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]), strict=True)
        cosines = [value if math.isfinite(value := cosine(y, x)) else 0.0 for x, y in rows]
        per_sample.append(max(0.0, float(np.mean(cosines))))
    return Score("cosine", float(np.mean(per_sample)), len(per_sample), tuple(per_sample))
