"""The ncnn emitter: `.param` and `.bin` written by edgec itself, each proven in ncnn before it is handed on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from edgec_runtime.errors import MissingError, UnsupportedError
from edgec_targets.types import Board, Built, Problem

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgec_targets.emitters.ncnn.conversion import Written

ENGINE_VERSION = ">=1.0.20260114,<2"
"""Releases of the package ncnn: the tests pass with those of January, May and October 2026; that of May 2025 crashes on
files that it can't take."""
_FLOAT, _HALF = "float32", "float16"
_BASELINE = {"aarch64": ("asimd",)}


class Ncnn:
    """Implements `edgec_targets.types.Emitter`. Has no state."""

    name = "ncnn"
    fixed_sizes = True
    optional = True
    precisions = (_FLOAT, _HALF)

    @property
    def version(self) -> str:
        """The installed engine's version: what a payload is proven with. Empty where there is none."""
        try:
            return version("ncnn")
        except PackageNotFoundError:
            return ""

    def emit(self, model: ir.Model, board: Board, *, precision: str) -> Built:
        """Write `model` (float32) for ncnn; weights that half precision holds exactly are stored so: a float16 form's.

        Raises UnsupportedError (E441, exit 4) that names the nodes that ncnn can't run, or says that ncnn's answers
        differ from ONNX Runtime's; MissingError (E1042, exit 10) without the engine.
        """
        from edgec_targets.emitters.ncnn.memory import needed

        if precision not in (_FLOAT, _HALF):
            problem = Problem("", "", f"ncnn payloads are float; {precision} is not.", "Use another engine's payload.")
            raise _unsupported([problem], board)
        written, problems = self._proven(model, board)
        if problems:
            raise _unsupported(problems, board)
        return Built(
            engine=self.name,
            precision=precision,
            files={
                "param": (f"model.{precision}.ncnn.param", written.param),
                "bin": (f"model.{precision}.ncnn.bin", written.bin),
                "interface": (f"model.{precision}.ncnn.json", written.interface),
            },
            engine_version=ENGINE_VERSION,
            opset=model.opset_imports.get("", 0),
            options=_options(board),
            isa=_BASELINE.get(board.arch, ()),
            portable=True,
            memory=needed(model, written),
            numbers="half" if precision == _HALF else "float32",
            package="ncnn",
        )

    def problems(self, model: ir.Model, board: Board) -> list[Problem]:
        """Every node that can't be written for ncnn, or that its answers differ; empty where the whole model runs."""
        return self._proven(model, board)[1]

    def _proven(self, model: ir.Model, board: Board) -> tuple[Written, list[Problem]]:
        from edgec_targets.emitters.ncnn.conversion import convert
        from edgec_targets.emitters.ncnn.prove import prove

        if not self.version:
            raise MissingError(
                "ncnn is not installed",
                "its payloads are proven by running them before they are handed on",
                "pip install 'edgec[ncnn]'",
                code="E1042",
            )
        release = self._release(board)
        written = convert(model)
        problems = written.problems + ([release] if release else [])
        if not problems and (problem := prove(model, written)) is not None:
            problems = [problem]
        return written, problems

    def _release(self, board: Board) -> Problem | None:
        """A problem where the board may not have the release that the payload is proven with."""
        from edgec_runtime.bundle.version import within

        allowed = board.engines.get(self.name)
        if allowed is None:
            why = f"The board file names no ncnn versions, only {', '.join(board.engines)}."
            return Problem("", "", why, 'Add ncnn = ">=1.0.20260114,<2" to [engines] in a board file of your own.')
        if within(self.version, allowed):
            return None
        why = f"The payload is proven with ncnn {self.version}; the board's releases are {allowed}."
        return Problem("", "", why, "Widen [engines] in a board file of your own, or use another engine's payload.")


EMITTER = Ncnn()


def _options(board: Board) -> dict[str, int | bool | str]:
    wanted = {"threads": board.threads, "spinning": board.spinning}
    return {name: value for name, value in wanted.items() if value is not None}


def _unsupported(problems: list[Problem], board: Board) -> UnsupportedError:
    first = problems[0]
    where = f"node {first.node} ({first.operator})" if first.operator else first.node or "the model"
    more = [f"{p.node} ({p.operator})" if p.operator else p.node for p in problems[1:4]]
    rest = len(problems) - 1 - len(more)
    also = "" if not more else f"; also {', '.join(more)}" + (f" and {rest} more" if rest else "")
    what = f"board '{board.name}' can't run {where} by ncnn{also}"
    return UnsupportedError(what, first.why, first.fix, code="E441")
