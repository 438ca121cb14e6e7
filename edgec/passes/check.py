"""Whether a pass kept the outputs: both models run by ONNX Runtime on real inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from edgec.errors import BadInputError, GoldenError

Array = np.ndarray[Any, Any]
Feeds = Iterable[Mapping[str, Any]]

# Largest difference a pass may make, relative to the largest magnitude of that output. A fusion changes the order of
# roundings, not the mathematics: each costs about 2^-24 in float32, and a hundred layers deep, with sums over thousands
# of terms it grows, still far below. Half precision has 11 bits, bfloat16 8.
TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 1e-2, "bfloat16": 6e-2}

# An engine's Sigmoid, Tanh, Exp are exact to so much absolute, whatever the size of the result (1 unit in the last
# place of numbers around 1 is 1.2e-7): outputs that are all near zero may move by it.
FLOOR = 1e-6

# A protobuf file ends at 2 GB; above this a model goes through a file with external data.
_MOST_PROTO = 1 << 30


def outputs_check(
    model: ir.Model | bytes | Path, feeds: Feeds, *, samples: int = 3, tolerance: float | None = None
) -> Callable[[ir.Model, str], None]:
    """Makes a check for `run`.

    Args:
        model: The float original: the bytes or file that the user gave, or an `ir.Model`, which is copied now.
        feeds: `{input name: array}`, of which the first `samples` are used.
        samples: How many feeds to run.
        tolerance: Largest difference, relative to the output's largest magnitude (plus `FLOOR`); by default what
            `TOLERANCE` says for the type.
            Integers, booleans and strings must be equal.

    Returns:
        `check(model, pass_name)`, which raises where an output moved.

    Raises:
        BadInputError: There is no feed, or onnxruntime refuses the original or the feeds.
        GoldenError: (by the check) An output moved, is gone or has another shape or type; it names the pass.
    """
    taken = [dict(feed) for feed, _ in zip(feeds, range(samples), strict=False)]
    if not taken:
        raise BadInputError(
            "The check of the passes has no inputs to run.",
            "The data set is empty.",
            "Give calibration data with at least one sample.",
        )
    try:
        names, expected = _run(model, taken)
    except Exception as error:
        raise BadInputError(
            f"onnxruntime can't run the original model on these inputs: {error}",
            "The check of the passes compares with the original.",
            "Look at the names, shapes and types of the inputs.",
        ) from error

    def check(changed: ir.Model, pass_name: str) -> None:
        try:
            new_names, outputs = _run(changed, taken)
        except Exception as error:
            raise _moved(pass_name, f"the model no longer runs: {error}") from error
        if new_names != names:
            raise _moved(pass_name, f"its outputs are {new_names}, not {names}")
        for before, after in zip(expected, outputs, strict=True):
            for name, a, b in zip(names, before, after, strict=True):
                if why := difference(a, b, tolerance):
                    raise _moved(pass_name, f"output {name!r} {why}")

    return check


def difference(expected: Any, got: Any, tolerance: float | None = None) -> str:
    """How `got` differs from `expected` beyond the tolerance, in words, or "" where it does not."""
    if isinstance(expected, list | tuple):
        if not isinstance(got, list | tuple) or len(got) != len(expected):
            return "is a sequence of another length"
        return next((why for a, b in zip(expected, got, strict=True) if (why := difference(a, b, tolerance))), "")
    if not isinstance(expected, np.ndarray):
        return "" if type(expected) is type(got) and expected == got else "is something else"
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return f"is {got.dtype}{list(got.shape)}, not {expected.dtype}{list(expected.shape)}"
    bound = TOLERANCE.get(expected.dtype.name)
    if bound is None and expected.dtype.name.startswith("float"):  # float8 and narrower: NaN is a bit pattern
        expected, got = expected.view(np.uint8), got.view(np.uint8)
    if bound is None:
        same = np.array_equal(expected, got)
        return "" if same else f"has {int(np.sum(expected != got))} other elements of {expected.size}"
    a, b = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return "has infinities or NaN in other places"
    if not finite.any():
        return ""
    moved = float(np.abs(a[finite] - b[finite]).max())
    allowed = (bound if tolerance is None else tolerance) * float(np.abs(a[finite]).max()) + FLOOR
    return "" if moved <= allowed else f"moved by {moved:.3g}, more than {allowed:.3g}"


def _moved(pass_name: str, how: str) -> GoldenError:
    return GoldenError(
        f"The pass '{pass_name}' changed the model's answers: {how}.",
        "Every pass must keep the outputs up to rounding.",
        f"Leave this pass out, and report it: it is a defect of edgec. ({pass_name})",
        code="E610",
    )


def _run(model: ir.Model | bytes | Path, feeds: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    import onnxruntime

    ort: Any = onnxruntime

    options = ort.SessionOptions()
    options.log_severity_level = 4
    # What is compared is what the pass did, not what the engine's own optimizer makes of it.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL

    def session(source: Any) -> Any:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    if isinstance(model, ir.Model):
        if sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value) > _MOST_PROTO:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model.onnx")
                ir.save(model, path, external_data="model.data")
                return _outputs(session(str(path)), feeds)
        proto: onnx.ModelProto = ir.to_proto(model)
        return _outputs(session(proto.SerializeToString()), feeds)
    return _outputs(session(model if isinstance(model, bytes) else str(model)), feeds)


def _outputs(session: Any, feeds: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    return [o.name for o in session.get_outputs()], [session.run(None, feed) for feed in feeds]
