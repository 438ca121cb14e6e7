"""A real session with a payload's options: the very settings that the runtime's adapter uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgec_targets.types import Board

if TYPE_CHECKING:
    import onnxruntime as ort


def options_of(board: Board) -> dict[str, int | bool | str]:
    """The payload's `options`: what the board says, and nothing where it leaves the engine its default."""
    wanted = {"threads": board.threads, "spinning": board.spinning, "arena": board.arena}
    return {name: value for name, value in wanted.items() if value is not None}


def session_options(options: Mapping[str, int | bool | str]) -> ort.SessionOptions:
    """ONNX Runtime's settings for `options` (see "Execution Providers / thread management" in its documentation)."""
    import onnxruntime as ort

    result = ort.SessionOptions()
    result.log_severity_level = 3
    if "threads" in options:
        result.intra_op_num_threads = int(options["threads"])
    if "spinning" in options:
        result.add_session_config_entry("session.intra_op.allow_spinning", "1" if options["spinning"] else "0")
    if "arena" in options:
        result.enable_cpu_mem_arena = bool(options["arena"])
    return result


def open_session(model: bytes | str | Path, options: Mapping[str, int | bool | str]) -> ort.InferenceSession:
    """Load `model` as a device would. Raises onnxruntime's own errors."""
    import onnxruntime as ort

    source = str(model) if isinstance(model, Path) else model
    return ort.InferenceSession(source, session_options(options), providers=["CPUExecutionProvider"])
