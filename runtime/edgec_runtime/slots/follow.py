"""A model that follows its app: `rt.load(app=…, follow=True)`.

A call goes to the version that is loaded. Every `INTERVAL` one of them asks first whether the app's state is another
file than before (one `stat`); if it is, a thread reads it, loads the version that a load would get now beside the old
one, proves it as a load does, and then replaces one reference. So no call waits for an update, and each call is one
version's from its start to its end.

Who calls holds a reference to the version that the call went to. The last one of an old version frees it: nothing is
counted on the way of a call, and no lock taken.

A process that makes no calls looks at nothing: its first call after an update still gets the old version.
"""

from __future__ import annotations

import _thread
import os
from _weakref import ref
from time import monotonic, sleep, time_ns

from edgec_runtime import root as root_
from edgec_runtime.engines import native
from edgec_runtime.errors import Error
from edgec_runtime.model import Model, choose
from edgec_runtime.slots import active as active_
from edgec_runtime.slots import compatible
from edgec_runtime.slots import state as state_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from edgec_runtime.model import Arrays
    from edgec_runtime.slots.active import Slot
    from edgec_runtime.slots.follow_stream import FollowedStream

    Stamp = tuple[int, int, int]  # of the state's file: inode, time of change in ns, size; zeros where it is gone

INTERVAL = 0.05  # seconds between two looks at the state
RETRY, LONGEST = 30.0, 3600.0  # seconds until a version that could not be loaded is tried again; doubled each time
FRESH = 50_000_000  # nanoseconds: two writes that are nearer to each other may bear the same time of change


class Followed(Model):
    """A `Model` of whichever version of an app is current. `info`, `inputs` and `outputs` change with it.

    `info["follow"]` is {"app", "updates": versions taken up since the load, "held": None, or the version that was not
    taken up, with the reason: {"version", "identity", "why"}}.

    Raises what `load` raises, for the first version only: one that comes later and can't be loaded is held back.
    """

    def __init__(self, app: str, *, engine: str | None, payload: str | None, threads: int | None) -> None:
        self._app, self._root = app, root_.find()
        self._wanted: dict[str, Any] = {"engine": engine, "payload": payload, "threads": threads}
        self._path = os.path.join(state_.app_folder(self._root, app), "state")
        self._lock = _thread.allocate_lock()  # guards what is below
        self._working = self.closed = False
        self._updates, self._pause = 0, RETRY
        stamp = _stamp(self._path)
        self._seen = None if _fresh(stamp) else stamp  # None: look once more
        self._slot = active_.active(app, root=self._root)
        self._again = self._probation()
        self._now = self._load(self._slot)
        self._show(self._now, None)
        self._due = monotonic() + INTERVAL
        _enlist(self)

    def run(self, feeds: Mapping[str, Any], *, out: Mapping[str, Any] | None = None) -> Arrays:
        """`Model.run`, by the current version. Buffers of `out` are bound anew where it is another than last time."""
        if monotonic() >= self._due:
            self.look()
        return self._now.run(feeds, out=out)

    def stream(
        self, state: Mapping[str, str] | None = None, *, initial: Mapping[str, Any] | None = None
    ) -> FollowedStream:
        """`Model.stream`. It stays with the version that it began with, whose state it keeps, until `reset`."""
        from edgec_runtime.slots.follow_stream import FollowedStream

        return FollowedStream(self, state, initial)

    def close(self) -> None:
        """Free the model, as `Model.close`. A version that is being loaded is freed as soon as it is."""
        with self._lock:
            self.closed = True
        self._now.close()

    @property
    def current(self) -> Model:
        """The version that a call goes to at this moment: to make several calls of one version, hold it."""
        return self._now

    def due(self) -> None:
        """`look`, where the last one is long enough ago. Costs about 50 ns where it is not."""
        if monotonic() >= self._due:
            self.look()

    def look(self) -> None:
        """See whether the state has changed, and if so, have a thread take it up. Calls do so by themselves."""
        now = monotonic()
        self._due = now + INTERVAL
        if self._working or self.closed or (_stamp(self._path) == self._seen and now < self._again):
            return
        with self._lock:
            if self._working or self.closed:
                return
            self._working = True
        from threading import Thread

        try:
            # Not a daemon: a process that ends waits for it, since an engine can't be torn down while it loads.
            Thread(target=self._take_up, name=f"edgec follows {self._app}").start()
        except BaseException as error:
            self._working = False
            if not isinstance(error, RuntimeError):  # a signal's handler raised
                raise
            self._due = now + RETRY  # no more threads, or the interpreter is ending

    def forked(self) -> None:
        """In a fork's child: a thread that was at work is not here."""
        self._lock = _thread.allocate_lock()
        self._working, self._seen = False, None

    def _take_up(self) -> None:
        """In a thread: load what a load would get now, and swap it in; or hold it back, with the reason."""
        seen = _settled(self._path)
        with _building:
            again, slot, new, held = float("inf"), None, None, None
            try:
                slot = active_.active(self._app, root=self._root)
                again = self._probation()
                if not _same(slot, self._slot):
                    why = compatible.change(self._slot.manifest, slot.manifest)
                    if why:
                        held = _held(slot, f"{why}; load the app again to use it")
                    else:
                        new = self._load(slot)
            except Exception as error:  # an adapter's own included: whatever happens here, calls go on
                held = _held(slot, f"{error.what}: {error.why}" if isinstance(error, Error) else repr(error))
                again = min(again, monotonic() + self._pause)
                self._pause = min(self._pause * 2, LONGEST)
            old = self._now  # freed by whoever lets go of it last, outside the lock
            with self._lock:
                self._seen, self._again = seen, again
                # Where the state has changed since, that may be why it failed: the next look takes up the newer one.
                if not self.closed and (held is None or seen in (_stamp(self._path), None)):
                    if new is not None and slot is not None:
                        self._updates, self._pause, self._slot = self._updates + 1, RETRY, slot
                        self._now, new = new, None
                    self._show(self._now, held)
                self._working = False
            del old
            if new is not None:
                new.close()

    def _probation(self) -> float:
        """When (`monotonic`) a version on probation is given up without a write of the state; infinity without one."""
        state = state_.read(os.path.dirname(self._path), self._app)
        if getattr(state, "phase", "none") != "probation":
            return float("inf")
        from edgec_runtime.slots import boot

        return monotonic() + max(state.until - boot.now(), INTERVAL)

    def _load(self, slot: Slot) -> Model:
        return _loaded(slot, **self._wanted)

    def _show(self, model: Model, held: Mapping[str, Any] | None) -> None:
        self.info = {**model.info, "follow": {"app": self._app, "updates": self._updates, "held": held}}
        self.inputs, self.outputs, self.others = model.inputs, model.outputs, model.others
        self._steps, self._count = model._steps, model._count


