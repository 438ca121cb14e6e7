"""An engine that can be called in two ways: its C library directly, or its Python package.

Directly first: that takes a fraction of the instructions and of the memory to load, and no numpy. Where the process has
imported the package `onnxruntime` already, its library is in memory with it, so the package comes first. What one way
refuses, the other may take: the C way knows plain numbers only.
"""

from __future__ import annotations

import sys

from edgec_runtime.bundle import version
from edgec_runtime.engines import base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from edgec_runtime.engines.library import Library
    from edgec_runtime.payload import Payload


class Choice(base.Engine):
    """The two ways as one engine. `uses_numpy` is the way's that loaded last."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.uses_numpy = None
        self._makers = [_litert, _litert_package] if name == "litert" else [_onnxruntime, _onnxruntime_package]
        if name in sys.modules:
            self._makers.reverse()
        self._ways: list[base.Engine] = []
        self._taken: base.Engine | None = None

    def version(self) -> str | None:
        """Of the way that loaded, or the first that is there."""
        ways = [self._taken] if self._taken else self._each()
        return next((found for way in ways if (found := way.version()) is not None), None)

    def library(self) -> Library | None:
        """The library that the way which loaded calls, or that the first would."""
        way = self._taken or next((way for way in self._each() if way.version() is not None), None)
        return way.library() if way else None

    def load(self, payload: Payload, options: Mapping[str, Any]) -> base.Executable:
        """By the first way whose version fits and that takes the payload. Raises the first way's RefusedError.

        The option "batch" is for all ways: "split" runs a batch sample by sample (`split`); "one" leaves batches to
        another payload (`edgec_runtime.others`).
        """
        batch, options = options.get("batch"), {key: value for key, value in options.items() if key != "batch"}
        if batch not in (None, "split", "one"):
            raise base.RefusedError(f"the option batch = {batch!r} is not known", "", "update edgec-runtime")
        wanted = payload.entry.get("engine_version", "")
        first: base.RefusedError | None = None
        for way in self._each():
            have = way.version()
            if have is None or not version.within(have, wanted):
                continue
            try:
                executable = way.load(payload, options)
            except base.RefusedError as error:
                first = first or error
                continue
            self._taken, self.uses_numpy = way, way.uses_numpy
            if batch == "split":
                from edgec_runtime.engines import split

                executable = split.Executable(executable)
            return executable
        raise first or base.RefusedError(f"no {self.name} in the range {wanted} is installed")

    def _each(self) -> Iterator[base.Engine]:
        """The ways, each made (and with it, looked for) when its turn comes."""
        for place, make in enumerate(self._makers):
            if place == len(self._ways):
                self._ways.append(make())
            yield self._ways[place]


def _litert() -> base.Engine:
    from edgec_runtime.engines.litert_capi import Engine

    return Engine()


def _litert_package() -> base.Engine:
    from edgec_runtime.engines.litert_package import Engine

    return Engine()


def _onnxruntime() -> base.Engine:
    from edgec_runtime.engines.onnxruntime_capi import Engine

    return Engine()


def _onnxruntime_package() -> base.Engine:
    from edgec_runtime.engines.onnxruntime import Engine

    return Engine()
