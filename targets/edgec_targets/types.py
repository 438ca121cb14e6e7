"""The words of this room: Board, Target, Built (what an emitter makes), Problem (what a board can't run)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Board:
    """A kind of hardware, read from `boards/<name>.toml`.

    `arch` is as `platform.machine()` says ("x86_64", "aarch64"); `isa` are Linux's names in /proc/cpuinfo that the
    board surely has; `memory` is in bytes; `threads` and `spinning` None means the engine's own default.
    """

    name: str
    title: str
    target: str
    arch: str
    isa: tuple[str, ...] = ()
    cpu: str = ""
    cores: int = 1
    memory: int | None = None
    os: str = ""
    glibc: str = ""
    python: str = ""
    engines: Mapping[str, str] = field(default_factory=dict)
    """engine name -> version range (PEP 440) that the board may have."""
    threads: int | None = None
    spinning: bool | None = None
    arena: bool | None = None
    source: str = ""
    """Where the facts come from (datasheet, vendor page)."""


@dataclass(frozen=True)
class Built:
    """One payload as an emitter made it: files that go into the bundle and what is needed to use them.

    `files` maps a role ("model") to (file name, bytes); `options` are the engine's settings for this board.
    `engine_version` is the range of engine versions (PEP 440) that can load it, as the manifest has it.
    `numbers` is what it computes with, which decides how near answers elsewhere must be: "float32", "half" or "int8";
    a model asked for in float32 may have come in half precision or quantized already.
    `memory` is a deterministic estimate in bytes (weights + peak of live activations), never a measurement.
    """

    engine: str
    precision: str
    files: Mapping[str, tuple[str, bytes]]
    engine_version: str
    opset: int
    options: Mapping[str, int | bool | str] = field(default_factory=dict)
    isa: tuple[str, ...] = ()
    portable: bool = True
    memory: int | None = None
    native_code: bool = False
    glibc: str = ""
    """The oldest glibc that can load its native code ("2.31"); empty where that is the engine's affair."""
    numbers: str = "float32"
    package: str = ""
    """The Python distribution that brings the engine; empty where it has the engine's name."""
    notes: tuple[str, ...] = ()
    """What the emitter has to say of this file, for the report: sentences without a full stop."""
    choices: Mapping[str, Any] | None = None
    """What was measured or counted for this file and must be said again for the same bytes: plain data for the recipe,
    for the emitter's `repeating`."""


@dataclass(frozen=True)
class Problem:
    """Something in the model that a board's engine can't run, in words for a person."""

    node: str
    operator: str
    why: str
    fix: str


class Emitter(Protocol):
    """One engine's emitter: `edgec_targets/emitters/<engine>/`. Mirrors `edgec_runtime/engines/<engine>.py`."""

    name: str
    fixed_sizes: bool
    """Whether its files take inputs of one size alone; a free size becomes 1."""
    # It may have three more. `optional = True`: nobody misses the engine where its package isn't installed, and it
    # joins where float is all that is built, or where it is named. `precisions`: those that it has payloads in.
    # `splits = True`: its adapter runs larger batches sample by sample. And where its payloads have `choices`, a method
    # `repeating(choices) -> Emitter` that makes them again.

    def emit(self, model: ir.Model, board: Board, *, precision: str) -> Built:
        """Write `model` (float or with Q/DQ) as this engine wants it. Raises UnsupportedError naming the node."""
        ...

    def problems(self, model: ir.Model, board: Board) -> list[Problem]:
        """What this engine can't run, from the probed table; empty when it can run everything."""
        ...


@dataclass(frozen=True)
class Target:
    """A family of boards: the passes it wants, its emitters in order of preference, and its legalize step."""

    name: str
    title: str
    emitters: Sequence[Emitter]
    precisions: tuple[str, ...]
    """Precisions that this family runs fast, best first."""
    passes: tuple[str, ...] | None = None
    """Names of passes (edgec.passes.NAMES); None is the default list."""
    legalize: Callable[[ir.Model, Board], ir.Model] | None = None
    rank: Callable[[Board, Sequence[Built]], Sequence[str]] | None = None
    """Engines' names for a board and its payloads of one precision, the one expected to be fastest first; None: as in
    `emitters`."""
    alike: Callable[[ir.Model], ir.Model] | None = None
    """A Q/DQ model whose integers all its engines compute to the same bits; None: as it is."""