def _loaded(slot: Slot, *, engine: str | None, payload: str | None, threads: int | None) -> Model:
    """What `load` gives for this slot; what it loads later, for other sizes, is of the same slot."""
    return choose(
        slot.manifest, slot.payload, slot.info, trusted=True, engine=engine, payload=payload, threads=threads,
        check=slot.check, again=lambda name: _loaded(slot, engine=None, payload=name, threads=threads),
    )  # fmt: skip


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size


def _fresh(stamp: Stamp) -> bool:
    """Whether a file was written so recently that another write may bear the same stamp."""
    return abs(time_ns() - stamp[1]) < FRESH


def _settled(path: str) -> Stamp | None:
    """The file's stamp once it is not fresh any more; an installation writes the state several times in a row.

    None where it does not settle for a second.
    """
    for _ in range(20):
        stamp = _stamp(path)
        if not _fresh(stamp):
            return stamp
        sleep(FRESH / 1e9)
    return None


def _same(one: Slot, other: Slot) -> bool:
    return (one.info, one.store, one.manifest) == (other.info, other.store, other.manifest)


def _held(slot: Slot | None, why: str) -> dict[str, Any]:
    """A version that is not taken up; without a slot, it is not known which."""
    return {
        "version": slot.manifest["app"]["version"] if slot is not None else None,
        "identity": slot.info["identity"] if slot is not None else None,
        "why": why,
    }


# One version is loaded at a time in a process, and no fork happens meanwhile: the child would have the engine's locks
# as they were then, for ever. Reentrant, since an engine's library may be tried in a child of that very thread.
_building: Any = _thread.RLock()
_living: dict[int, Any] = {}  # id -> weak reference
_watched: list[bool] = []


def _enlist(model: Followed) -> None:
    number = id(model)
    _living[number] = ref(model, lambda _: _living.pop(number, None))
    if not _watched and hasattr(os, "register_at_fork"):
        _watched.append(True)
        native.watch()  # before ours, so that it holds the models after no version is being loaded any more
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


def _before_fork() -> None:
    _building.acquire(timeout=native.HOLD)


def _after_fork() -> None:
    if _building._is_owned():
        _building.release()


def _in_child() -> None:
    _building._at_fork_reinit()
    for living in list(_living.values()):
        model = living()
        if model is not None:
            model.forked()
