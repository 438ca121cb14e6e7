"""A payload on this machine: loaded by the very adapter that a device uses, from the artifact's own bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.errors import MissingError, UnsupportedError
from edgec.measure.accuracy import Run
from edgec_runtime import engines
from edgec_runtime.payload import Payload
from edgec_targets.types import Built


class BuiltPayload(Payload):
    """A payload that is not in a bundle yet."""

    def __init__(self, built: Built) -> None:
        super().__init__({"files": {role: name for role, (name, _) in built.files.items()}})
        self._content = {role: content for role, (_, content) in built.files.items()}

    def path(self, role: str) -> None:
        """None: it is in memory."""

    def buffer(self, role: str) -> bytes:
        """The file's bytes."""
        return self._content[role]

    def close(self) -> None:
        """Nothing to let go of."""


@contextmanager
def executable(built: Built) -> Iterator[Run]:
    """`run(feed) -> [outputs]` of a payload, with this machine's own number of threads.

    Raises UnsupportedError where the engine refuses it; `run` for sizes that a payload of batch one leaves to others.
    """
    own = {"threads", "spinning", "arena"}  # the board's settings say nothing about this machine
    engine = engines.find(built.engine)
    if engine is None:
        raise MissingError(
            f"the engine '{built.engine}' has no adapter here", fix="Install the package that brings it."
        )
    loaded = engine.load(BuiltPayload(built), {k: v for k, v in built.options.items() if k not in own})
    names = [tensor.name for tensor in loaded.outputs]

    one = {t.name: t.shape for t in loaded.inputs} if built.options.get("batch") == "one" else {}

    def run(feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        for name, shape in one.items():
            if feed[name].shape != shape:
                what = f"'{name}' is {list(feed[name].shape)}; the file takes {list(shape or ())} alone"
                raise UnsupportedError(f"{built.engine} can't be measured on these inputs", what, code="E404")
        # np.ascontiguousarray would make a scalar rank 1.
        return loaded.run(names, {k: v if v.flags.c_contiguous else np.array(v, order="C") for k, v in feed.items()})

    try:
        yield run
    finally:
        loaded.close()
