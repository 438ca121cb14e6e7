"""Runs inside an emulated core: `kernel_guest.py ENGINE FOLDER` runs every model in FOLDER three times, marked.

FOLDER/jobs.json lists files; the marks are: 100 before each call, 101 behind it, 102 once for each model that failed.
"""

import json
import os
import sys
from importlib import import_module
from typing import Any

import numpy as np

BEFORE, BEHIND, FAILED = 100, 101, 102
CALLS, MARKS = 3, 10
DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}


def feeds(shape: Any, dtype: Any) -> Any:
    """Numbers that no operator minds: between one half and two."""
    size = [d if isinstance(d, int) and d > 0 else 1 for d in shape]
    return np.random.default_rng(1).uniform(0.5, 2, size).astype(dtype)


def onnxruntime(path: str) -> Any:
    engine = import_module("onnxruntime")
    options = engine.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = engine.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {v.name: feeds(v.shape, DTYPES[v.type]) for v in session.get_inputs()}
    return lambda: session.run(None, given)


def litert(path: str) -> Any:
    interpreter = import_module("ai_edge_litert.interpreter").Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    given = {d["index"]: feeds(d["shape"].tolist(), d["dtype"]) for d in interpreter.get_input_details()}
    made = [d["index"] for d in interpreter.get_output_details()]

    def run() -> Any:
        for index, value in given.items():
            interpreter.set_tensor(index, value)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in made]

    return run


def main(engine: str, folder: str) -> None:
    """Load and run each file."""
    mark: Any = import_module("marks").mark  # beside infer.py, in the guest
    with open(os.path.join(folder, "jobs.json")) as file:
        jobs = json.load(file)
    load = {"onnxruntime": onnxruntime, "litert": litert}[engine]
    for _ in range(MARKS):  # until the interpreter has specialised its own code
        mark(BEFORE)
        mark(BEHIND)
    for job in jobs:
        try:
            run = load(job)
        except Exception as error:
            print(f"{job}: {error}", file=sys.stderr)
            mark(FAILED)
            continue
        for _ in range(CALLS):
            mark(BEFORE)
            run()
            mark(BEHIND)


if __name__ == "__main__":
    main(*sys.argv[1:])
