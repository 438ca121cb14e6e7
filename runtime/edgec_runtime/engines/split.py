"""A model of one sample, given several: run on each, the answers put together along the first axis.

For payloads whose option "batch" is "split": the file's sizes are fixed, the model's batch is free, and the compiler
has seen that samples in a batch don't touch each other. A call with one sample costs what it costs without this.
"""

from __future__ import annotations

import sys

from edgec_runtime.engines import base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Callable


class Executable(base.Executable):
    """An executable over one of batch one."""

    def __init__(self, one: base.Executable) -> None:
        self._one = one
        self._single = [(tensor.name, tensor.shape) for tensor in one.inputs]
        self.inputs, self.outputs, self.failures = one.inputs, one.outputs, one.failures

    def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs of these names. Sizes that no number of samples gives are the engine's own to refuse."""
        rows, count = self._rows(feeds)
        if not rows:
            return self._one.run(names, feeds)
        each = []
        for row in range(count):
            each.append(self._one.run(names, {k: _row(v, row) if k in rows else v for k, v in feeds.items()}))
        return [_together([answers[place] for answers in each]) for place in range(len(names))]

    def quick(self, names: Sequence[str], feeds: Mapping[str, Any], into: Mapping[str, Any] | None = None) -> Any:
        """The engine's own way for calls like the last one, if that had one sample."""
        make: Callable[..., Any] | None = getattr(self._one, "quick", None)
        return make(names, feeds, into) if make is not None and not self._rows(feeds)[0] else None

    def bind(self, outputs: Mapping[str, Any]) -> None:
        """None: the arrays may be of any number of samples."""
        return

    def close(self) -> None:
        """Close the one."""
        self._one.close()

    def _rows(self, feeds: Mapping[str, Any]) -> tuple[set[str], int]:
        """The inputs to take row by row, and how many rows they have; none where it is one run."""
        rows: set[str] = set()
        counts: set[int] = set()
        for name, shape in self._single:
            have: tuple[int, ...] = feeds[name].shape
            if have != shape:
                if shape is None or not shape or shape[0] != 1 or have[1:] != shape[1:] or not have[0]:
                    return set(), 0
                rows.add(name)
                counts.add(have[0])
        return (rows, counts.pop()) if len(counts) == 1 else (set(), 0)


def _row(value: Any, row: int) -> Any:
    if value.__class__ is not memoryview:
        return value[row : row + 1]
    view: Any = value  # of more axes than one, which can't be sliced
    size = view.nbytes // view.shape[0]
    return view.cast("B")[row * size : (row + 1) * size].cast(view.format, (1, *view.shape[1:]))


def _together(parts: list[Any]) -> Any:
    first: Any = parts[0]
    if first.__class__ is not memoryview:
        return sys.modules["numpy"].concatenate(parts)
    dims: Any = first.shape
    shape = (len(parts) * dims[0], *dims[1:])
    whole: Any = memoryview(bytearray().join(part.cast("B") for part in parts))
    return whole.cast(first.format, shape)
