"""The two 16-bit floats, and rounding float32 to them: half to even, overflow and underflow told, never hidden.

float16 is IEEE 754 binary16 (11 significant bits, 2⁻¹⁴ … 65504, subnormals to 2⁻²⁴); bfloat16 is float32 cut to 8
significant bits (2⁻¹²⁶ … 3.39·10³⁸), as in ONNX's Cast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir

from edgec.errors import UsageError

Name = Literal["float16", "bfloat16"]
# Elements looked at at once, so that a large tensor needs no float64 copies of itself.
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Kind:
    """A 16-bit float type.

    Attributes:
        name: as ONNX and numpy call it.
        onnx: its ONNX type.
        numpy: its numpy type.
        largest: the largest finite value.
        normal: the smallest value with full precision.
        roundoff: the largest relative error of rounding a value that is not smaller: 2^−(significant bits).
    """

    name: Name
    onnx: ir.DataType
    numpy: np.dtype[Any]
    largest: float
    normal: float
    roundoff: float


KINDS: dict[str, Kind] = {
    "float16": Kind("float16", ir.DataType.FLOAT16, np.dtype(np.float16), 65504.0, 2.0**-14, 2.0**-11),
    "bfloat16": Kind(
        "bfloat16", ir.DataType.BFLOAT16, np.dtype(ml_dtypes.bfloat16), float.fromhex("0x1.fep127"), 2.0**-126, 2.0**-8
    ),
}


def kind_of(name: str) -> Kind:
    """The type by name.

    Raises:
        UsageError: it is neither float16 nor bfloat16.
    """
    if name not in KINDS:
        raise UsageError(f"'{name}' is no 16-bit float", "", f"use one of {', '.join(KINDS)}", code="E215")
    return KINDS[name]


@dataclass(frozen=True)
class Rounded:
    """An array in a 16-bit float.

    Attributes:
        data: of the kind's numpy type.
        overflowed: how many finite values became infinite.
        vanished: how many values other than zero became zero.
        error: ‖x − rounded‖ / ‖x‖ over the finite values that stay finite, 0 for none: relative, root mean square.
    """

    data: np.ndarray
    overflowed: int
    vanished: int
    error: float


def rounded(x: np.ndarray, kind: Kind) -> Rounded:
    """Round to nearest, ties to even, as the ONNX operator Cast does; infinities and NaN stay what they are.

    Args:
        x: float32.
        kind: the type wanted.
    """
    x = np.asarray(x, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        data = x.astype(kind.numpy)
    overflowed = vanished = 0
    signal = noise = largest = 0.0
    flat, short = x.reshape(-1), data.reshape(-1)
    for first in range(0, flat.size, _CHUNK):
        given = flat[first : first + _CHUNK].astype(np.float64)
        back = short[first : first + _CHUNK].astype(np.float64)
        finite, stays = np.isfinite(given), np.isfinite(back)
        overflowed += int((finite & ~stays).sum())
        vanished += int(((back == 0) & (given != 0)).sum())
        given, back = np.where(stays, given, 0), np.where(stays, back, 0)
        # Scaled by the largest so far, so that squares of huge or tiny values neither overflow nor vanish.
        peak = max(largest, float(np.abs(given).max(initial=0.0)))
        if peak:
            old = (largest / peak) ** 2
            signal = signal * old + float(np.square(given / peak).sum())
            noise = noise * old + float(np.square((given - back) / peak).sum())
            largest = peak
    return Rounded(data, overflowed, vanished, float(np.sqrt(noise / signal)) if signal else 0.0)


def refusal(result: Rounded, kind: Kind) -> str:
    """Why a constant should not be kept in this type (a sentence), or "" where it may.

    Values of full precision err by at most `roundoff` of themselves, so an array that errs more in the root mean square
    lost what matters in it to underflow.
    """
    if result.overflowed:
        return f"{result.overflowed} of its values are beyond ±{kind.largest:g}"
    if result.error > kind.roundoff:
        return f"its values are too small for {kind.name}, which loses {100 * result.error:.2g} % of them"
    return ""
