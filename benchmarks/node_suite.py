"""ONNX's backend node suite (onnx.backend.test) through edgec, beside plain ONNX Runtime.

    python benchmarks/node_suite.py [--engine NAME …] [--only REGEX] [--json OUT] [--all-differences]

Engines: `onnxruntime` is plain ONNX Runtime; `edgec` goes through the stages (front end, passes, payload) and runs
the payload; `bundle` goes the whole way: compile for this machine in float32, then the runtime on the bundle (half a
second a case). Without --engine the first two run. Each case runs in a worker process; a crash or a hang costs
that one case. The answer lists: counts, the edge-relevant subset (node_suite_edge.json), what edgec wins and loses
against plain ONNX Runtime with the reason, and what a bundle's `run` can't take by kind of input or output.
Exit status 1 when edgec loses a case that plain ONNX Runtime passes, or falls below the promised counts.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import json
import os
import random
import re
import select
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Run = Callable[[Sequence[Any]], list[Any]]

EDGE = Path(__file__).with_name("node_suite_edge.json")
PROMISED, PROMISED_EDGE = 1774, 958
"""Cases of onnx 1.23.2's 1,884 and of the 983 edge-relevant ones that edgec passes at least."""

PACKED = {"int4": 2, "uint4": 2, "float4_e2m1fn": 2, "int2": 4, "uint2": 4}
"""Types that engines pack: elements in a byte, lowest bits first."""

_FLOAT8 = {"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"}
UNKNOWN_TO_NUMPY = {"bfloat16", *_FLOAT8, *PACKED}
"""Types of ml_dtypes: onnxruntime's Python takes them only through raw memory."""


@dataclass(frozen=True)
class Case:
    name: str
    model: bytes
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Result:
    """`status`: pass, load (refused), run (raised while running), mismatch, crash or timeout."""

    status: str
    operators: str = ""
    detail: str = ""


def cases() -> list[Case]:
    """All cases, made with a fixed seed (a few draw random inputs when they are collected)."""
    warnings.simplefilter("ignore")
    random.seed(0)
    np.random.seed(0)  # onnx's own cases use this generator
    from onnx.backend.test.case.node import collect_testcases

    return [Case(c.name, c.model.SerializeToString(), c.data_sets, c.rtol, c.atol) for c in collect_testcases(None)]


# ---- engines: model bytes -> run(list of inputs) -> list of outputs ------------------------------------


def plain(model: bytes) -> Run:
    """ONNX Runtime on the model as it is."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    types = {i.name: _element(i.type) for i in session.get_inputs()}
    raw = any(_element(o.type) in _RAW for o in session.get_outputs())

    def run(inputs: Sequence[Any]) -> list[Any]:
        feeds = {name: solid(value) for name, value in zip(types, inputs, strict=False)}
        if not raw and not any(_name(v) in UNKNOWN_TO_NUMPY for v in feeds.values()):
            return list(session.run(None, feeds))
        values = {name: _value(v, types[name]) for name, v in feeds.items()}
        names = [o.name for o in session.get_outputs()]
        return [_array(v) for v in session.run_with_ort_values(names, values)]

    return run


def compiled(model: bytes) -> Run:
    """The model through edgec's stages in float32 for this machine, then ONNX Runtime on the payload."""
    from edgec import frontends, passes
    from edgec_targets.emitters.onnxruntime import write

    imported = frontends.load(model)
    passes.run(imported.model)
    payload, _ = write.write(imported.model)
    return plain(payload)


def bundled(model: bytes) -> Run:
    """The whole way: `edgec compile` in float32 for this machine, and the runtime on the bundle."""
    import edgec_runtime
    from edgec import compiler

    with tempfile.TemporaryDirectory(prefix="edgec-node-suite-") as folder:
        path = Path(folder) / "case.edge"
        compiler.compile(model, ["host"], output=path, precision="float32", golden="none")
        loaded = edgec_runtime.load(path)
    names = [tensor["name"] for tensor in loaded.inputs]

    def run(inputs: Sequence[Any]) -> list[Any]:
        return list(loaded.run({n: solid(v) for n, v in zip(names, inputs, strict=False)}).values())

    return run


ENGINES: dict[str, Callable[[bytes], Run]] = {"onnxruntime": plain, "edgec": compiled, "bundle": bundled}

