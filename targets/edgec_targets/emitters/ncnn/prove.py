"""A converted model is run in ncnn and held against ONNX Runtime before anybody gets it.

ncnn has no checker: a layer that means something else than the operator gives other numbers, or reads beyond its
memory. So it runs in a process of its own, on a copy in a temporary folder, by the device's own adapter.
"""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.ncnn.conversion import Written
from edgec_targets.emitters.ncnn.prepare import fixed
from edgec_targets.types import Problem

LEAST_DB = 60.0
"""Signal over error of each output in each sample: float32 sums in another order give 100 and more, winograd 80."""
_SECONDS = 300
_DRAWS: tuple[tuple[float, float], ...] = ((0.0, 1.0), (-1.0, 1.0), (-3.0, 3.0))
"""The ranges that random inputs are drawn from: an image's, a signal's, and wide enough to saturate activations."""
_TINY = 1e-30
_UNIT = ("Sigmoid", "HardSigmoid", "Softmax")
_UNIT_FLOOR = 1e-3
"""Operators whose results lie between 0 and 1, and the least signal that their errors are measured by (RMS): float32
rounds there to 1e-7, and random inputs may leave a detector's map at 1e-6 all over."""
_MOVERS = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
_RUN = """
import json, sys
import numpy as np
from edgec_runtime.engines import ncnn
from edgec_runtime.payload import StoredPayload
folder = sys.argv[1]
files = {role: f"{folder}/{role}" for role in ("param", "bin", "interface")}
model = ncnn.Engine().load(StoredPayload({"files": files}, files), {"threads": 1})
given = np.load(f"{folder}/inputs.npz")
names = [port.name for port in model.outputs]
count = int(sys.argv[2])
found = {}
for n in range(count):
    feeds = {port.name: given[f"{n}/{i}"] for i, port in enumerate(model.inputs)}
    for i, array in enumerate(model.run(names, feeds)):
        found[f"{n}/{i}"] = array
np.savez(f"{folder}/outputs.npz", **found)
"""
_ASKED: dict[bytes, Problem | None] = {}
"""SHA-256 of the files and the model's → what came of it, in this process: boards mostly get the same files."""


def prove(model: ir.Model, written: Written) -> Problem | None:
    """None where ncnn's answers are ONNX Runtime's; else what is wrong. `model` is what `written` was made of."""
    reference = ir.to_proto(fixed(model)).SerializeToString(deterministic=True)
    key = hashlib.sha256(b"\0".join((written.param, written.bin, written.interface, reference))).digest()
    if key not in _ASKED:
        floors = [_UNIT_FLOOR if _between_0_and_1(value) else 0.0 for value in model.graph.outputs]
        _ASKED[key] = _prove(reference, written, floors)
    return _ASKED[key]


def _between_0_and_1(value: ir.Value) -> bool:
    producer = value.producer()
    while producer is not None and producer.op_type in _MOVERS and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    return producer is not None and producer.op_type in _UNIT


def _prove(reference: bytes, written: Written, floors: list[float]) -> Problem | None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(reference, options, providers=["CPUExecutionProvider"])
        samples = _samples({port.name: [int(d) for d in port.shape] for port in session.get_inputs()})
        wanted = [session.run(None, sample) for sample in samples]
    except Exception as e:  # the engine raises a class of its own for each of its status codes
        return _problem(f"ONNX Runtime, which it is compared with, refuses the model: {' '.join(str(e).split())[:300]}")
    with tempfile.TemporaryDirectory(prefix="edgec-ncnn-") as folder:
        try:
            found = _run(Path(folder), written, samples)
        except OSError as e:  # a full disk
            return _problem(f"it could not be tried: {e}")
        if isinstance(found, str):
            return _problem(found)
        for n, arrays in enumerate(wanted):
            for i, port in enumerate(session.get_outputs()):
                decibels = sqnr(np.asarray(arrays[i]), found[f"{n}/{i}"], floors[i])
                if decibels < LEAST_DB:
                    return _problem(f"output '{port.name}' is {decibels:.0f} dB from ONNX Runtime's")
    return None


def sqnr(wanted: np.ndarray, found: np.ndarray, floor: float = 0.0) -> float:
    """Signal over error in dB; infinite where equal (the same not-a-numbers and infinities count as equal).

    The signal's RMS counts as `floor` at least.
    """
    if wanted.shape != found.shape:
        return -math.inf
    finite = np.isfinite(wanted)
    if not np.array_equal(wanted[~finite], found[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return -math.inf
    signal = max(float(np.sum(np.square(wanted[finite], dtype=np.float64))), floor**2 * wanted.size)
    error = float(np.sum(np.square(found[finite].astype(np.float64) - wanted[finite])))
    return math.inf if error <= _TINY else 10 * math.log10(max(signal, _TINY) / error)


def _samples(shapes: Mapping[str, list[int]]) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(20261020)
    return [
        {name: rng.uniform(low, high, dims).astype(np.float32) for name, dims in shapes.items()} for low, high in _DRAWS
    ]


def _run(folder: Path, written: Written, samples: list[dict[str, np.ndarray]]) -> Mapping[str, np.ndarray] | str:
    """The outputs, "sample/number"; or what went wrong."""
    (folder / "param").write_bytes(written.param)
    (folder / "bin").write_bytes(written.bin)
    (folder / "interface").write_bytes(written.interface)
    arrays = {f"{n}/{i}": array for n, sample in enumerate(samples) for i, array in enumerate(sample.values())}
    np.savez(folder / "inputs.npz", allow_pickle=False, **arrays)
    command = [sys.executable, "-c", _RUN, str(folder), str(len(samples))]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False, cwd=folder)
    except subprocess.TimeoutExpired:
        return f"it takes more than {_SECONDS} seconds to run"
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return f"ncnn ends with status {done.returncode}: {' '.join(said[-3:])[-300:] or 'without a word'}"
    with np.load(folder / "outputs.npz") as loaded:
        return dict(loaded)


def _problem(words: str) -> Problem:
    return Problem("", "", f"Run in ncnn, {words}.", "Use another engine's payload, and report the model's operators.")
