"""What the compile is held against: the user's data, and the few inputs that check passes and become golden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgec import data
from edgec.bundle import golden
from edgec.errors import BadInputError, UsageError
from edgec.frontends import Imported
from edgec.measure.accuracy import Run
from edgec.quantize.forms import NEED_DATA
from edgec.request import Request
from edgec.stages import batch

Feed = Mapping[str, NDArray[Any]]
SAMPLES = 8  # real inputs kept at hand, of which golden vectors are chosen
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
LARGER = (64, 224)  # made-up free sizes to try after 1: what networks on images are built for
CHECKED = 2  # inputs on which the outputs are compared after the passes


@dataclass(frozen=True)
class Inputs:
    """`samples` are real calibration inputs (none without data); `checks` are real or synthetic, `kind` says which.

    `batch` says what the model does with more than one sample (`batch.kind`).
    """

    calibration: data.Dataset | None
    evaluation: data.Evaluation | None
    samples: tuple[Feed, ...]
    checks: tuple[Feed, ...]
    kind: str
    batch: str = batch.UNKNOWN

    def record(self) -> dict[str, Any]:
        """For the recipe: digests and words, never the data and never a path to run."""
        made: dict[str, Any] = {}
        if self.calibration is not None:
            made["calibration"] = {"sha256": self.calibration.digest, "samples": len(self.calibration)}
        if self.evaluation is not None:
            made["evaluation"] = True
        return made


def gather(
    imported: Imported,
    request: Request,
    calib: str | data.Dataset | None,
    evaluate: str | data.Evaluation | None,
    reference: Run,
) -> Inputs:
    """Open the data that the user named and take the first samples.

    Raises UsageError where int8 or golden inputs are asked for without data, BadInputError for data that can't be used.
    """
    found = _gather(imported, request, calib, evaluate, reference)
    return replace(found, batch=batch.kind(imported.model, (*found.samples, *found.checks), reference))


def _gather(
    imported: Imported,
    request: Request,
    calib: str | data.Dataset | None,
    evaluate: str | data.Evaluation | None,
    reference: Run,
) -> Inputs:
    if calib is None and (request.precision == "int8" or request.precision in NEED_DATA):
        raise UsageError(
            f"{request.precision} needs calibration data",
            "Ranges of the activations are taken from real inputs.",
            "Add --calib DATA (a few dozen inputs are enough), or leave out --precision.",
            code="E213",
        )
    if calib is None and request.golden == "data":
        raise UsageError("--golden data needs data", fix="Add --calib DATA, or use --golden synthetic.", code="E211")
    graph_inputs = [v for v in imported.model.graph.inputs if v.name not in imported.model.graph.initializers]
    for value in graph_inputs:
        if value.shape is None:
            raise BadInputError(
                f"the model does not say how many dimensions its input '{value.name}' has",
                "A bundle tells a device the shape of each input, free sizes by name.",
                f"Add --shape {value.name}=1,3,224,224, with numbers or names.",
                code="E907",
            )
    dataset = data.load_calibration(calib, graph_inputs) if isinstance(calib, str) else calib
    evaluation = data.load_evaluation(evaluate) if isinstance(evaluate, str) else evaluate
    samples = tuple(islice(iter(dataset), SAMPLES)) if dataset is not None else ()
    if any(node.op_type in RANDOM for node in imported.model.graph.all_nodes()):
        return Inputs(dataset, evaluation, samples, (), "none")  # no two runs answer the same: nothing to compare
    if request.golden == "none":
        return Inputs(dataset, evaluation, samples, samples[:CHECKED], "none")
    if samples and request.golden != "synthetic":
        return Inputs(dataset, evaluation, samples, samples[:CHECKED], "data")
    for shapes in _sizes(graph_inputs):
        made = tuple(golden.synthetic(graph_inputs, request.seed, CHECKED, shapes=shapes))
        if made and _runs(reference, made):
            return Inputs(dataset, evaluation, samples, made, "synthetic")
    return Inputs(dataset, evaluation, samples, samples[:CHECKED], "none")


def _sizes(graph_inputs: Sequence[ir.Value]) -> Iterator[dict[str, list[int]]]:
    """Shapes to make inputs up in: free sizes all 1, then larger, the batch apart: a U-net can't halve 1."""
    batches = {str(v.shape[0]) for v in graph_inputs if v.shape and not isinstance(v.shape[0], int)}
    free = {str(d) for v in graph_inputs for d in v.shape or () if not isinstance(d, int)} - batches
    for size in (1, *LARGER) if free else (1,):
        yield {
            str(v.name): [d if isinstance(d, int) else size if str(d) in free else 1 for d in v.shape or ()]
            for v in graph_inputs
        }


def _runs(reference: Run, feeds: tuple[Feed, ...]) -> bool:
    """Whether the model accepts made-up inputs: indices may be out of range, sizes may not fit together."""
    try:
        for feed in feeds:
            reference(feed)
    except Exception:  # onnxruntime raises its own kinds; any of them means "not with these inputs"
        return False
    return True
