"""A model on an emulated core: its answers, and the instructions of loading and of each call."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec_runtime.errors import UsageError
from edgec_toolchains.aarch64.counts import Counts
from edgec_toolchains.aarch64.emulator import GUEST, Core

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHEELS = {
    "onnxruntime": ("onnxruntime", "numpy", "flatbuffers", "protobuf", "packaging"),
    "litert": ("ai-edge-litert", "numpy", "flatbuffers", "protobuf"),
    "ncnn": ("ncnn",),
}
"""What each engine's Python package needs in the guest."""

_LOAD, _FIRST, _CALL, _EMPTY = 1, 2, 3, 5  # guest/infer.py


@dataclass(frozen=True)
class Inference:
    """What a model did on a core.

    Attributes:
        answers: {output name: array} of each feed, in order.
        load: instructions of importing the engine and loading the model.
        first: of the first call.
        calls: of each later call, one a feed; what a mark takes is not in them.
    """

    answers: tuple[dict[str, NDArray[Any]], ...]
    load: Counts
    first: Counts
    calls: tuple[Counts, ...]

    @property
    def call(self) -> Counts:
        """The call with the median number of instructions."""
        return sorted(self.calls, key=lambda counts: counts.instructions)[len(self.calls) // 2]


def infer(
    core: Core,
    model: Path,
    feeds: Sequence[Mapping[str, NDArray[Any]]],
    *,
    engine: str,
    entry: Mapping[str, Any] | None = None,
    threads: int = 1,
    paths: Sequence[Path] = (),
    wheels: Sequence[str] | None = None,
    files: Mapping[str, Path] | None = None,
    timeout: float = 600,
) -> Inference:
    """Run a model on each of `feeds`.

    Args:
        core: the emulated core.
        model: the model's file (.onnx, .tflite).
        feeds: input name -> array, at least one.
        engine: "onnxruntime" or "litert": the Python package alone. "edgec": by the runtime's adapter for `entry`.
        entry: a payload as manifests list it, for "edgec"; its engine's adapter is taken.
        threads: of the engine. Counts are exact with 1 only.
        paths: more folders for the guest's PYTHONPATH: edgec_runtime's for "edgec".
        wheels: pinned distributions that can be imported; None for those that the engine's package needs.
        files: a payload's files by role, for "edgec"; None: `model` is its only one.
        timeout: seconds.

    Raises UnsupportedError where the core can't run it, UsageError without feeds.
    """
    import numpy as np

    if not feeds:
        raise UsageError("there is nothing to run", "no feeds were given", "give at least one")
    with tempfile.TemporaryDirectory(prefix="edgec-") as name:
        folder = Path(name)
        described = []
        for number, feed in enumerate(feeds):
            about = {}
            for place, (key, value) in enumerate(feed.items()):
                file = f"in-{number}-{place}"
                array = np.ascontiguousarray(value)
                (folder / file).write_bytes(array.tobytes())
                about[key] = {"dtype": str(array.dtype), "shape": list(np.shape(value)), "file": file}
            described.append(about)
        job = {
            "engine": engine,
            "model": str(model.absolute()),
            "files": {role: str(path.absolute()) for role, path in (files or {"model": model}).items()},
            "options": {"threads": threads},
            "entry": dict(entry) if entry else None,
            "feeds": described,
        }
        (folder / "job.json").write_text(json.dumps(job))
        needed = WHEELS[entry["engine"] if entry else engine] if wheels is None else wheels
        ran = core.python([GUEST / "infer.py", folder], wheels=needed, paths=paths, timeout=timeout)
        answers = tuple(
            {
                key: np.frombuffer((folder / a["file"]).read_bytes(), a["dtype"]).reshape(a["shape"])
                for key, a in made.items()
            }
            for made in json.loads((folder / "answers.json").read_text())
        )
    mark = [region.counts for region in ran.regions if region.tag == _EMPTY][-1]
    calls = tuple(region.counts - mark for region in ran.regions if region.tag == _CALL)
    return Inference(answers, ran.region(_LOAD), ran.region(_FIRST), calls)
