"""A model that a C engine has loaded: what such engines have in common.

One run at a time: a lock guards the memory, so that several threads may call it. A fork waits for runs that are under
way. An engine that has threads of its own is loaded again at the child's first run, since threads don't survive.
"""

from __future__ import annotations

import _thread
import os
import sys
from _weakref import ref

from edgec_runtime.engines import base
from edgec_runtime.engines.memory import Port, trim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Callable

HOLD = 10.0  # seconds that a fork waits for a run to end
_living: dict[int, Any] = {}  # id -> weak reference: what a fork's child has to see to


class CallError(RuntimeError):
    """A function of an engine's library said no."""


class Executable(base.Executable):
    """A loaded model. An engine's own class says how to give it other shapes, load it again, free it.

    Attributes:
        threaded: whether the engine runs threads of its own.
        fixed: whether the outputs' shapes follow from the inputs'.
        ports_in, ports_out: the memory of its inputs and outputs.
        call, arguments: `call(*arguments)` runs it once; anything but 0 is passed to `fail`. Arguments are what ctypes'
            `from_param` and `byref` make: those it passes on as they are, the cheapest way that it has.
        lock: guards all of these.
        like: in a list of its own, another object whenever the memory changes; None where `quick` functions have
            nothing to run.
    """

    threaded = False
    fixed = True
    failures = (CallError, MemoryError)
    call: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __init__(self) -> None:
        self.ports_in: list[Port] = []
        self.ports_out: list[Port] = []
        self.lock: Any = _thread.allocate_lock()
        self.like: list[object] = [None]
        self._last: tuple[Any, Any] = (None, None)
        self._stale = False
        if not _living:
            watch()
        _living[id(self)] = ref(self)

    def fail(self, status: Any) -> None:
        """Raise CallError with what the engine says of a run that failed."""
        raise NotImplementedError

    def reshape(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Take inputs of these shapes (`set_ports`). Raises CallError where the model can't."""
        raise NotImplementedError

    def reload(self) -> None:
        """Load the model again, in a fork's child: what the engine had is dead and stays untouched."""
        raise NotImplementedError

    def free(self) -> None:
        """Give everything back to the engine."""
        raise NotImplementedError

    def set_ports(self, ports_in: list[Port], ports_out: list[Port]) -> None:
        """Use this memory from now on."""
        self.ports_in, self.ports_out = ports_in, ports_out
        self.like[0] = object()

    def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs of these names: numpy arrays where the feeds are, else memoryviews; new memory each time."""
        known, quick = self._last
        if known is names and quick is not None:
            found = quick(feeds, None)
            if found is not None:
                return list(found.values())
        with self.lock:
            self._invoke(feeds)
            plain = all(feeds[port.name].__class__ is memoryview for port in self.ports_in)
            answers = [port.get() if plain else port.array().copy() for port in self._ports(names)]
        # From the second time on: `Model` makes its own after the first.
        self._last = (names, self.quick(names, feeds) if known is names else None)
        return answers

    def run_into(self, names: Sequence[str], feeds: Mapping[str, Any], arrays: Sequence[Any]) -> None:
        """The same into given arrays. Raises CallError where an output comes out in another shape."""
        with self.lock:
            self._invoke(feeds)
            for port, array in zip(self._ports(names), arrays):
                if array.shape != port.shape:
                    raise CallError(f"the output {port.name!r} came out as {list(port.shape)}")
                if array.__class__ is memoryview:
                    array.cast("B")[:] = port.view
                else:
                    array[...] = port.array()

    def quick(
        self, names: Sequence[str], feeds: Mapping[str, Any], into: Mapping[str, Any] | None = None
    ) -> Callable[[dict[str, Any], Any], dict[str, Any] | None] | None:
        """After a run on these checked feeds: a function that checks and runs others that look like them (`quick`).

        None where there is none; `into` are arrays for outputs, by name.
        """
        if not self.fixed:
            return None
        from edgec_runtime.engines import quick

        return quick.runner(self, names, feeds, into or {})

    def bind(self, outputs: Mapping[str, Any]) -> Bound:
        """A run whose answers are copied into these arrays."""
        return Bound(self, outputs)

    def close(self) -> None:
        """Free the engine's memory once no run is under way."""
        with self.lock:
            # Runs that wait for the lock come after this: they find no memory to fill, and a call that says why.
            self.run = self.call = closed  # type: ignore[method-assign, assignment]
            self.arguments = ()
            self.set_ports([], [])
            self.like[0] = None
            self._end()

    def __del__(self) -> None:
        self._end()

    def _end(self) -> None:
        if _living.pop(id(self), None) is not None and not self._stale:
            self.free()
            if not sys.is_finalizing():
                trim()

    def _invoke(self, feeds: Mapping[str, Any]) -> None:
        if self._stale:
            self._stale = False
            self.reload()
        self._reshape(feeds)
        for port in self.ports_in:
            port.put(feeds[port.name])
        status = self.call(*self.arguments)
        if status:
            self.fail(status)

    def _reshape(self, feeds: Mapping[str, Any]) -> None:
        if self.call is closed:
            closed()
        shapes = [feeds[port.name].shape for port in self.ports_in]
        if shapes != [port.shape for port in self.ports_in]:
            self.reshape(shapes)

    def _ports(self, names: Sequence[str]) -> list[Port]:
        by_name = {port.name: port for port in self.ports_out}
        return [by_name[name] for name in names]

    def hold(self) -> bool:
        """Keep runs from starting, until `let_go`; False where one does not end in time (a handler forks inside it)."""
        return bool(self.lock.acquire(timeout=HOLD))

    def let_go(self) -> None:
        """Undo `hold`."""
        self.lock.release()

    def forked(self, *, held: bool) -> None:
        """In a fork's child: the engine's threads are gone, and if a run was under way, so is the model's state."""
        self.lock._at_fork_reinit()
        self._stale = self._stale or self.threaded or not held
        if self._stale:
            self.like[0] = None


class Bound(base.Bound):
    """A run whose answers are copied into given arrays."""

    def __init__(self, executable: Executable, outputs: Mapping[str, Any]) -> None:
        self._executable = executable
        self._names = list(outputs)
        self._arrays = list(outputs.values())

    def run(self, feeds: Mapping[str, Any]) -> None:
        """Run; the answers are in the arrays afterwards."""
        self._executable.run_into(self._names, feeds, self._arrays)


def closed(*_: Any) -> Any:
    """What running is after `close`."""
    from edgec_runtime.errors import UsageError

    raise UsageError("the model is closed", "it was used after close() or its with block", "load it again", code="E203")


def watch() -> None:
    """See to forks, once in a process."""
    if not _watched and hasattr(os, "register_at_fork"):
        _watched.append(True)
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


def _before_fork() -> None:
    """Let runs that are under way end, so that the child gets no model in the middle of one."""
    _held[:] = [
        model for model in (living() for living in list(_living.values())) if model is not None and model.hold()
    ]


def _after_fork() -> None:
    while _held:
        _held.pop().let_go()


def _in_child() -> None:
    for living in list(_living.values()):
        model = living()
        if model is not None:
            model.forked(held=any(model is one for one in _held))
    _held.clear()


_watched: list[bool] = []
_held: list[Executable] = []
