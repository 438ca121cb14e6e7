"""Runs trials: those that the store has are not run again, the others go to the workers and into the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from edgec.executors import Workers
from edgec.quantize.search.store import Store, code, digest


@dataclass(frozen=True)
class Trial:
    """One call of an importable function.

    Attributes:
        kind: what it is, for counts.
        key: what decides its result: plain values and digests of content.
        function: importable by the workers.
        arguments: of the call; handles of shared content, plain values.
    """

    kind: str
    key: Mapping[str, Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Its key in the store: with the code that runs it."""
        return digest({"kind": self.kind, "code": code(), **self.key})


@dataclass
class Lab:
    """Where trials are run and kept.

    Attributes:
        workers: who runs them.
        store: who keeps them.
        ran: trials run, by kind.
        reused: trials that the store had from elsewhere, by kind.
    """

    workers: Workers
    store: Store
    ran: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)

    def run(self, trials: Sequence[Trial], step: Callable[[int], None] = lambda n: None) -> list[Any]:
        """Their results, in the order given, whatever the order in which they finish.

        A trial that gives (value, bytes) has its bytes kept beside the value; `model` gives them out.
        """
        results: dict[str, Any] = {}
        waiting: dict[Future[Any], Trial] = {}
        for trial in trials:
            name = trial.name
            asked_before = name in self._names
            self._names.add(name)
            if name in results or any(t.name == name for t in waiting.values()):
                continue
            kept = self.store.get(name)
            if kept is not None:
                results[name] = kept
                if not asked_before:
                    self.reused[trial.kind] = self.reused.get(trial.kind, 0) + 1
                step(1)
            else:
                waiting[self.workers.executor.submit(trial.function, *trial.arguments)] = trial
        try:
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    trial = waiting.pop(future)
                    results[trial.name] = self._keep(trial, future.result())
                    step(1)
        finally:
            for future in waiting:
                future.cancel()
        return [results[trial.name] for trial in trials]

    def model(self, trial: Trial, *, exact: bool = False) -> bytes:
        """The bytes that a trial made: kept, or made again.

        Args:
            trial: one that gives (value, bytes).
            exact: what this very machine makes of it.
        """
        content = self.store.model(trial.name)
        if content is None or (exact and not self.workers.here):
            value, content = trial.function(*(self._local(a) for a in trial.arguments))
            if not exact:
                self._keep(trial, (value, content))
        assert isinstance(content, bytes)
        return content

    def finish(self) -> None:
        """The search is over: its models needn't be kept any more."""
        self.store.forget(sorted(self._names))

    def remember(self, trial: Trial, value: Any) -> Any:
        """Keep the value of a trial that this process made itself."""
        return self._keep(trial, value)

    def shared(self, data: bytes) -> Any:
        """Content for the workers, put there once."""
        if id(data) not in self._handles:
            handle = self.workers.share(data)
            self._handles[id(data)] = (handle, data)
            self._contents[id(handle)] = (handle, data)
        return self._handles[id(data)][0]

    def _keep(self, trial: Trial, value: Any) -> Any:
        name = trial.name
        if isinstance(value, tuple):
            value, content = value
            self.store.put_model(name, content)
        self.store.put(name, trial.kind, value)
        self.ran[trial.kind] = self.ran.get(trial.kind, 0) + 1
        return value

    def _local(self, argument: Any) -> Any:
        """What a handle stands for, where this process makes the call."""
        return self._contents.get(id(argument), (argument, argument))[1]

    def __post_init__(self) -> None:
        self._names: set[str] = set()
        self._handles: dict[int, tuple[Any, bytes]] = {}
        self._contents: dict[int, tuple[Any, bytes]] = {}
