"""Whether a model gives its recorded answers: golden inputs run, outputs compared in dB.

The measure is the signal-to-noise ratio over all elements of all samples together,
10·log10(Σ recorded² / Σ (recorded - given)²), in float64. Floating-point outputs decide where there are any, since an
index flips with the smallest noise; else all outputs do. NaN where NaN was recorded counts as equal, and so does the
same infinity. Text must be equal. numpy does the arithmetic where it is there; plain Python gives the same without it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edgec_runtime.bundle.tensors import Tensor
from edgec_runtime.errors import GoldenError

IDENTICAL = 200.0  # dB: what equal answers are given as, so that the figure stays a number
FLOATS = ("float", "bfloat", "complex")
_CODES = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q",
    "uint64": "Q", "float16": "e", "float32": "f", "float64": "d",
}  # fmt: skip


def samples(inputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The golden inputs, one dict a sample, from tensors that are named "0/image"."""
    found: dict[int, dict[str, Tensor]] = {}
    for key, tensor in inputs.items():
        number, name = _split(key)
        found.setdefault(number, {})[name] = tensor
    return [found[number] for number in sorted(found)]


def feed(sample: Mapping[str, Tensor]) -> dict[str, Any]:
    """A sample as arrays: numpy's where numpy is there, else memoryviews."""
    return {name: _array(tensor) for name, tensor in sample.items()}


def check(
    run: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    inputs: Mapping[str, Tensor],
    recorded: Mapping[str, Tensor],
    min_sqnr_db: float,
) -> float:
    """Run the golden inputs and compare; returns the SQNR in dB, at most 200.

    Raises GoldenError: an output is missing or has another shape, text differs, or the SQNR is below the minimum.
    """
    outputs = [run(feed(sample)) for sample in samples(inputs)]
    value = sqnr_db(recorded, outputs)
    if not value >= min_sqnr_db:
        raise GoldenError(
            "the model does not give its recorded answers",
            f"SQNR {value:.1f} dB on {len(outputs)} golden inputs; at least {min_sqnr_db:.1f} dB is due",
            "this machine's engine computes something else: compare its version with the one it was proven with",
            code="E601",
        )
    return value


def sqnr_db(recorded: Mapping[str, Tensor], outputs: Sequence[Mapping[str, Any]]) -> float:
    """The ratio of given outputs to recorded ones ("0/y"), in dB within ±200. Raises GoldenError as `check` does."""
    floats = {key: tensor for key, tensor in recorded.items() if tensor.dtype.startswith(FLOATS)}
    signal = noise = 0.0
    for key, tensor in recorded.items():
        number, name = _split(key)
        given = outputs[number].get(name) if number < len(outputs) else None
        if given is None:
            raise _wrong(f"the output {name!r} of sample {number} is missing")
        if tuple(given.shape) != tensor.shape:
            raise _wrong(f"the output {name!r} has shape {list(given.shape)}, not {list(tensor.shape)}")
        if tensor.dtype == "string":
            if [str(text) for text in given.ravel()[:: tensor.every]] != tensor.strings():
                raise _wrong(f"the output {name!r} is other text")
        elif not floats or key in floats:
            energy = _energies(tensor, given)
            signal, noise = signal + energy[0], noise + energy[1]
    return ratio_db(signal, noise)


def ratio_db(signal: float, noise: float) -> float:
    """10·log10(signal / noise), kept within ±200 dB; no noise is 200, noise without a signal or not finite -200."""
    if noise == 0:
        return IDENTICAL
    if signal <= 0 or not math.isfinite(noise):
        return -IDENTICAL
    return max(-IDENTICAL, min(IDENTICAL, 10 * math.log10(signal / noise)))


def _energies(tensor: Tensor, given: Any) -> tuple[float, float]:
    """(Σ recorded², Σ (recorded - given)²) of one output."""
    try:
        import numpy
    except ImportError:
        return _energies_without_numpy(tensor, given)
    reference = _flat(tensor)
    wide = numpy.complex128 if reference.dtype.kind == "c" else numpy.float64
    a, b = reference.astype(wide), numpy.asarray(given).reshape(-1)[:: tensor.every].astype(wide)
    different = ~((a == b) | (numpy.isnan(a) & numpy.isnan(b)))
    with numpy.errstate(invalid="ignore", over="ignore"):
        noise = numpy.sum(numpy.abs(a[different] - b[different]) ** 2)
        signal = numpy.sum(numpy.abs(a[numpy.isfinite(a)]) ** 2)
    return float(signal), float(noise)


def _energies_without_numpy(tensor: Tensor, given: Any) -> tuple[float, float]:
    flat = memoryview(given).cast("B").cast(given.format) if given.ndim != 1 else given
    signals, noises = [], []
    for a, b in zip(_values(tensor), flat[:: tensor.every]):
        if a == b or (a != a and b != b):
            noises.append(0.0)
        else:
            noises.append((float(a) - float(b)) ** 2 if math.isfinite(b) else math.inf)
        if math.isfinite(a):
            signals.append(float(a) ** 2)
    return math.fsum(signals), math.fsum(noises)


def _values(tensor: Tensor) -> Iterable[Any]:
    if tensor.dtype not in _CODES:
        raise _wrong(f"{tensor.dtype} outputs can't be compared without numpy")
    code = "<" + _CODES[tensor.dtype]
    return (value for (value,) in struct.iter_unpack(code, tensor.data))


def _flat(tensor: Tensor) -> Any:
    from edgec_runtime import arrays

    return arrays.unpack(tensor.data, tensor.dtype, (tensor.elements,))


def _array(tensor: Tensor) -> Any:
    try:
        import numpy
    except ImportError:
        code: Any = _CODES[tensor.dtype]
        return memoryview(tensor.data).cast("B").cast(code, list(tensor.shape))
    if tensor.dtype == "string":
        return numpy.array(tensor.strings(), dtype=object).reshape(tensor.shape)
    return _flat(tensor).reshape(tensor.shape)


def _split(key: str) -> tuple[int, str]:
    number, slash, name = key.partition("/")
    if not slash or not number.isdigit() or len(number) > 6:
        raise _wrong(f"{key[:40]!r} is not the name of a golden tensor")
    return int(number), name


def _wrong(why: str) -> GoldenError:
    return GoldenError(
        "the model does not give its recorded answers", why, "compile the model again for this machine", code="E601"
    )
