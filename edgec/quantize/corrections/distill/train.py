"""The training loop: a program's trainables against the float model's result, a part of the samples held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.quantize.corrections.distill.operators import Tensor
from edgec.quantize.corrections.distill.program import Program


@dataclass(frozen=True)
class Rates:
    """How fast Adam (Kingma and Ba 2015, arXiv:1412.6980) moves things at first; they fall to zero along a cosine.

    Attributes:
        weights: steps of the integer grid; 0 leaves them as they are. With some hundred samples training them learned
            those by heart: held-out samples lost, after least squares had found good integers.
        biases: parts of the root mean square of their layer's result.
        scales: natural logarithms.
    """

    weights: float = 0.0
    biases: float = 3e-4
    scales: float = 3e-3


@dataclass(frozen=True)
class Result:
    """Mean squared error over the target's energy, on the samples held out, before and after (the best seen)."""

    before: float
    after: float

    @property
    def kept(self) -> bool:
        """Whether it fell; what is not a number never does."""
        return self.after < self.before


def train(
    program: Program,
    inputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    *,
    steps: int,
    batch: int,
    rates: Rates,
    seed: int,
    checks: int = 8,
) -> Result:
    """Train in place; the trainables end as they were at the best of `checks` looks at the held-out samples.

    Args:
        program: complete.
        inputs: one array a sample, the batch first.
        targets: the float model's results for them.
        steps: of Adam.
        batch: samples a step.
        rates: see there.
        seed: which samples a step sees.
        checks: looks at the held-out samples on the way.
    """
    import torch

    x, y = ([torch.from_numpy(np.ascontiguousarray(a)) for a in side] for side in (inputs, targets))
    joined = _joinable(program, x)
    held = [i for i in range(len(x)) if i % 5 == 4]
    used = [i for i in range(len(x)) if i % 5 != 4]
    energy = float(np.mean([float(t.double().square().mean()) for t in y])) or 1.0

    def loss(chosen: Sequence[int]) -> Any:
        if joined:
            got, wanted = program(torch.cat([x[i] for i in chosen])), torch.cat([y[i] for i in chosen])
            return (got - wanted).square().mean() / energy
        return torch.stack([(program(x[i]) - y[i]).square().mean() for i in chosen]).mean() / energy

    def check() -> float:
        with torch.no_grad():
            return float(np.mean([float(loss(held[i : i + batch])) for i in range(0, len(held), batch)]))

    before = check() if held else math.nan
    if not used or not held or not math.isfinite(before):
        return Result(before, before)
    parameters = program.parameters()
    learning = (rates.weights, rates.biases, rates.scales)
    for group, rate in zip(parameters, learning, strict=True):
        for p in group:
            p.requires_grad_(rate > 0)
    moved = [{"params": p, "lr": r} for p, r in zip(parameters, learning, strict=True) if p and r > 0]
    if not moved:
        return Result(before, before)
    optimizer = torch.optim.Adam(moved)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    everything = [p for group in parameters for p in group]
    best, kept = before, [p.detach().clone() for p in everything]
    generator = np.random.default_rng(seed)
    order: list[int] = []
    for step in range(1, steps + 1):
        if len(order) < batch:
            order += [used[i] for i in generator.permutation(len(used))]
        chosen, order = order[:batch], order[batch:]
        optimizer.zero_grad()
        loss(chosen).backward()
        optimizer.step()
        schedule.step()
        if step % max(steps // checks, 1) == 0 or step == steps:
            now = check()
            if now < best:
                best, kept = now, [p.detach().clone() for p in everything]
    with torch.no_grad():
        for p, value in zip(everything, kept, strict=True):
            p.copy_(value)
    return Result(before, best)


def _joinable(program: Program, x: Sequence[Tensor]) -> bool:
    """Whether two samples at once give what they give apart."""
    import torch

    if len(x) < 2 or x[0].shape[1:] != x[1].shape[1:] or len({a.shape[1:] for a in x}) != 1:
        return False
    with torch.no_grad():
        apart = [program(a) for a in x[:2]]
        try:
            together = program(torch.cat(list(x[:2])))
        except RuntimeError:
            return False
        wanted = torch.cat(apart)
        return together.shape == wanted.shape and bool(torch.allclose(together, wanted, rtol=1e-3, atol=1e-3))
