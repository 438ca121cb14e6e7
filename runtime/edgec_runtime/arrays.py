"""Arrays of the edge types: the numpy type for a name, packing, and what a value's dtype and shape are.

numpy is imported inside: whoever has no array never pays for it.
"""

from __future__ import annotations

from edgec_runtime import dtypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OURS = {theirs: ours for ours, theirs in dtypes.ML_DTYPES.items()}
# One-letter codes of the buffer protocol (struct), for values without numpy; sizes decide where codes differ.
_FORMATS = {"?": "bool", "e": "float16", "f": "float32", "d": "float64"}


def numpy_type(dtype: str) -> Any:
    """The numpy dtype for a name of `dtypes`.

    For types that numpy lacks, `ml_dtypes`'s where it is installed, else the unsigned (signed for int4 and int2)
    integer that carries the bits or the value.
    """
    import numpy

    if dtype == "string":
        return numpy.dtype(object)
    if dtype not in dtypes.ML_DTYPES:
        return numpy.dtype(dtype)
    try:
        import ml_dtypes

        return numpy.dtype(getattr(ml_dtypes, dtypes.ML_DTYPES[dtype]))
    except (ImportError, AttributeError):
        return carrier(dtype)


def carrier(dtype: str) -> Any:
    """The integer dtype that carries a type which numpy lacks."""
    import numpy

    if dtype == "bfloat16":
        return numpy.dtype("uint16")
    return numpy.dtype("int8" if dtype in ("int4", "int2") else "uint8")


def name_of(array: Any) -> str:
    """The name in `dtypes` of a numpy array's dtype, or numpy's own where it is none of them."""
    kind = array.dtype
    if kind.kind in "UO":
        return "string" if kind.kind == "U" else "object"
    if not kind.isnative:
        return f"{kind.name}, big-endian" if kind.byteorder == ">" else f"{kind.name}, little-endian"
    return _OURS.get(kind.name, str(kind.name))


def name_of_format(code: str, size: int) -> str | None:
    """The same for the format of a memoryview, such as "f" or "<q"; None where it is none of them."""
    letter = code.lstrip("@=<")
    if letter in _FORMATS:
        return _FORMATS[letter]
    if letter in tuple("bhilqn"):
        return f"int{8 * size}"
    if letter in tuple("BHILQN"):
        return f"uint{8 * size}"
    return None


def pack(array: Any, dtype: str) -> bytes:
    """The bytes of an array as ONNX lays them out: types below eight bits packed, the first value lowest."""
    import numpy

    bits = dtypes.BITS[dtype]
    if bits >= 8:
        return bytes(array.tobytes())
    per = 8 // bits
    flat = array.view(numpy.uint8).ravel() & ((1 << bits) - 1)
    flat = numpy.append(flat, numpy.zeros(-flat.size % per, numpy.uint8)).reshape(-1, per)
    packed = numpy.zeros(len(flat), numpy.uint8)
    for place in range(per):
        packed |= flat[:, place] << (place * bits)
    return packed.tobytes()


def unpack(data: bytes | bytearray | memoryview, dtype: str, shape: tuple[int, ...]) -> Any:
    """The array of such bytes, of `numpy_type(dtype)`; its own memory, writable."""
    import numpy

    kind, bits, elements = numpy_type(dtype), dtypes.BITS[dtype], dtypes.count(shape)
    if bits >= 8:
        little = kind.newbyteorder("<") if kind.kind in "iufc" else kind
        return numpy.frombuffer(data, little, elements).astype(kind).reshape(shape)
    raw = numpy.frombuffer(data, numpy.uint8)
    places = numpy.arange(0, 8, bits, dtype=numpy.uint8)
    values = (raw[:, None] >> places & ((1 << bits) - 1)).ravel()[:elements].astype(numpy.uint8)
    if dtype in ("int4", "int2"):  # sign-extended: what the carrier and ml_dtypes hold
        return ((values << (8 - bits)).view(numpy.int8) >> (8 - bits)).view(kind).reshape(shape)
    return values.view(kind).reshape(shape)
