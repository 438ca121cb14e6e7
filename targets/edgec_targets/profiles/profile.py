"""One engine's kernels on one class of cores, as coefficients: what a file takes, and the layers it is made of."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgec_targets.profiles import nodes
from edgec_targets.profiles.features import Tile, features
from edgec_targets.profiles.work import Work

if TYPE_CHECKING:
    import onnx_ir as ir

_LIKE = "relu float"
"""What an operator without coefficients of its own is taken for: one that reads and writes each element once."""


@dataclass(frozen=True)
class Estimate:
    """What a file is expected to take.

    Attributes:
        amount: of one inference, in `unit`.
        unit: "instructions" or "ns".
        core: the class of cores.
        guessed: operators that the profile has not counted, taken for the simplest.
    """

    amount: float
    unit: str
    core: str
    guessed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For report.json."""
        made: dict[str, Any] = {self.unit: round(self.amount), "core": self.core}
        return {**made, "guessed": list(self.guessed)} if self.guessed else made


@dataclass(frozen=True)
class Cost:
    """A layer in float and in integers, in the profile's unit."""

    in_float: float
    in_integer: float


@dataclass(frozen=True)
class Profile:
    """Formulas of an engine's kernels on a class of cores.

    Attributes:
        engine: its name.
        core: the class of cores (`profiles.CORES`).
        unit: "instructions" or "ns" (nanoseconds of one thread).
        versions: of engine, emulator and probes.
        error: relative error on the probes, 90th percentile.
        tiles: what a kind of product computes at once.
        coefficients: feature -> amount.
    """

    engine: str
    core: str
    unit: str
    versions: Mapping[str, str]
    error: float
    tiles: Mapping[str, Tile]
    coefficients: Mapping[str, float]
    _known: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Profile:
        """As `data/*.json` hold it. Raises KeyError where something is missing."""
        coefficients = {
            f"{name} {feature}": float(amount)
            for name, several in values["kernels"].items()
            for feature, amount in several.items()
        }
        tiles = {name: (int(t[0]), int(t[1]), int(t[2])) for name, t in values["tiles"].items()}
        return cls(
            values["engine"], values["core"], values["unit"], values["versions"], float(values["error"]), tiles,
            coefficients, frozenset(values["kernels"]),
        )  # fmt: skip

    def knows(self, name: str) -> bool:
        """Whether a kind of work (`Work.name`) was counted."""
        return name in self._known

    def work(self, work: Work) -> float:
        """What a kernel takes."""
        if not self.knows(work.name):
            if work.numbers != "float" and self.knows(f"{work.kind} float"):
                work = Work(
                    work.kind, "float", work.m, work.n, work.k, work.taps, work.groups, work.lines, work.gathered
                )
            else:
                work = Work(*_LIKE.split(), work.m, work.n)  # type: ignore[call-arg, arg-type]
        return sum(self.coefficients.get(name, 0.0) * n for name, n in features(work, self.tiles).items())

    def total(self, work: Iterable[Work]) -> Estimate:
        """What all kernels of a file take, one after the other."""
        several = list(work)
        guessed = sorted({one.name for one in several if not self.knows(one.name)})
        return Estimate(sum(map(self.work, several)), self.unit, self.core, tuple(guessed))

    def payload(self, content: bytes) -> Estimate:
        """What one inference by a payload's file takes. Raises what the readers of the file raise."""
        return self.total(_read(self.engine, content))

    def node_cost(self, node: ir.Node) -> Cost:
        """What a node of a float model takes in float and in integers, conversions apart."""
        reader = nodes.LITERT if self.engine == "litert" else nodes.ONNXRUNTIME
        return Cost(*(sum(map(self.work, reader.work(node, integer))) for integer in (False, True)))

    def to_integer(self, value: ir.Value) -> float:
        """What quantizing a float value takes."""
        reader = nodes.LITERT if self.engine == "litert" else nodes.ONNXRUNTIME
        return sum(map(self.work, reader.to_integer(value)))

    def to_float(self, value: ir.Value) -> float:
        """What dequantizing a value takes, and what float would have joined to the layer that made it."""
        reader = nodes.LITERT if self.engine == "litert" else nodes.ONNXRUNTIME
        return sum(map(self.work, reader.to_float(value)))


_HELD: OrderedDict[tuple[str, bytes], list[Work]] = OrderedDict()
_MOST = 16


def _read(engine: str, content: bytes) -> list[Work]:
    """The work of a file; boards often share one."""
    from edgec_targets.profiles import onnx_file, tflite

    key = engine, hashlib.sha256(content).digest()
    if key not in _HELD:
        _HELD[key] = (tflite if engine == "litert" else onnx_file).work(content)
        while len(_HELD) > _MOST:
            _HELD.popitem(last=False)
    return _HELD[key]
