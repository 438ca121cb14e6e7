"""Runs inside the emulated core, as a program: `infer.py FOLDER` answers FOLDER's feeds and marks what each step takes.

FOLDER/job.json: {"engine": one of ENGINES, "model": path, "files": {role: path}, "options": {…}, "entry": a manifest's
payload or null, "feeds": [{input name: {"dtype", "shape", "file"}}, …]}. Answers are written beside it, in this form.
numpy is used where the engine needs it and not otherwise: its import would be counted.
"""

import array
import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from marks import mark  # type: ignore[import-not-found]  # beside this file, in the guest

Job = dict[str, Any]
Loaded = tuple[list[str], Callable[[dict[str, Any]], list[Any]]]  # outputs' names, and a call
DTYPES: dict[str, str] = {}  # output -> dtype, where the engine says so: a memoryview of float16 is one of its bits

LOAD, FIRST, CALL, BETWEEN, EMPTY = 1, 2, 3, 4, 5
CODES = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q",
    "uint64": "Q", "float16": "H", "float32": "f", "float64": "d",
}  # fmt: skip


def onnxruntime_package(job: Job) -> Loaded:
    """The peer: the package as its users use it."""
    onnxruntime = import_module("onnxruntime")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = int(job["options"].get("threads") or 1)
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return names, lambda feeds: session.run(None, feeds)


def litert_package(job: Job) -> Loaded:
    """The peer: ai_edge_litert's interpreter as its users use it."""
    interpreter = import_module("ai_edge_litert.interpreter").Interpreter(
        job["model"], num_threads=int(job["options"].get("threads") or 1)
    )
    interpreter.allocate_tensors()
    inputs = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    outputs = interpreter.get_output_details()
    only = next(iter(inputs.values()))

    def run(feeds: dict[str, Any]) -> list[Any]:
        for name, value in feeds.items():
            interpreter.set_tensor(inputs.get(name, only), value)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in outputs]

    return [detail["name"] for detail in outputs], run


def runtime(job: Job) -> Loaded:
    """Ours: the adapter that edgec_runtime takes on this machine, or the one that the job names."""
    from edgec_runtime import engines
    from edgec_runtime.payload import StoredPayload

    engine: Any = engines.find(job["entry"]["engine"])
    executable = engine.load(StoredPayload(job["entry"], job["files"]), job["options"])
    names = [tensor.name for tensor in executable.outputs]
    DTYPES.update({tensor.name: tensor.dtype for tensor in executable.outputs})
    return names, lambda feeds: executable.run(names, feeds)


ENGINES = {"onnxruntime": onnxruntime_package, "litert": litert_package, "edgec": runtime}


def read(folder: str, feed: Job) -> dict[str, Any]:
    """A feed's arrays: numpy's where numpy was imported, else memoryviews."""
    found: dict[str, Any] = {}
    for name, about in feed.items():
        with open(os.path.join(folder, about["file"]), "rb") as file:
            data = bytearray(file.read())
        if "numpy" in sys.modules:
            import numpy

            found[name] = numpy.frombuffer(data, about["dtype"]).reshape(about["shape"])
        else:
            values = array.array(CODES[about["dtype"]].replace("?", "B"), bytes(data))
            flat: Any = memoryview(values).cast("B")
            found[name] = flat.cast(CODES[about["dtype"]], about["shape"]) if about["shape"] else flat
    return found


def write(folder: str, number: int, names: list[str], answers: list[Any]) -> Job:
    """One call's answers; returns what says how to read them."""
    made: Job = {}
    for place, (name, value) in enumerate(zip(names, answers, strict=True)):
        file = f"out-{number}-{place}"
        view: Any = memoryview(value)
        with open(os.path.join(folder, file), "wb") as out:
            out.write(view.tobytes())
        dtype = str(value.dtype) if hasattr(value, "dtype") else DTYPES[name]
        made[name] = {"dtype": dtype, "shape": list(view.shape), "file": file}
    return made


def main(folder: str) -> None:
    """Load, run the first feed once cold, then every feed."""
    with open(os.path.join(folder, "job.json")) as file:
        job = json.load(file)
    mark(0)
    names, run = ENGINES[job["engine"]](job)
    mark(LOAD)
    feeds = [read(folder, feed) for feed in job["feeds"]]
    mark(BETWEEN)
    run(feeds[0])
    mark(FIRST)
    for _ in range(10):  # until the interpreter has specialised its own code: what a mark itself takes
        mark(BETWEEN)
        mark(EMPTY)
    made = []
    for number, feed in enumerate(feeds):
        mark(BETWEEN)
        answers = run(feed)
        mark(CALL)
        made.append(write(folder, number, names, answers))
    with open(os.path.join(folder, "answers.json"), "w") as file:
        json.dump(made, file)


if __name__ == "__main__":
    main(sys.argv[1])
