"""Outputs written into the caller's own arrays, bound once and reused from call to call."""

from __future__ import annotations

import _thread

from edgec_runtime.engines.base import Executable
from edgec_runtime.errors import BadInputError
from edgec_runtime.signature import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


class Buffers:
    """The arrays of one `out=`, checked, and where the engine can, bound. One run at a time: a lock guards it.

    Raises BadInputError (E913) for an array that is not an output's, or that can't be written into.
    """

    def __init__(self, executable: Executable, outputs: Sequence[Mapping[str, Any]], out: Mapping[str, Any]) -> None:
        self._out = dict(out)
        self._names = [tensor["name"] for tensor in outputs]
        self._lock = _thread.allocate_lock()
        known = {tensor["name"]: tensor for tensor in outputs}
        for name, array in out.items():
            if name not in known:
                raise _bad(f"there is no output {name!r}", f"the model has {', '.join(map(repr, self._names))}")
            _check(array, known[name])
        if not hasattr(executable, "run_into") and any(isinstance(array, memoryview) for array in out.values()):
            import numpy

            out = {name: numpy.asarray(array) for name, array in out.items()}  # the same memory
        self._arrays = dict(out)
        whole = len(out) == len(known)
        self._bound = executable.bind(self._arrays) if whole else None

    def holds(self, out: Mapping[str, Any]) -> bool:
        """True if these are the very arrays that are bound."""
        mine = self._out
        return len(out) == len(mine) and all(mine.get(name) is array for name, array in out.items())

    def run(self, call: Callable[[Sequence[str], Mapping[str, Any]], list[Any]], feeds: Mapping[str, Any]) -> Any:
        """Run and return {output name: array}, with the caller's arrays where there are."""
        with self._lock:
            if self._bound is not None:
                self._bound.run(feeds)
                return {name: self._out[name] for name in self._names}
            results = dict(zip(self._names, call(self._names, feeds)))
            for name, array in self._arrays.items():
                if results[name].shape != array.shape:
                    got, room = list(results[name].shape), list(array.shape)
                    raise _bad(f"the output {name!r} came out as {got}", f"the array given for it is {room}")
                if isinstance(array, memoryview):
                    array.cast("B")[:] = memoryview(results[name]).cast("B")
                else:
                    array[...] = results[name]
                results[name] = self._out[name]
            return results


def _check(array: Any, tensor: Mapping[str, Any]) -> None:
    from edgec_runtime import arrays

    name, want = tensor["name"], text(tensor["dtype"], tensor["shape"])
    if isinstance(array, memoryview):
        kind = arrays.name_of_format(array.format, array.itemsize) or array.format
        right = kind == tensor["dtype"] or (kind, tensor["dtype"]) == ("uint16", "float16")
        writable = array.c_contiguous and not array.readonly
    else:
        try:
            import numpy
        except ImportError:
            raise _bad(f"the array for the output {name!r} is a {type(array).__name__}", _WHAT) from None
        if not isinstance(array, numpy.ndarray):
            raise _bad(f"the array for the output {name!r} is a {type(array).__name__}", _WHAT)
        kind = arrays.name_of(array)
        right = array.dtype == arrays.numpy_type(tensor["dtype"])
        writable = array.flags.c_contiguous and array.flags.writeable
    if not right:
        raise _bad(f"the array for the output {name!r} is {kind}", f"the output is {want}")
    fits = len(array.shape) == len(tensor["shape"]) and all(
        isinstance(size, str) or have == size for have, size in zip(array.shape, tensor["shape"])
    )
    if not fits:
        raise _bad(f"the array for the output {name!r} is {list(array.shape)}", f"the output is {want}")
    if not writable:
        raise _bad(f"the array for the output {name!r} can't be written into", "it is read-only, or has gaps")


_WHAT = "outputs go into numpy arrays, or memoryviews"


def _bad(what: str, why: str) -> BadInputError:
    return BadInputError(what, why, "make it with numpy.empty(shape, dtype), of the output's own", code="E913")
