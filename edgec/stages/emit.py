"""Candidates: every precision that may be chosen, for every board, by every engine of its target that can."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from edgec.errors import MissingError, UnsupportedError, UsageError
from edgec.measure.machine import this_machine
from edgec.quantize import portable
from edgec.stages.batch import ALONE, SPLIT, UNKNOWN
from edgec.stages.boards import Kind
from edgec_targets import profiles
from edgec_targets.profiles import Estimate
from edgec_targets.types import Board, Built, Emitter

_BATCH = {SPLIT: "split", ALONE: "one"}
"""The option of a payload of batch one: how a device runs other batches."""


@dataclass(frozen=True)
class Candidate:
    """One payload that could ship for a board.

    Attributes:
        kind: the board and its target.
        built: what the emitter made.
        name: its precision, or the variant of it.
        judge: what it is held against where its model is not the first engine's: that model by the first engine.
        predicted: what an inference is expected to take there, by the profile of engine and cores; None without one.
    """

    kind: Kind
    built: Built
    name: str
    predicted: Estimate | None = None
    judge: Built | None = None

    @property
    def precision(self) -> str:
        """As `--precision` names it."""
        return self.built.precision

    @property
    def engine(self) -> str:
        """Who runs it."""
        return self.built.engine

    @property
    def runs_here(self) -> bool:
        """Whether this machine can run it: machine code of another architecture can't."""
        return not self.built.native_code or self.kind.board.arch == this_machine().arch

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(len(content) for _, content in self.built.files.values())

    @property
    def digest(self) -> str:
        """SHA-256 of its files' bytes: candidates of several boards often are the same file."""
        h = hashlib.sha256()
        for role, (_, content) in sorted(self.built.files.items()):
            h.update(f"{role}\0{len(content)}\0".encode() + content)
        return h.hexdigest()


@dataclass
class Emitted:
    """A board's candidates in order of preference, and why engines that it may have could not write some."""

    candidates: list[Candidate] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def emit(
    models: Mapping[str, ir.Model],
    kind: Kind,
    precisions: Sequence[str],
    engines: Collection[str] = (),
    *,
    batch: str = UNKNOWN,
    own: Mapping[str, ir.Model] | None = None,
    choices: Mapping[str, Any] | None = None,
) -> Emitted:
    """Emit `models[precision]` for a board in each of `precisions`; seven-bit variants only where CPUs may saturate.

    Every engine that the board may have, of `engines` where some are named, writes its payload; one that can't is left
    out with its reason, as long as another can. On a machine that saturates itself, eight-bit weights can't be proven
    for such boards: they get seven bits alone.

    Args:
        models: by precision, and the variant with seven-bit weights.
        kind: the board and its target.
        precisions: in the order in which they are preferred.
        engines: of these alone; empty for all.
        batch: what the model does with several samples (`batch.kind`): whether a file of batch one will do.
        own: engine -> its int8 model, where that is not `models["int8"]`.
        choices: "engine-precision-board" -> what a recipe says was chosen.

    Raises:
        UnsupportedError: no engine can write a precision; each one's refusal is listed (exit 4).
        UsageError: `engines` names none that the board may have.
    """
    made = Emitted()
    board = kind.board
    saturates = portable.may_saturate(board.arch, board.isa)
    unproven = saturates and portable.NARROW in models and not this_machine().exact_int8
    for precision in precisions:
        if precision == portable.NARROW and (not saturates or unproven or (engines and portable.ENGINE not in engines)):
            continue
        source = portable.NARROW if precision == "int8" and unproven else precision
        given = dict(own or {}) if source == "int8" else {}
        legal = {name: _legal(kind, its) for name, its in given.items()}
        shared = _legal(kind, models[source])
        first = legal.get(portable.ENGINE, shared)
        refusals: list[UnsupportedError | MissingError] = []
        found: list[Candidate] = []
        emitters = _emitters(kind, precision, engines, alone=list(precisions) == ["float32"])
        for emitter in emitters:
            model = legal.get(emitter.name, shared)
            try:
                serves = batch if _splits(model, emitter) else UNKNOWN
                if serves == UNKNOWN:
                    _sizes(model, emitter, engines)
                plain = "int8" if precision == portable.NARROW else precision
                chosen = (choices or {}).get(f"{emitter.name}-{precision}-{board.name}")
                if chosen is not None:
                    emitter = emitter.repeating(chosen)  # type: ignore[attr-defined]
                built = emitter.emit(model, board, precision=plain)
                if serves in _BATCH:
                    built = replace(built, options={**built.options, "batch": _BATCH[serves]})
                built = _conditions(built, source, board)
                judge = None if model is first else _by_first(kind, model, precision)
                found.append(Candidate(kind, built, precision, profiles.estimate(built, board), judge))
            except (UnsupportedError, MissingError) as e:
                refusals.append(e)
                made.refused[f"{emitter.name}-{precision}"] = "; ".join(
                    part.rstrip(".") for part in (e.what, e.why, e.fix) if part
                )
        if not emitters:  # those that were named are for other precisions
            made.refused |= {f"{name}-{precision}": f"{name} has no payloads in {precision}" for name in engines}
            continue
        if not found:
            raise _none(kind.board.name, precision, refusals)
        made.candidates += _ranked(kind, found)
    if not made.candidates:
        raise UnsupportedError(
            f"no payload for {board.name} in {' or '.join(precisions)}",
            "; ".join(made.refused.values()),
            "Ask for a precision that the engine has (--precision float32), or leave out --engine.",
            code="E405",
        )
    return made


