"""The float model that everything is held against: as the user gave it, wherever onnxruntime can run that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgec.errors import UnsupportedError
from edgec.frontends import Imported
from edgec.measure.accuracy import Run, original


@dataclass(frozen=True)
class Reference:
    """`source` is what `run` runs; `note` says so where it is not the user's own file."""

    source: bytes | Path
    run: Run
    note: str = ""


def take(imported: Imported) -> Reference:
    """Open the original. Where this onnxruntime can't load it (its opset is too new), the imported model as emitted.

    Raises UnsupportedError where no form of the model runs.
    """
    from edgec_targets.emitters.onnxruntime import write

    try:
        return Reference(imported.original, original(imported.original))
    except Exception as refusal:  # onnxruntime's exceptions have no common base
        lowered, opset = write.write(imported.model.clone())
        words = " ".join(str(refusal).split())[:200]
        try:
            run = original(lowered)
        except Exception as again:
            raise UnsupportedError(
                "onnxruntime can't run this model, so nothing can be held against it",
                " ".join(str(again).split())[:400],
                "`edgec check MODEL -t BOARD` names the nodes; change them, or export in float32 with another opset.",
                code="E410",
            ) from refusal
        note = f"onnxruntime can't load the file as it is ({words}): the float reference is its form at opset {opset}"
        return Reference(lowered, run, note)
