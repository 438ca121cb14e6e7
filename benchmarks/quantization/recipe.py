"""What a recipe is: one way of one tool to quantize a model. Read by every environment, so it needs numpy alone."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONVOLUTIONAL = ("efficientnet_lite0", "ultraface", "resnet8_cifar10", "dscnn_kws", "ppocr_cls", "silero_vad")
TRANSFORMER = ("minilm_sts",)
SYMMETRIC = ("efficientnet_lite0", "resnet8_cifar10")
"""The cases that are compared by TensorRT's rules."""
FILES = ("model.onnx", "calib.npz", "eval.npz", "eval.py")
"""What makes a case."""


@dataclass(frozen=True)
class Case:
    """A model with its data: model.onnx, calib.npz, eval.npz and eval.py in a folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def model(self) -> str:
        return str(self.folder / "model.onnx")

    def module(self) -> Any:
        """Its eval.py: feeds(split, limit), evaluate(run, limit)."""
        spec = importlib.util.spec_from_file_location(f"zoo_{self.name}", self.folder / "eval.py")
        assert spec and spec.loader
        loaded = importlib.util.module_from_spec(spec)
        before, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing is written beside the data
        try:
            spec.loader.exec_module(loaded)
        finally:
            sys.dont_write_bytecode = before
        return loaded

    def copied(self, where: str | Path) -> Case:
        """The same in a folder of its own, for tools that write to the model that they are given (ModelOpt does)."""
        folder = Path(where) / self.name
        folder.mkdir()
        for name in FILES:
            shutil.copyfile(self.folder / name, folder / name)
        return Case(folder)

    def feeds(self) -> Iterator[dict[str, Any]]:
        """The calibration inputs, all of them, the same for every tool."""
        return iter(self.module().feeds("calib"))

    def digest(self) -> str:
        return hashlib.sha256(b"\0".join((self.folder / f).read_bytes() for f in FILES)).hexdigest()


@dataclass(frozen=True)
class Recipe:
    """One row's maker.

    Attributes:
        name: what the row is called, after the peer's name.
        make: writes a quantized file for a case to a path (.onnx, or .xml beside a .bin); imports its tool itself.
        arguments: keyword arguments of `make`.
        cases: the cases that it is made for.
        engines: what runs the file: "onnxruntime", "openvino", or "exact": int8 with zero point 0 rewritten as uint8
            with zero point 128, the same numbers, so that onnxruntime's own s8·s8 kernels don't decide.
        suffix: of the file.
    """

    name: str
    make: Callable[..., None]
    arguments: dict[str, Any] = field(default_factory=dict)
    cases: tuple[str, ...] = CONVOLUTIONAL + TRANSFORMER
    engines: tuple[str, ...] = ("onnxruntime",)
    suffix: str = ".onnx"

    def code(self) -> str:
        """What its result depends on in this checkout: its function, arguments, and the helpers of its module."""
        module = sys.modules[self.make.__module__]
        helpers = [
            inspect.getsource(f)
            for name, f in sorted(vars(module).items())
            if inspect.isroutine(f) and f.__module__ == module.__name__ and name.startswith("_")
        ]
        return "\n".join([inspect.getsource(self.make), repr(sorted(self.arguments.items())), *helpers])


def stacked(case: Case) -> dict[str, Any]:
    """All calibration inputs in one array an input, for tools that want them so."""
    import numpy as np

    feeds = list(case.feeds())
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
