"""The factors: how much each channel of a group is scaled, by its weights alone or by what its values take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.corrections.equalize.ties import Group

# No channel is scaled by more: float32 keeps its precision, a dead channel its zeros.
LIMIT = 2.0**12
# Beyond the largest value seen before a bound (ReLU6), so much room is left: a channel that was scaled up meets its
# bound earlier. With 1.25, new images of EfficientNet-Lite0 met it (ten samples seen: 26 dB on them, 17 on others).
ROOM = 4.0
_SWEEPS, _TOLERANCE = 40, 1e-3

Extremes = Mapping[str, tuple[np.ndarray, np.ndarray]]


def by_weights(found: Sequence[Group], extremes: Extremes) -> list[np.ndarray]:
    """Nagel et al. 2019 (arXiv:1906.04721), section 4.1: t = √(r₂ / r₁), so that both layers' channels span alike.

    Every group is taken in turn until nothing moves, since a depthwise layer belongs to two of them. The layers'
    weights are scaled as it goes on.

    Args:
        found: the groups; their layers are changed.
        extremes: smallest and largest value by channel, for the groups that have bounds.

    Returns:
        The factors by group, (channels,), all the sweeps together.
    """
    total = [np.ones(group.channels) for group in found]
    for _ in range(_SWEEPS):
        moved = 0.0
        for i, group in enumerate(found):
            before = np.max([p.by_output() for p in group.producers], axis=0)
            behind = np.max([c.by_input() for c in group.consumers], axis=0)
            live = (before > 0) & (behind > 0)
            factor = np.sqrt(np.divide(behind, before, out=np.ones_like(before), where=live))
            wanted = _allowed(group, total[i] * factor, extremes)
            factor = wanted / total[i]
            apply(group, factor)
            total[i] = wanted
            moved = max(moved, float(np.abs(np.log(factor)).max(initial=0.0)))
        if moved < _TOLERANCE:
            break
    return total


def by_activations(found: Sequence[Group], extremes: Extremes, alpha: float) -> list[np.ndarray]:
    """t = r₂^(1−α) / a^α: channels of the *values* span alike, as far as the weights behind can bear it.

    With one weight scale per output channel the layer before costs nothing, the inverse factors widen the spread of
    the layer behind; α = 1 looks at the values alone. Xiao et al. 2023, "SmoothQuant" (arXiv:2211.10438), equation 4,
    with a layer in LayerNorm's place. Depthwise layers behind bear any factor.

    Args:
        found: the groups; their layers are changed.
        extremes: smallest and largest value by channel of each value.
        alpha: 0 … 1.
    """
    total = []
    for group in found:
        values = [np.maximum(np.abs(low), np.abs(high)) for low, high in _of(group, extremes)]
        spans = [v / v.max() for v in values if v.max(initial=0.0) > 0]
        span = np.max(spans, axis=0) if spans else np.ones(group.channels)
        behind = np.max([c.by_input(relative=True) for c in group.consumers], axis=0)
        live = (span > 0) & (behind > 0)
        factor = np.ones(group.channels)
        factor[live] = behind[live] ** (1 - alpha) / span[live] ** alpha
        # The widest channel stays as wide as it was: its values' scale is the tensor's.
        factor[live] /= (factor * span)[live].max(initial=np.finfo(np.float64).tiny)
        factor = _allowed(group, factor, extremes)
        apply(group, factor)
        total.append(factor)
    return total


def apply(group: Group, factor: np.ndarray) -> None:
    """Scale the layers before and behind; the model computes the same."""
    for producer in group.producers:
        producer.scale_output(factor)
    for consumer in group.consumers:
        consumer.scale_input(factor)


def _of(group: Group, extremes: Extremes) -> list[tuple[np.ndarray, np.ndarray]]:
    return [extremes[str(v.name)] for v in group.values if str(v.name) in extremes]


def _allowed(group: Group, factor: np.ndarray, extremes: Extremes) -> np.ndarray:
    """Within `LIMIT`, and such that no bound inside the group cuts what it didn't: channels that it cuts stay."""
    factor = np.clip(factor, 1 / LIMIT, LIMIT)
    for clip in group.clips:
        bounds, name = layers.clip_bounds(clip), _name(clip.inputs[0])
        assert bounds is not None
        for bound, side in zip(bounds, (0, 1), strict=True):
            if not np.isfinite(bound) or bound == 0:
                continue
            if name not in extremes:
                return np.ones_like(factor)
            seen = ROOM * extremes[name][side] / bound  # the part of the bound that was reached
            free = np.isfinite(seen) & (seen < 1)
            most = np.where(seen > 0, 1 / np.where(seen > 0, seen, 1.0), LIMIT)
            factor = np.where(free, np.minimum(factor, most), 1.0)
    return factor


def _name(value: ir.Value | None) -> str:
    return "" if value is None else str(value.name)
