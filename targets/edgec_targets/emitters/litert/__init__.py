"""The LiteRT emitter: one TFLite file, written by edgec itself, whose integers are the model's own, bit for bit."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from edgec_runtime.errors import MissingError, UnsupportedError
from edgec_targets.types import Board, Built, Problem

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgec_targets.emitters.litert.conversion import Written

ENGINE_VERSION = ">=2.3,<3"
"""Releases of ai-edge-litert: what it is proven with, and later ones of the same major version."""
_HALF = "float16"
_BASELINE = {"aarch64": ("asimd",)}


def write(model: ir.Model, *, half: bool = False, exact: bool = False, dot: bool = True) -> bytes:
    """The bytes of a TFLite file that computes what `model` (float, or with Q/DQ) computes.

    Inputs and outputs keep their names, order, types and ONNX's layout; a symbolic first dimension becomes 1.
    `half` stores float weights as float16. `exact` keeps integers equal to ONNX Runtime's even where that takes longer.
    `dot` writes for CPUs with 8-bit dot products, whose kernels want another first layer (`stems`).
    The same model gives the same bytes.

    Raises:
        UnsupportedError: E431, exit 4; names the nodes that TFLite can't express, and why.
        MissingError: E1040, exit 10: ai-edge-litert isn't installed.
    """
    return _written(model, half=half, exact=exact, dot=dot)[0]


def _written(model: ir.Model, **how: bool) -> tuple[bytes, Written]:
    from edgec_targets.emitters.litert.conversion import convert

    written = convert(model, **how)
    if written.data is None:
        raise _unsupported(written.problems, "LiteRT")
    return written.data, written


def alike(model: ir.Model) -> ir.Model:
    """`harmonize` for a target: the model as it is without ai-edge-litert, since nothing is written for it then."""
    try:
        return harmonize(model)[0]
    except MissingError:
        return model


def harmonize(model: ir.Model) -> tuple[ir.Model, dict[str, int]]:
    """A Q/DQ model whose integer additions LiteRT and ONNX Runtime compute alike, see `harmony`.

    For the payloads of both engines to be made from. Raises MissingError (E1040) without ai-edge-litert.
    """
    from edgec_targets.emitters.litert import harmony

    return harmony.harmonize(model)


class LiteRT:
    """Implements `edgec_targets.types.Emitter`. Has no state."""

    name = "litert"
    fixed_sizes = True
    splits = True  # its adapter runs a batch sample by sample

    @property
    def version(self) -> str:
        """The installed engine's version: what a payload is proven with. Empty where there is none."""
        try:
            return version("ai-edge-litert")
        except PackageNotFoundError:
            return ""

    def emit(self, model: ir.Model, board: Board, *, precision: str) -> Built:
        """Write `model` as TFLite; with precision "float16" its float weights are stored in half precision.

        Raises UnsupportedError (E431, exit 4) that names the nodes, MissingError (E1040, exit 10) without the engine.
        """
        from edgec_targets.emitters.litert.prove import loads
        from edgec_targets.numbers import numbers

        data, written = _written(model, half=precision == _HALF, dot=_dot(board))
        problem = self._release(board) or loads(data)
        if problem is not None:
            raise _unsupported([problem], f"board '{board.name}'")
        return Built(
            engine=self.name,
            precision=precision,
            files={"model": (f"model.{precision}.tflite", data)},
            engine_version=ENGINE_VERSION,
            opset=model.opset_imports.get("", 0),
            options={} if board.threads is None else {"threads": board.threads},
            isa=_BASELINE.get(board.arch, ()),
            portable=True,
            memory=written.memory,
            numbers="half" if precision == _HALF else numbers(model),
            package="ai-edge-litert",
            notes=written.told(),
        )

    def problems(self, model: ir.Model, board: Board) -> list[Problem]:
        """Every node that can't be written as TFLite; empty where the whole model can."""
        from edgec_targets.emitters.litert.conversion import convert
        from edgec_targets.emitters.litert.prove import loads

        written = convert(model, dot=_dot(board))
        if written.data is None:
            return written.problems
        problem = self._release(board) or loads(written.data)
        return [] if problem is None else [problem]

    def _release(self, board: Board) -> Problem | None:
        """A problem where the board may not have the release that the payload is proven with."""
        from edgec_runtime.bundle.version import within

        allowed = board.engines.get(self.name)
        if allowed is None:
            why = f"The board file names no litert versions, only {', '.join(board.engines)}."
            return Problem("", "", why, "Add litert to [engines] in the board's file.")
        if not self.version or within(self.version, allowed):
            return None
        why = f"The payload is proven with ai-edge-litert {self.version}; the board's releases are {allowed}."
        return Problem("", "", why, "Widen [engines] in a board file of your own, or use the onnxruntime payload.")


EMITTER = LiteRT()


def _dot(board: Board) -> bool:
    """Whether the board's kernels take 8-bit integers by groups: dot products on ARM; those of x86 always do."""
    return board.arch != "aarch64" or "asimddp" in board.isa


def _unsupported(problems: list[Problem], who: str) -> UnsupportedError:
    first = problems[0]
    where = f"node {first.node} ({first.operator})" if first.operator else first.node or "the model"
    more = [f"{p.node} ({p.operator})" for p in problems[1:4]]
    rest = len(problems) - 1 - len(more)
    also = "" if not more else f"; also {', '.join(more)}" + (f" and {rest} more" if rest else "")
    return UnsupportedError(f"{who} can't run {where} in TFLite's format{also}", first.why, first.fix, code="E431")