def _legal(kind: Kind, model: ir.Model) -> ir.Model:
    return model if kind.target.legalize is None else kind.target.legalize(model.clone(), kind.board)


def _by_first(kind: Kind, model: ir.Model, precision: str) -> Built | None:
    """A model by the engine whose arithmetic others are held against; None where the target has no such engine."""
    emitter = next((e for e in kind.target.emitters if e.name == portable.ENGINE), None)
    return None if emitter is None else emitter.emit(model, kind.board, precision=precision)


def _ranked(kind: Kind, found: Sequence[Candidate]) -> list[Candidate]:
    """In the order in which the target expects its engines to win; without one in the emitters'."""
    if kind.target.rank is None:
        return list(found)
    order = list(kind.target.rank(kind.board, [candidate.built for candidate in found]))
    return sorted(found, key=lambda c: order.index(c.engine) if c.engine in order else len(order))


def _splits(model: ir.Model, emitter: Emitter) -> bool:
    """Whether an engine's files are of batch one, its adapter splits batches, and the batch is all that is free."""
    if not emitter.fixed_sizes or not getattr(emitter, "splits", False):
        return False
    shapes = [v.shape or () for v in model.graph.inputs if v.name not in model.graph.initializers]
    free = [s for s in shapes if any(not isinstance(d, int) for d in s)]
    return bool(free) and all(isinstance(d, int) for s in free for d in list(s)[1:])


def fits(model: ir.Model, emitter: Emitter, engines: Collection[str], batch: str) -> bool:
    """Whether the sizes that a model leaves free are no obstacle to an engine's payload, as `emit` judges it."""
    if _splits(model, emitter) and batch != UNKNOWN:
        return True
    try:
        _sizes(model, emitter, engines)
    except UnsupportedError:
        return False
    return True


def _sizes(model: ir.Model, emitter: Emitter, engines: Collection[str]) -> None:
    """Raise UnsupportedError where an engine would fix a size that the model leaves free and nobody asked for it."""
    if not emitter.fixed_sizes or emitter.name in engines:
        return
    for value in model.graph.inputs:
        free = [d for d in value.shape or () if not isinstance(d, int)]
        if free and value.name not in model.graph.initializers:
            sizes = ",".join(str(d) if isinstance(d, int) else "1" for d in value.shape or ())
            raise UnsupportedError(
                f"{emitter.name} can't take inputs of a free size",
                f"its file has one size, and '{value.name}' leaves {len(free)} free",
                f"Add --shape {value.name}={sizes} (your sizes), or --engine {emitter.name} to take 1.",
                code="E404",
            )


def _emitters(kind: Kind, precision: str, engines: Collection[str], *, alone: bool) -> list[Emitter]:
    """Those whose engines the board may have, in the target's order. Variants are one engine's alone.

    Optional engines join where they are named, or where theirs is the only precision (`alone`) and they are installed:
    beside integers a float payload of theirs is rarely what ships, and some take a minute to make.
    """
    if precision == portable.NARROW:
        return [emitter for emitter in kind.target.emitters if emitter.name == portable.ENGINE]
    able = [e for e in kind.target.emitters if e.name in kind.board.engines]
    if engines:
        able = [e for e in able if e.name in engines]
    else:
        able = [e for e in able if not getattr(e, "optional", False) or (alone and bool(getattr(e, "version", "")))]
    if engines and not able:
        have = ", ".join(e.name for e in kind.target.emitters if e.name in kind.board.engines)
        raise UsageError(
            f"{kind.board.name} has no engine called {' or '.join(sorted(engines))}",
            f"It may have {have}.",
            "Name one of these with --engine, or leave it out.",
        )
    takes = [e for e in able if precision in (getattr(e, "precisions", None) or (precision,))]
    return takes if able else list(kind.target.emitters)


def _none(board: str, precision: str, refusals: Sequence[UnsupportedError | MissingError]) -> Exception:
    unsupported = [e for e in refusals if isinstance(e, UnsupportedError)]
    if len(refusals) == 1 or len(unsupported) == 1:
        return unsupported[0] if unsupported else refusals[0]
    return UnsupportedError(
        f"no engine of {board} can run this model in {precision}",
        "; ".join(f"{e.what} ({e.why})" if e.why else e.what for e in refusals),
        f"edgec check MODEL -t {board} names the nodes.",
    )


def _conditions(built: Built, source: str, board: Board) -> Built:
    """What the CPU must have for a payload's answers to be those that were proven; files named after the variant."""
    if source == portable.NARROW:
        files = {role: (name.replace("int8", source), content) for role, (name, content) in built.files.items()}
        return replace(built, files=files)
    eight = built.precision == "int8" or (
        built.precision == "int8-dynamic" and not portable.may_saturate(board.arch, board.isa)
    )  # where it may saturate, the dynamic form has seven bits
    if eight and board.arch == "x86_64" and built.engine == portable.ENGINE:
        feature = next((f for f in portable.EXACT if f in board.isa), portable.EXACT[0])
        return replace(built, isa=(*built.isa, feature))
    return built