_RAW = {
    name.lower(): name
    for name, _ in onnx.TensorProto.DataType.items()
    if name.startswith(("BFLOAT16", "FLOAT8", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2"))
}


def _element(kind: str) -> str:
    return re.sub(r".*tensor\((\w+)\).*", r"\1", kind)


def _name(value: Any) -> str:
    return value.dtype.name if isinstance(value, np.ndarray) else ""


def solid(value: Any) -> Any:
    """A contiguous array that keeps rank 0 (np.ascontiguousarray would make it rank 1)."""
    if isinstance(value, np.ndarray | np.generic):
        return np.array(value, copy=True, order="C")
    return value


def _value(value: Any, element: str) -> Any:
    import onnxruntime as ort

    if _name(value) not in UNKNOWN_TO_NUMPY:
        return ort.OrtValue.ortvalue_from_numpy(value)
    number = getattr(onnx.TensorProto, _RAW[element])
    made = ort.OrtValue.ortvalue_from_shape_and_type(list(value.shape), number)
    data = packed(value)
    ctypes.memmove(made.data_ptr(), data, len(data))
    return made


def packed(value: np.ndarray[Any, Any]) -> bytes:
    """The bytes an engine wants."""
    per = PACKED.get(value.dtype.name, 1)
    if per == 1:
        return value.tobytes()
    bits = 8 // per
    flat = value.view(np.uint8).ravel() & ((1 << bits) - 1)
    flat = np.append(flat, np.zeros(-flat.size % per, np.uint8)).reshape(-1, per).astype(np.uint32)
    whole: bytes = (flat << (np.arange(per, dtype=np.uint32) * bits)).sum(axis=1).astype(np.uint8).tobytes()
    return whole


def _array(value: Any) -> Any:
    try:
        return value.numpy()
    except RuntimeError:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.element_type())
        shape = value.shape()
        count = int(np.prod(shape)) if shape else 1
        per = PACKED.get(dtype.name, 1)
        if per == 1:
            return np.frombuffer(ctypes.string_at(value.data_ptr(), count * dtype.itemsize), dtype).reshape(shape)
        data = np.frombuffer(ctypes.string_at(value.data_ptr(), -(-count // per)), np.uint8)
        bits = 8 // per
        flat = np.stack([data >> (bits * k) & ((1 << bits) - 1) for k in range(per)], 1).ravel()[:count]
        return flat.astype(np.uint8).view(dtype).reshape(shape)


# ---- one case ------------------------------------------------------------------------------------------


def to_array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def judge(case: Case, engine: str) -> Result:
    """Run one case the way onnx's own runner does."""
    from onnx.backend.test.runner import Runner

    nodes = onnx.load_from_string(case.model).graph.node
    operators = "+".join(dict.fromkeys(n.op_type for n in nodes))
    try:
        run = ENGINES[engine](case.model)
    except Exception as error:
        return Result("load", operators, _words(error))
    for inputs, expected in case.data_sets:
        try:
            got = run([to_array(x) for x in inputs])
        except Exception as error:
            return Result("run", operators, _words(error))
        try:
            wanted = [to_array(x) for x in expected]
            got = [_same_type(w, g) for w, g in zip(wanted, got, strict=True)]
            Runner.assert_similar_outputs(wanted, got, rtol=case.rtol, atol=case.atol)
        except Exception as error:
            return Result("mismatch", operators, _words(error))
    return Result("pass", operators)


def _same_type(wanted: Any, got: Any) -> Any:
    """onnxruntime hands out some types as raw bits of another."""
    if _name(wanted) in UNKNOWN_TO_NUMPY and isinstance(got, np.ndarray) and got.dtype != wanted.dtype:
        return got.view(wanted.dtype).reshape(wanted.shape) if got.nbytes == wanted.nbytes else got
    return got


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# ---- many cases, surviving crashes ------------------------------------------------------------------------


def worker(engine: str, only: str, start: int) -> None:
    """Print a line of JSON before and after each case, from the `start`-th on."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    for i, case in enumerate(_chosen(only)):
        if i >= start:
            out.write(json.dumps([i, case.name]) + "\n")
            result = judge(case, engine)
            out.write(json.dumps([i, case.name, result.status, result.operators, result.detail]) + "\n")


def _chosen(only: str) -> Iterator[Case]:
    return (case for case in cases() if re.search(only, case.name))


def run_all(engine: str, only: str = "", timeout: float = 120) -> dict[str, Result]:
    """Judge all cases whose name matches; `timeout` is for one case, in seconds."""
    done: dict[str, Result] = {}
    start = 0
    while True:
        command = [sys.executable, __file__, "--worker", engine, "--only", only, "--start", str(start)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert process.stdout is not None
        current, rest, status = None, b"", "crash"
        while True:
            if not select.select([process.stdout], [], [], timeout)[0]:
                process.kill()
                status = "timeout"
                break
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                i, name, *result = json.loads(line)
                current = None if result else (i, name)
                if result:
                    done[name] = Result(*result)
        process.wait()
        if current is None:
            if process.returncode:
                raise RuntimeError(f"the worker for {engine} ended with {process.returncode}")
            return done
        done[current[1]] = Result(status, "", f"exit status {process.returncode}")
        start = current[0] + 1


# ---- the report --------------------------------------------------------------------------------------------


def not_for_run(only: str = "") -> dict[str, str]:
    """Cases whose inputs or outputs are no tensors, and why a bundle's `run` can't take them."""
    found = {}
    for case in _chosen(only):
        graph = onnx.load_from_string(case.model).graph
        values = (*graph.input, *graph.output)
        kinds = {v.type.WhichOneof("value").removesuffix("_type") for v in values} - {"tensor"}
        if kinds:
            found[case.name] = f"{' and '.join(sorted(kinds))}: a bundle's inputs and outputs are tensors"
    return found


def counts(results: dict[str, Result], edge: set[str]) -> dict[str, Any]:
    passed = {name for name, r in results.items() if r.status == "pass"}
    return {
        "total": len(results),
        "passed": len(passed),
        "edge_total": len(edge & results.keys()),
        "edge_passed": len(edge & passed),
        "by_status": dict(collections.Counter(r.status for r in results.values())),
    }


def report(found: dict[str, dict[str, Result]], edge: set[str], everything: bool, excluded: Collection[str]) -> bool:
    """Print counts and differences. True when every promise holds that `found` lets us judge.

    `excluded` are cases that a bundle can't hold: no loss of the engine `bundle`.
    """
    for engine, results in found.items():
        c = counts(results, edge)
        print(
            f"{engine:12} {c['passed']} / {c['total']}, edge {c['edge_passed']} / {c['edge_total']}  {c['by_status']}"
        )
    good = True
    for engine in [e for e in ("edgec", "bundle") if e in found]:
        c = counts(found[engine], edge)
        if c["total"] >= PROMISED:  # not only some of the cases
            good = good and c["passed"] >= PROMISED and c["edge_passed"] >= PROMISED_EDGE
        if "onnxruntime" in found:
            left_out = set(excluded) if engine == "bundle" else set()
            good = not _differences(engine, found[engine], found["onnxruntime"], edge, everything, left_out) and good
    return good


def _differences(
    engine: str,
    ours: dict[str, Result],
    theirs: dict[str, Result],
    edge: set[str],
    everything: bool,
    left_out: set[str],
) -> list[str]:
    """Print what `engine` wins and loses against plain ONNX Runtime; returns what it loses."""
    print(f"\n{engine} against onnxruntime:")
    failed = [n for n in ours if theirs[n].status == "pass" and ours[n].status != "pass"]
    lost = [n for n in failed if n not in left_out]
    won = [n for n in ours if theirs[n].status != "pass" and ours[n].status == "pass"]
    neither = [n for n in ours if theirs[n].status != "pass" and ours[n].status != "pass"]
    for title, names, side in (("lost", lost, ours), ("won", won, theirs), ("neither passes", neither, ours)):
        print(f"\n{title}: {len(names)}")
        for name in names if everything or title != "neither passes" else []:
            mark = "edge" if name in edge else ""
            result = side[name]
            print(f"  {name:58} {mark:4} {result.status:8} {result.operators[:24]:24} {result.detail[:150]}")
    return lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=sorted(ENGINES), action="append", help="may be given several times")
    parser.add_argument("--only", default="", help="a regular expression on case names")
    parser.add_argument("--json", type=Path, help="write all results there")
    parser.add_argument("--all-differences", action="store_true", help="list the cases that neither passes, too")
    parser.add_argument("--worker", choices=sorted(ENGINES), help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.only, given.start)
        return 0
    edge = set(json.loads(EDGE.read_text())["edge_cases"])
    engines = given.engine or ["onnxruntime", "edgec"]
    found = {engine: run_all(engine, given.only) for engine in engines}
    excluded = not_for_run(given.only)
    good = report(found, edge, given.all_differences, excluded)
    print(f"\nnot tensors in or out, so not for a bundle's run: {len(excluded)}")
    for reason, number in collections.Counter(excluded.values()).most_common():
        print(f"  {number:4} {reason}")
    if given.json:
        everything = {e: {n: [r.status, r.operators, r.detail] for n, r in rs.items()} for e, rs in found.items()}
        summary = {e: counts(rs, edge) for e, rs in found.items()}
        whole = {"onnx": onnx.__version__, "counts": summary, "not_for_run": excluded, "cases": everything}
        given.json.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
