"""How much noise each layer's weight and each value add to the outputs, one at a time, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

import numpy as np

from edgec.quantize import layers
from edgec.quantize.placement.plan import range_name
from edgec.quantize.search.cut import Noise
from edgec.quantize.search.lab import Lab, Trial
from edgec.quantize.search.setup import Setup
from edgec.quantize.search.trials import noise

SAMPLES = 32  # at most; most trials stop earlier
NEGLIGIBLE = 1e-5  # 50 dB under the signal: no trial goes on to know it better
HOPELESS = 1e6  # what stands for noise that is not finite


@dataclass(frozen=True)
class Sensitivity:
    """What was measured, by layer's name (weights) and by value's name.

    Each entry is {"noise", "half", "samples"} as `trials.noise` gives it.
    """

    weights: Mapping[str, Mapping[str, Any]]
    values: Mapping[str, Mapping[str, Any]]

    @property
    def noise(self) -> Noise:
        """For the balance."""
        return Noise(
            {n: _finite(e["noise"]) for n, e in self.weights.items()},
            {n: _finite(e["noise"]) for n, e in self.values.items()},
        )


def measure(setup: Setup, lab: Lab, step: Callable[[int], None] = lambda n: None) -> Sensitivity:
    """Run the trials of all layers and values."""
    weighted = [name for node, name in setup.names.items() if layers.weight_of(node) is not None]
    roots = list(dict.fromkeys(setup.plan.roots.values()))
    whats: list[dict[str, Any]] = [{"weight": name} for name in weighted]
    first = next(iter(setup.ranges.values()))
    for root in roots:
        low, high = np.clip(first[range_name(root)], *setup.plan.useful[root])
        whats.append({"value": str(root.name), "low": float(low), "high": float(high)})
    scheme = asdict(setup.scheme)
    model, feeds = lab.shared(setup.content), lab.shared(setup.feeds)
    trials = [
        Trial(
            "noise",
            {**setup.digests, "what": what, "samples": SAMPLES, "negligible": NEGLIGIBLE},
            noise,
            (model, feeds, what, scheme, NEGLIGIBLE, SAMPLES),
        )
        for what in whats
    ]
    found = lab.run(trials, step)
    return Sensitivity(
        dict(zip(weighted, found, strict=False)),
        {str(root.name): entry for root, entry in zip(roots, found[len(weighted) :], strict=True)},
    )


def count(setup: Setup) -> int:
    """How many trials `measure` takes."""
    return sum(layers.weight_of(n) is not None for n in setup.names) + len(set(setup.plan.roots.values()))


def _finite(value: float | None) -> float:
    return HOPELESS if value is None or not 0 <= value < inf else value
