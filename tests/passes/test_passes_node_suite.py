"""The ONNX backend node suite through the passes: ONNX Runtime must answer as before.

`pytest` runs a seeded sample; `python tests/passes/test_passes_node_suite.py [part of a name]` runs all 1,884 cases,
each as it is and with its inputs baked in as initializers (so that whatever can fold does).
"""

from __future__ import annotations

import ctypes
import functools
import random
import sys
import warnings
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from edgec import passes
from edgec.passes.check import difference

# numpy has no such types; the engine takes and gives them packed, as OrValues.
PACKED = {"int4": 2, "uint4": 2, "float4_e2m1fn": 2, "int2": 4, "uint2": 4}
SMALL = {"bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", *PACKED}

# Reassociating a float16 sum, or float64 noise around zero (DFT), moves the last bits; the suite itself allows 1e-3.
TOLERANCE = 1e-3


@functools.cache
def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        random.seed(0)
        np.random.seed(0)
        from onnx.backend.test.case.node import collect_testcases

        return list(collect_testcases(None))


def packed(x: np.ndarray) -> bytes:
    per_byte = PACKED.get(x.dtype.name)
    if per_byte is None:
        return x.tobytes()
    bits = 8 // per_byte
    flat = x.view(np.uint8).ravel() & ((1 << bits) - 1)
    flat = np.append(flat, np.zeros(-flat.size % per_byte, np.uint8)).reshape(-1, per_byte)
    return np.bitwise_or.reduce([flat[:, i] << (i * bits) for i in range(per_byte)], axis=0).astype(np.uint8).tobytes()


def run_engine(model: onnx.ModelProto, inputs: dict[str, Any]) -> list[Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    types = {i.name: i.type.tensor_type.elem_type for i in model.graph.input if i.type.HasField("tensor_type")}
    outputs = session.get_outputs()
    if not any(getattr(x, "dtype", np.dtype("f4")).name in SMALL for x in inputs.values()) and not any(
        t in o.type for o in outputs for t in ("bfloat16", "float8", "int4", "float4", "int2")
    ):
        return session.run(None, inputs)
    values = {}
    for name, x in inputs.items():
        if x.dtype.name in SMALL:
            values[name] = ort.OrtValue.ortvalue_from_shape_and_type(list(x.shape), types[name])
            raw = packed(x)
            ctypes.memmove(values[name].data_ptr(), raw, len(raw))
        else:
            values[name] = ort.OrtValue.ortvalue_from_numpy(x)
    got = session.run_with_ort_values([o.name for o in outputs], values)
    return [as_array(v) for v in got]


def as_array(value: Any) -> np.ndarray:
    try:
        return value.numpy()
    except RuntimeError:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.element_type())
        count = int(np.prod(value.shape())) if value.shape() else 1
        size = -(-count // PACKED[dtype.name]) if dtype.name in PACKED else count * dtype.itemsize
        raw = ctypes.string_at(value.data_ptr(), size)
        return (
            np.frombuffer(raw, np.uint8) if dtype.name in PACKED else np.frombuffer(raw, dtype).reshape(value.shape())
        )


def solid(x: Any) -> Any:
    if isinstance(x, onnx.TensorProto):
        return numpy_helper.to_array(x)
    return np.array(x, copy=True, order="C") if isinstance(x, np.ndarray | np.generic) else x


def baked(model: onnx.ModelProto, inputs: dict[str, Any], keep: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model with its tensor inputs as initializers, all but the first `keep`; the inputs left."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    left = dict(inputs)
    for value in list(new.graph.input)[keep:]:
        x = inputs.get(value.name)
        if isinstance(x, np.ndarray):
            new.graph.initializer.append(numpy_helper.from_array(x, value.name))
            new.graph.input.remove(value)
            del left[value.name]
    return new, left


# Operators that draw: two runs differ, with or without passes.
RANDOM = ("bernoulli", "training_dropout", "randomnormal", "randomuniform", "multinomial")


def is_strictly_valid(model: onnx.ModelProto) -> bool:
    """Some of the suite's models contradict their own declared shapes."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:
        return False
    return True


def verdict(model: onnx.ModelProto, inputs: dict[str, Any]) -> str:
    """ "" where the passes kept the answers, "skip" where the engine can't run the model, else what went wrong."""
    try:
        expected = run_engine(model, inputs)
    except Exception:
        expected = None
    changed = ir.from_proto(model)
    applied = passes.run(changed)
    proto = ir.to_proto(changed)
    assert [i.name for i in proto.graph.input] == [i.name for i in model.graph.input]
    assert [o.name for o in proto.graph.output] == [o.name for o in model.graph.output]
    onnx.checker.check_model(proto, full_check=is_strictly_valid(model))
    if expected is None:
        return "skip"
    got = run_engine(proto, inputs)
    for output, a, b in zip(proto.graph.output, expected, got, strict=True):
        if why := difference(a, b, TOLERANCE):
            return f"{output.name} {why} after {[a.name for a in applied if a.changed]}"
    return ""


def check_case(case: Any) -> dict[str, str]:
    """What went wrong in each form of a case."""
    wrong = {}
    if any(word in case.name for word in RANDOM):
        return wrong
    arrays = [solid(x) for x in case.data_sets[0][0]]
    inputs = {i.name: x for i, x in zip(case.model.graph.input, arrays, strict=False)}
    for form, keep in (("as it is", len(arrays)), ("baked, all but one", 1), ("baked", 0)):
        try:
            model, left = baked(case.model, inputs, keep)
        except Exception:
            continue  # a type that numpy_helper can't store
        try:
            why = verdict(model, left)
        except Exception as error:
            why = f"{type(error).__name__}: {str(error)[:300]}"
        if why not in ("", "skip"):
            wrong[form] = why
    return wrong


@pytest.mark.parametrize("part", range(4))
def test_sample_of_the_node_suite_keeps_its_outputs(part: int) -> None:
    sample = random.Random(f"node suite {part}").sample(cases(), 25)
    assert {case.name: wrong for case in sample if (wrong := check_case(case))} == {}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    chosen = [c for c in cases() if len(sys.argv) < 2 or sys.argv[1] in c.name]
    failed = {c.name: wrong for c in chosen if (wrong := check_case(c))}
    for name, wrong in failed.items():
        print(name, wrong)
    print(f"{len(chosen)} cases, {len(failed)} with other answers")
