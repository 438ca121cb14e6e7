"""How good a payload is: run by the device's own engine adapter on the artifact's own bytes.

With evaluation data the user's metric decides; without, likeness to the float model by the measures that fit its
outputs (`edgec.data.likeness`) and output SQNR on the calibration inputs. The float value is measured on the
model as the user gave it, before any pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.data import Evaluation, Score, likeness, sqnr_db
from edgec.data.metrics import reported_db

Feed = Mapping[str, NDArray[Any]]
Run = Callable[[Feed], list[NDArray[Any]]]
SAMPLES = 256  # inputs on which agreement is taken where there is no evaluation data
MOST_BYTES = 64 << 20  # of outputs that are kept for it


@dataclass(frozen=True)
class Accuracy:
    """`value` and `float_value` of `metric` over `n` samples; `sqnr` in dB over the calibration inputs, or None."""

    metric: str
    value: float
    float_value: float
    n: int
    sqnr: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """As the manifest holds it (the SQNR stands in the report)."""
        return {"metric": self.metric, "value": self.value, "float_value": self.float_value, "n": self.n}


def original(model: bytes | Path) -> Run:
    """The float model as the user gave it, through plain onnxruntime."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what goes wrong comes as an exception
    session = onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), settings, providers=["CPUExecutionProvider"]
    )
    return lambda feed: list(session.run(None, dict(feed)))  # type: ignore[arg-type]  # tensors: others can't be compiled


class Yardstick:
    """The float model's answers, taken once; `measure` holds any number of payloads against them.

    Inputs are streamed from the data set each time: of them only the outputs are kept, up to `MOST_BYTES`.
    """

    def __init__(self, reference: Run, evaluation: Evaluation | None, calibration: Iterable[Feed] | None) -> None:
        self.reference, self.evaluation, self.calibration = reference, evaluation, calibration
        self._score: Score | None = None
        self._outputs: list[list[NDArray[Any]]] = []

    @property
    def usable(self) -> bool:
        """Whether there is anything to measure with."""
        return self.evaluation is not None or self.calibration is not None

    def outputs(self) -> list[list[NDArray[Any]]]:
        """The float model's outputs for the first calibration inputs."""
        if not self._outputs and self.calibration is not None:
            taken = 0
            for feed in islice(iter(self.calibration), SAMPLES):
                self._outputs.append(self.reference(feed))
                taken += sum(getattr(value, "nbytes", 0) for value in self._outputs[-1])
                if taken > MOST_BYTES:
                    break
        return self._outputs

    def measure(self, run: Run) -> Accuracy | None:
        """Accuracy of `run`; None where there is neither evaluation data nor an input."""
        expected = self.outputs()
        outputs = [run(feed) for feed, _ in zip(self.calibration or (), expected, strict=False)]
        sqnr = reported_db(overall_sqnr(expected, outputs)) if outputs else None
        if self.evaluation is not None:
            if self._score is None:
                self._score = self.evaluation.score(self.reference)
            score = self.evaluation.score(run)
            return Accuracy(score.metric, score.value, self._score.value, score.n, sqnr)
        if outputs:
            score = likeness(expected, outputs)
            return Accuracy(score.metric, round(score.value, 6), 1.0, score.n, sqnr)
        return None


def overall_sqnr(reference: Iterable[Sequence[NDArray[Any]]], test: Iterable[Sequence[NDArray[Any]]]) -> float:
    """SQNR in dB over all floating-point outputs of all samples together, capped at 200 dB (identical)."""
    first, second = [], []
    for one, other in zip(reference, test, strict=True):
        for a, b in zip(one, other, strict=True):
            if isinstance(a, np.ndarray) and a.dtype.kind == "f":
                first.append(np.asarray(a, np.float64).ravel())
                second.append(np.asarray(b, np.float64).ravel())
    if not first:
        return 200.0
    return float(min(200.0, sqnr_db(np.concatenate(first), np.concatenate(second))))
