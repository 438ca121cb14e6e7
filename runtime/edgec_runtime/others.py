"""Sizes that a payload's file does not take: another payload of the same bundle, loaded when first needed.

For payloads whose option "batch" is "one": the model's batch is free, the file's is one, and samples in a batch touch
each other, so that they can't be run one by one.
"""

from __future__ import annotations

import _thread

from edgec_runtime.errors import BadInputError, Error, TrustError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from edgec_runtime.engines.base import Executable
    from edgec_runtime.model import Model


class Others:
    """The payloads after one of batch one, by id, and the first of them that loads."""

    def __init__(
        self, executable: Executable, payload: str, names: Sequence[str], load: Callable[[str], Model], identity: Any
    ) -> None:
        self._sizes = [(tensor.name, tensor.shape) for tensor in executable.inputs]
        self._payload, self._names, self._load, self._identity = payload, names, load, identity
        self._lock = _thread.allocate_lock()
        self._model: Model | None = None

    def wanted(self, feeds: Mapping[str, Any]) -> bool:
        """Whether these checked feeds have other sizes than the payload's own."""
        return any(feeds[name].shape != shape for name, shape in self._sizes)

    def run(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None) -> dict[str, Any]:
        """Their answers by the other payload. Raises BadInputError (E911) where none can be used."""
        with self._lock:
            if self._model is None:
                self._model = self._first(feeds)
        return self._model.run(feeds, out=out)

    def close(self) -> None:
        """Free the other payload."""
        with self._lock:
            if self._model is not None:
                self._model.close()

    def _first(self, feeds: Mapping[str, Any]) -> Model:
        refused = []
        for name in self._names:
            try:
                model = self._load(name)
            except TrustError:
                raise
            except Error as error:
                refused.append(f"{name}: {error.what}")
                continue
            if model.info["identity"] != self._identity:
                model.close()
                raise TrustError(
                    "the bundle is not the one that was loaded",
                    "it was replaced in the meantime, and another payload of it is needed for these sizes",
                    "load the model again",
                )
            return model
        have, own = next(
            (f"{name!r} is {list(feeds[name].shape)}", list(shape or ()))
            for name, shape in self._sizes
            if feeds[name].shape != shape
        )
        raise BadInputError(
            f"the input {have}; {self._payload} takes {own}",
            "; ".join(refused) or "the bundle has no other payload for this machine",
            "give it as that, or install the engine of another payload",
            code="E911",
        )
