"""What an engine's adapter must be (ARCHITECTURE.md: Engine, Executable). One adapter a file in this folder.

An adapter imports its engine when it is asked to load something, never before. Third parties register theirs under the
entry point `edgec_runtime.engines`.
"""

from __future__ import annotations

from edgec_runtime.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Callable

    from edgec_runtime.engines.library import Library
    from edgec_runtime.payload import Payload


class RefusedError(UnsupportedError):
    """The engine is there but can't take this payload; the next payload may do."""

    code = "E402"


class Tensor:
    """An input or output as an engine reports it: its name, dtype (`edgec_runtime.dtypes`) and shape.

    A size that is free is a name, or None where it has none; `shape` is None where even the rank is free.
    """

    __slots__ = ("dtype", "name", "shape")

    def __init__(self, name: str, dtype: str, shape: tuple[int | str | None, ...] | None) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.dtype!r}, {self.shape!r})"


class Bound:
    """A run that writes into buffers which were given once."""

    def run(self, feeds: Mapping[str, Any]) -> None:
        """Run on checked feeds; the outputs are in the buffers afterwards."""
        raise NotImplementedError


class Executable:
    """A loaded model. Safe to run from several threads at once.

    Attributes:
        inputs, outputs: as the engine reports them.
        run: `run(output_names, feeds) -> list of arrays`, on feeds that were checked: every input by its name, an
            array of its dtype that is C-contiguous. An attribute, so that a call costs no more than the engine's own.
        failures: what a run raises where the engine says no. Anything else, such as what a signal's handler raises in
            the middle of a run, is passed on as it is.

    An executable may have one more method, `quick`: see `native.Executable`.
    """

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    run: Callable[[Sequence[str], Mapping[str, Any]], list[Any]]
    failures: tuple[type[Exception], ...] = (Exception,)

    def bind(self, outputs: Mapping[str, Any]) -> Bound | None:
        """A run into these buffers (output name -> writable C-contiguous array); None where the engine can't."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the engine's memory once no run is under way."""
        raise NotImplementedError


class Engine:
    """An engine's adapter.

    Attributes:
        name: as manifests name it.
        uses_numpy: whether its arrays are numpy's; None where it answers numpy arrays with numpy arrays and anything
            else with memoryviews.
    """

    name: str
    uses_numpy: bool | None

    def version(self) -> str | None:
        """The version of the engine's library on this machine, or None where it is not installed."""
        raise NotImplementedError

    def library(self) -> Library | None:
        """The shared library that it calls itself, whose change is to be noticed; None where a package does."""
        return None

    def load(self, payload: Payload, options: Mapping[str, Any]) -> Executable:
        """Load a payload. Raises RefusedError with the engine's own words where it can't."""
        raise NotImplementedError


MAX_THREADS = 1024
LITERT_OPTIONS = ("threads", "spinning", "arena")  # of either adapter of LiteRT


def threads(options: Mapping[str, Any], known: Iterable[str], engine: str) -> int | None:
    """The option "threads", None for the engine's own default. RefusedError for an option that is not `known`."""
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise RefusedError(f"the option {unknown[0]!r} is not one of {engine}'s", "", "update edgec-runtime")
    count = options.get("threads")
    if count is not None and (type(count) is not int or not 0 <= count <= MAX_THREADS):
        raise RefusedError(f"threads = {count!r} makes no sense", "", f"give a number from 1 to {MAX_THREADS}")
    return count or None
