"""The memory that a C engine reads its inputs from and writes its outputs to: aligned, made once, used by every call.

Arrays go in and out by the buffer protocol. numpy is used where the caller's arrays are numpy's, and never imported.
"""

from __future__ import annotations

from edgec_runtime import dtypes
from edgec_runtime.engines import base
from edgec_runtime.engines.foreign import Library, addressof, c_char, c_size_t

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALIGNMENT = 64  # bytes: what LiteRT demands of memory that it is given, and a cache line
SLACK = 64  # bytes after the end that vector code may read (XNNPACK: XNN_EXTRA_BYTES, 16)

FORMATS = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q",
    "uint64": "Q", "float16": "e", "float32": "f", "float64": "d",
}  # fmt: skip
try:
    memoryview(b"ab").cast("e")  # type: ignore[call-overload]
except ValueError:  # before Python 3.12 a memoryview has no half precision: its bits, as for types that numpy lacks
    FORMATS["float16"] = "H"


class Port:
    """An input or an output of fixed shape: its memory, and views of it.

    Attributes:
        name, dtype, shape: of the tensor.
        nbytes: bytes of its values.
        address: where they are.
        format: of a memoryview of the values.
        memory: the values' bytes as a C array: `memory.raw = value` copies any C-contiguous buffer in, the cheapest way
            that Python has; it looks at no types, and refuses (BufferError, ValueError) what is longer or has gaps.
        view: the same bytes as a memoryview, writable.
    """

    __slots__ = ("_array", "address", "dtype", "format", "memory", "name", "nbytes", "shape", "view")

    def __init__(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.nbytes = dtypes.nbytes(dtype, dtypes.count(shape))
        backing = bytearray(self.nbytes + ALIGNMENT + SLACK)
        start = addressof(c_char.from_buffer(backing))
        offset = -start % ALIGNMENT
        self.address = start + offset
        self.memory: Any = (c_char * self.nbytes).from_buffer(backing, offset)
        self.view: Any = memoryview(self.memory).cast("B")
        self.format: Any = FORMATS[dtype]
        self._array: Any = None

    def put(self, value: Any) -> None:
        """Copy a C-contiguous array of this port's dtype and shape in: numpy's, or any with the buffer protocol."""
        self.memory.raw = value

    def get(self) -> memoryview:
        """The values as new memory of their own."""
        return memoryview(bytearray(self.memory)).cast(self.format, self.shape)

    def array(self) -> Any:
        """This port's own memory as a numpy array."""
        if self._array is None:
            import numpy

            if not self.nbytes:
                return numpy.empty(self.shape, self.dtype)
            self._array = numpy.frombuffer(self.view, numpy.dtype(self.dtype)).reshape(self.shape)
        return self._array


def takes(dtype: str, shape: tuple[int, ...]) -> bool:
    """Whether a Port can hold such a tensor: plain numbers, and at least one of them."""
    return dtype in FORMATS and 0 not in shape


def refuse(name: str, dtype: str, shape: tuple[int, ...], engine: str) -> base.RefusedError:
    """Why a tensor has no place in a Port."""
    what = f"{name!r} is {dtype}" if dtype not in FORMATS else f"{name!r} is empty: its shape is {list(shape)}"
    why = f"{engine} is called by its C interface here, which takes plain numbers, at least one"
    return base.RefusedError(what, why, "install the engine's Python package")


def trim() -> None:
    """Give memory that was freed back to the system, where the C library can (glibc).

    What an engine frees after it has read and packed a model stays with the process otherwise: of a model of 18.7 MB
    in ONNX Runtime, 20 MB after loading, and 40 MB after closing.
    """
    try:
        Library(None).function("malloc_trim")(c_size_t(0))
    except (AttributeError, OSError):
        return
