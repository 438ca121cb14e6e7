"""What a model takes: feeds checked against the manifest's inputs, with an error that names the input."""

from __future__ import annotations

from edgec_runtime import dtypes
from edgec_runtime.errors import BadInputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Shape = Sequence[Any]  # int, or the name of a free size

NAMELESS = frozenset({"?", "None", "-1"})  # what exporters write for any size: two of them need not agree


class Signature:
    """The inputs of a model, and the check of feeds against them.

    `fast` is what the last good feeds looked like: (name, class, dtype, shape) of each input. Feeds that look the
    same need no other check; it is replaced as a whole, so threads never see half of it.

    `numpy` says whether the engine's arrays are numpy's: None where it takes what it is given, numpy's or not.
    """

    __slots__ = ("_inputs", "_names", "_numpy", "fast")

    def __init__(self, inputs: Sequence[Mapping[str, Any]], *, numpy: bool | None) -> None:
        self._inputs = inputs
        self._names = [tensor["name"] for tensor in inputs]
        self._numpy = numpy
        self.fast: tuple[tuple[str, Any, Any, tuple[int, ...]], ...] | None = None

    def check(self, feeds: Any) -> dict[str, Any]:
        """The feeds as arrays (memoryviews for an engine without numpy), C-contiguous, in the manifest's order.

        Raises BadInputError: not a mapping, a missing or unknown name, a wrong dtype or shape, or sizes that bear the
        same name in the manifest but differ.
        """
        from _collections_abc import Mapping  # what os has loaded already; collections would be loaded anew

        if not isinstance(feeds, Mapping):
            raise BadInputError(
                f"the inputs are a {type(feeds).__name__}, not a dict",
                f"a model is run on {{input name: array}}; this one has {self._list()}",
                "pass a dict, or call the model itself with one array where it has one input",
                code="E910",
            )
        missing = [name for name in self._names if name not in feeds]
        unknown = [str(name) for name in feeds if name not in self._names]
        if missing or unknown:
            what = f"the input {missing[0]!r} is missing" if missing else f"there is no input {unknown[0]!r}"
            given = ", ".join(repr(str(name)) for name in list(feeds)[:8]) or "none"
            raise BadInputError(
                what, f"the model has {self._list()}; given: {given}", "give each input by its name", code="E910"
            )
        free: dict[str, tuple[int, str]] = {}
        numpy = self._numpy
        if numpy is None:
            numpy = any(type(value).__module__ == "numpy" for value in feeds.values())
        convert = _array if numpy else _view
        checked = {tensor["name"]: convert(feeds[tensor["name"]], tensor, free) for tensor in self._inputs}
        if not numpy:
            self.fast = None
        elif not any(tensor["dtype"] == "string" for tensor in self._inputs):  # text is looked at
            self.fast = tuple((name, type(array), array.dtype, array.shape) for name, array in checked.items())
        return checked

    def _list(self) -> str:
        return ", ".join(f"{t['name']!r} ({text(t['dtype'], t['shape'])})" for t in self._inputs[:8]) or "no inputs"


def text(dtype: str, shape: Shape) -> str:
    """A tensor's type in words: float32[batch, 3]."""
    return f"{dtype}[{', '.join(str(size) for size in shape)}]"


def _array(value: Any, tensor: Mapping[str, Any], free: dict[str, tuple[int, str]]) -> Any:
    import numpy

    from edgec_runtime import arrays

    if isinstance(value, (numpy.ndarray, numpy.generic)) or hasattr(value, "__array__") or _has_buffer(value):
        array = numpy.asarray(value)
    else:
        raise _wrong(tensor, type(value).__name__, "an array (numpy's, or anything with the buffer protocol)")
    dtype, got = tensor["dtype"], arrays.name_of(array)
    if got == "object" and dtype == "string" and all(isinstance(item, str) for item in array.flat):
        got = "string"
    if got != dtype and not (dtype in dtypes.ML_DTYPES and array.dtype == arrays.carrier(dtype)):
        raise _wrong(tensor, text(got, array.shape), f"dtype {dtype}", f"convert it: array.astype({dtype!r})")
    _check_shape(array.shape, tensor, text(got, array.shape), free)
    return array if array.flags.c_contiguous else array.copy(order="C")


def _view(value: Any, tensor: Mapping[str, Any], free: dict[str, tuple[int, str]]) -> Any:
    from edgec_runtime import arrays

    if not _has_buffer(value):
        raise _wrong(tensor, type(value).__name__, "anything with the buffer protocol")
    view = memoryview(value)
    got = arrays.name_of_format(view.format, view.itemsize) or view.format
    shape = tuple(view.shape or ())
    # Before Python 3.12 a memoryview can't be of half precision: its bits come as uint16 then.
    if got != tensor["dtype"] and (got, tensor["dtype"]) != ("uint16", "float16"):
        raise _wrong(tensor, text(got, shape), f"dtype {tensor['dtype']}")
    _check_shape(shape, tensor, text(got, shape), free)
    if not view.c_contiguous:
        raise _wrong(tensor, "memory with gaps", "C-contiguous memory")
    return view


def _has_buffer(value: Any) -> bool:
    try:
        memoryview(value).release()
    except TypeError:
        return False
    return True


def _check_shape(shape: tuple[int, ...], tensor: Mapping[str, Any], got: str, free: dict[str, tuple[int, str]]) -> None:
    want = tensor["shape"]
    if len(shape) != len(want):
        raise _wrong(tensor, got, f"{len(want)} dimensions")
    for axis, (size, expected) in enumerate(zip(shape, want)):
        if isinstance(expected, str):
            if expected in NAMELESS:
                continue
            first, owner = free.setdefault(expected, (size, tensor["name"]))
            if size != first:
                raise _wrong(tensor, got, f"{first} for {expected!r} on axis {axis}, as the input {owner!r} has")
        elif size != expected:
            raise _wrong(tensor, got, f"{expected} on axis {axis}")


def _wrong(tensor: Mapping[str, Any], got: str, expected: str, fix: str = "") -> BadInputError:
    return BadInputError(
        f"the input {tensor['name']!r} is {got}; expected {expected}",
        f"the model takes {tensor['name']!r} as {text(tensor['dtype'], tensor['shape'])}",
        fix or "give it as the model takes it",
        code="E911",
    )
