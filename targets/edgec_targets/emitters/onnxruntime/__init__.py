"""The ONNX Runtime emitter: one portable ONNX file, proven to load with the board's own settings."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING

from edgec_runtime.errors import UnsupportedError
from edgec_targets.types import Board, Built, Problem

if TYPE_CHECKING:
    import onnx_ir as ir

# What every CPU of the architecture has that the engine's wheels need: the payload itself is portable.
_BASELINE = {"aarch64": ("asimd",)}


class OnnxRuntime:
    """Implements `edgec_targets.types.Emitter`. Has no state."""

    name = "onnxruntime"
    fixed_sizes = False

    @property
    def version(self) -> str:
        """The installed engine's version: what a payload is proven with."""
        return version("onnxruntime")

    def emit(self, model: ir.Model, board: Board, *, precision: str) -> Built:
        """Write `model` as ONNX, load it with the board's settings, and say what it needs.

        The same model and versions give the same bytes. Raises UnsupportedError (E401, exit 4) naming the first node
        that the engine refuses and how many there are, or the release range that the board doesn't meet.
        """
        from edgec_targets.emitters.onnxruntime import session
        from edgec_targets.memory import estimate
        from edgec_targets.numbers import numbers

        written, held, opset, problems = _written(model, board)
        if problems:
            raise _unsupported(problems, board)
        options = session.options_of(board)
        problem = _loads(written, options)
        if problem is not None:
            raise _unsupported([problem], board)
        needed = _requirement(written, opset)
        return Built(
            engine=self.name,
            precision=precision,
            files={"model": (f"model.{precision}.onnx", written)},
            engine_version=needed or f">={self.version}",
            opset=opset,
            options=options,
            isa=_BASELINE.get(board.arch, ()),
            portable=True,
            memory=estimate(held).total,
            numbers=numbers(held),
        )

    def problems(self, model: ir.Model, board: Board) -> list[Problem]:
        """What the engine can't run, as it would be written: from the probed table, then from a real session.

        The table names every node at once; the session, asked only where the table has no objection, one.
        """
        written, _, _, problems = _written(model, board)
        if problems:
            return problems
        problem = _loads(written, {})
        return [problem] if problem is not None else []


EMITTER = OnnxRuntime()


def _written(model: ir.Model, board: Board) -> tuple[bytes, ir.Model, int, list[Problem]]:
    """The ONNX bytes, what they hold, their opset, and the table's objections to them."""
    import onnx
    import onnx_ir as ir

    from edgec_targets.emitters.onnxruntime import support
    from edgec_targets.emitters.onnxruntime.write import write

    written, opset = write(model, board)
    held = ir.from_proto(onnx.load_model_from_string(written))
    return written, held, opset, support.problems(held) + _releases(written, opset, board)


def _releases(written: bytes, opset: int, board: Board) -> list[Problem]:
    """A problem when no release that the board may have loads this opset and IR version."""
    from edgec_targets.emitters.onnxruntime import releases

    allowed = board.engines.get("onnxruntime")
    if allowed is None:
        why = f"The board file names no onnxruntime versions, only {', '.join(board.engines)}."
        return [Problem("", "", why, "Add onnxruntime to [engines] in the board's file.")]
    needed = _requirement(written, opset)
    if needed is not None and releases.overlap(allowed, needed):
        return []
    newest = releases.newest_for(allowed)
    takes = f"{newest['release']} takes opset {newest['opset']}, IR {newest['ir']}" if newest else "none was measured"
    why = f"The model needs opset {opset}, IR {_ir_version(written)}; of the board's releases ({allowed}), {takes}."
    return [Problem("", "", why, "Export the model to an older opset, or raise [engines] in a board file of your own.")]


def _requirement(written: bytes, opset: int) -> str | None:
    from edgec_targets.emitters.onnxruntime import releases

    return releases.requirement(opset, _ir_version(written))


def _ir_version(written: bytes) -> int:
    """The IR version, read off the first field (ModelProto.ir_version = 1, a varint) without parsing the weights."""
    if written[:1] == b"\x08" and written[1] < 0x80:
        return written[1]
    import onnx

    return int(onnx.load_model_from_string(written).ir_version)


def _loads(written: bytes, options: dict[str, int | bool | str]) -> Problem | None:
    """None when a real session takes the bytes; else the problem, with the node that the engine's words name."""
    from edgec_targets.emitters.onnxruntime import session

    try:
        session.open_session(written, options)
    except Exception as e:  # the engine raises a class of its own for each of its status codes
        words = re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", " ".join(str(e).split()))
        operator = re.search(r"implementation for ([\w.:]+\(\d+\))|Op \((\w+)\)|Op with name .* type \((\w+)\)", words)
        node = re.search(
            r"node with name '([^']*)'|Node \(([^)]*)\)|Node:\s?\(?([^\s)]+)\)?|In Node, \(\"([^\"]*)\"", words
        )
        return Problem(
            next((g for g in node.groups() if g), "") if node else "",
            next((g for g in operator.groups() if g), "") if operator else "",
            f"onnxruntime {version('onnxruntime')} refuses it: {words[:300]}",
            "Change the node that it names, or leave it out of the model.",
        )
    return None


def _unsupported(problems: list[Problem], board: Board) -> UnsupportedError:
    first = problems[0]
    where = f"node {first.node}" if first.node else "the model"
    more = f" (and {len(problems) - 1} more: 'edgec check' lists them)" if len(problems) > 1 else ""
    return UnsupportedError(f"board '{board.name}' can't run {where}{more}", first.why, first.fix, code="E401")
