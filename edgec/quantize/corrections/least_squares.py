"""Layer by layer, the integer weights that bring a layer's result nearest to the float layer's, in closed form.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (AdaRound, arXiv:2004.10568) showed
that rounding each weight to its nearest integer is far from the best, and found a better one by gradient descent on
each layer's output error. Here the same error is minimised without gradients: Frantar et al. 2022, "GPTQ"
(arXiv:2210.17323), round one input feature after the other and let the features not yet rounded take up the error,
which the Hessian H = XᵀX tells exactly; Li et al. 2025, "GPTAQ" (arXiv:2504.02692), aim at the *float* model's result
from the *quantized* model's input, so that a layer also undoes what the layers before it did. With x the quantized
input, y the float result, both centred (the bias takes the means):

    minimise ‖X Wᵀ − Y‖² + λ‖W − W₀‖²,   W integer multiples of the channel's scale.

The real-valued optimum W₀ + (YᵀX − W₀H)(H + λI)⁻¹ is rounded by GPTQ. Scales and shapes stay: only integers change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.quantize.corrections.factor import inverse_factor

# Rows of a large matrix that are worked on at once, so that no second one of its size is needed.
_ROWS = 256


@dataclass
class Moments:
    """Sums over positions of one layer, by group: enough to solve for its weights, in memory that doesn't grow.

    Attributes:
        count: positions.
        centre: whether a bias takes the means; then all is summed less the means of the first positions, so that a
            large mean doesn't drown what varies about it.
        x: (groups, d) sums of the quantized input's features.
        y: (groups, m) sums of the float result's channels.
        xx: (groups, d, d).
        yx: (groups, m, d).
        yy: (groups, m) sums of squares.
        origin: what was taken off x and y, (groups, d) and (groups, m); zero before the first positions.
        settled: whether xx, yx and yy are less the means already; no more positions can be taken then.
    """

    count: int
    centre: bool
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    yx: np.ndarray
    yy: np.ndarray
    origin: tuple[np.ndarray, np.ndarray]
    settled: bool = False

    @classmethod
    def empty(cls, groups: int, features: int, channels: int, *, centre: bool = True) -> Moments:
        """No positions yet; `channels` and `features` of one group."""
        zeros = [np.zeros((groups, *s)) for s in ((features,), (channels,), (features,) * 2, (channels, features))]
        origin = zeros[0].copy(), zeros[1].copy()
        return cls(0, centre, zeros[0], zeros[1], zeros[2], zeros[3], np.zeros((groups, channels)), origin)

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take positions: x (groups, n, d), y (n, groups · m), float32.

        Raises:
            ValueError: after `centred`.
        """
        if self.settled:
            raise ValueError("the sums are settled: take all positions before asking for covariances")
        groups = len(x)
        y = np.ascontiguousarray(y.reshape(len(y), groups, -1).transpose(1, 0, 2))
        if self.centre and self.count == 0 and x.shape[1]:
            self.origin = x.mean(1, dtype=np.float64), y.mean(1, dtype=np.float64)
        if self.centre:
            x, y = ((a - o[:, None].astype(np.float32)) for a, o in zip((x, y), self.origin, strict=True))
        self.count += x.shape[1]
        self.x += x.sum(1, dtype=np.float64)
        self.y += y.sum(1, dtype=np.float64)
        self.xx += x.transpose(0, 2, 1) @ x
        self.yx += y.transpose(0, 2, 1) @ x
        self.yy += np.square(y, dtype=np.float64).sum(1)

    def centred(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Covariances (not divided by the count): xx (groups, d, d), yx (groups, m, d), yy (groups, m).

        Without `centre` the second moments themselves. Made in place, once: a second matrix of features² would be
        the largest thing in memory.
        """
        if self.centre and not self.settled:
            n = max(self.count, 1)
            for total, left in ((self.xx, self.x), (self.yx, self.y)):
                for first in range(0, left.shape[1], _ROWS):
                    rows = slice(first, first + _ROWS)
                    total[:, rows] -= left[:, rows, None] * (self.x[:, None] / n)
            self.yy -= self.y**2 / n
        self.settled = True
        return self.xx, self.yx, self.yy

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """The means of x (groups, d) and y (groups, m)."""
        n = max(self.count, 1)
        return self.origin[0].astype(np.float32) + self.x / n, self.origin[1].astype(np.float32) + self.y / n

    def error(self, weight: np.ndarray) -> np.ndarray:
        """(groups, m): squared error of each channel's result with these weights (groups, m, d) and the best bias."""
        xx, yx, yy = self.centred()
        result: np.ndarray = yy - 2 * (weight * yx).sum(-1) + ((weight @ xx) * weight).sum(-1)
        return result


def solve(moments: Moments, start: np.ndarray, ridge: float) -> np.ndarray:
    """The real-valued optimum, drawn towards `start` by λ = ridge · the mean of H's diagonal.

    Args:
        moments: of the layer.
        start: (groups, m, d) float weights.
        ridge: relative.
    """
    xx, yx, _ = moments.centred()
    rest = yx - start @ xx
    factor = inverse_factor(_damped(xx, ridge))
    result: np.ndarray = start + (rest @ factor.transpose(0, 2, 1)) @ factor
    return result


def round_in_turn(
    weight: np.ndarray, scale: np.ndarray, xx: np.ndarray, limit: int, *, damping: float = 0.01, block: int = 64
) -> np.ndarray:
    """GPTQ: integers for real-valued weights, each feature's rounding error taken up by those still to be rounded.

    Features with the largest second moment go first: they have most others left to help them.

    Args:
        weight: (groups, m, d).
        scale: (groups, m), positive.
        xx: (groups, d, d) second moments of the input.
        limit: integers are clipped to ±limit.
        damping: relative to the mean of the diagonal.
        block: features rounded before their errors are spread over all later ones.

    Returns:
        int64 (groups, m, d).
    """
    groups, _, d = weight.shape
    order = np.argsort(-_damped_diagonal(xx, damping), axis=1, kind="stable")
    rows = np.arange(groups)[:, None]
    upper = inverse_factor(_damped(xx[rows[:, :, None], order[:, :, None], order[:, None]], damping, copy=False))
    work = np.take_along_axis(weight / scale[:, :, None], order[:, None], 2)
    result = np.zeros(work.shape, np.int64)
    for first in range(0, d, block):
        last = min(first + block, d)
        errors = np.zeros((*work.shape[:2], last - first))
        for i in range(first, last):
            column = work[:, :, i]
            integer = np.clip(np.rint(column), -limit, limit)
            result[:, :, i] = integer
            error = (column - integer) / upper[:, i, i][:, None]
            work[:, :, i + 1 : last] -= error[:, :, None] * upper[:, None, i, i + 1 : last]
            errors[:, :, i - first] = error
        work[:, :, last:] -= errors @ upper[:, first:last, last:]
    back = np.empty_like(result)
    np.put_along_axis(back, np.broadcast_to(order[:, None], result.shape), result, 2)
    return back


def _damped(xx: np.ndarray, ridge: float, *, copy: bool = True) -> np.ndarray:
    """H + λI; dead features (all zero) get 1, so that they neither move nor break the factorisation."""
    diagonal = _damped_diagonal(xx, ridge)
    result = xx.copy() if copy else xx
    index = np.arange(xx.shape[1])
    result[:, index, index] = diagonal
    return result


def _damped_diagonal(xx: np.ndarray, ridge: float) -> np.ndarray:
    diagonal = np.diagonal(xx, axis1=1, axis2=2)
    mean = diagonal.mean(1, keepdims=True)
    result: np.ndarray = diagonal + np.where(diagonal <= 1e-12 * mean, np.where(mean > 0, mean, 1.0), ridge * mean)
    return result
