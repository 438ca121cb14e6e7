"""ONNX's backend node suite (onnx.backend.test) through the TFLite writer and LiteRT, beside the suite's own answers.

    python -m benchmarks.litert_nodes [--only REGEX] [--no-save]

Each case is converted with its inputs as inputs, and where that is refused with all but the first as constants (axes,
shapes, weights: what real models have). A case is `right`, `refused` (with a reason), `wrong`, or `fails` (in the
engine, or by an error that is not ours). The engine runs in a process of its own. Exit status 1 where a case is wrong
or fails that is not listed here with its reason.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from benchmarks import record
from edgec_targets.emitters.litert import prove
from edgec_targets.emitters.litert.conversion import convert

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
# ONNX Runtime's answer, which the writer takes, isn't the suite's.
KNOWN = {
    "test_resize_downsample_scales_linear_align_corners": "ONNX Runtime takes the rounded size",
    "test_resize_downsample_scales_cubic_align_corners": "ONNX Runtime takes the rounded size",
}
Case = tuple[str, onnx.ModelProto, list[np.ndarray], list[np.ndarray], float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name matches")
    parser.add_argument("--no-save", action="store_true", help="print only")
    arguments = parser.parse_args()
    verdicts: dict[str, tuple[str, str]] = {}
    for name, *case in cases(arguments.only):
        verdicts[name] = verdict(*case)
    counts = collections.Counter(v for v, _ in verdicts.values())
    bad = {n: v for n, v in verdicts.items() if v[0] in ("wrong", "fails") and n not in KNOWN}
    print(json.dumps(dict(sorted(counts.items()))))
    for name, (kind, why) in sorted(bad.items()):
        print(f"{kind}: {name}: {why}")
    if not arguments.only and not arguments.no_save:
        reasons = collections.Counter(
            re.sub(r"'[^']*'", "…", why) for kind, why in verdicts.values() if kind == "refused"
        )
        figures = {"counts": dict(sorted(counts.items())), "refused": dict(reasons.most_common()), "known": KNOWN}
        record.save("litert_nodes", figures, engine="ai-edge-litert")
    sys.exit(bool(bad))


def cases(only: str) -> Iterator[Case]:
    """Cases whose inputs and outputs are all tensors."""
    for kind in KINDS:
        for case in load_model_tests(kind=kind):
            if not re.search(only, case.name):
                continue
            model = case.model
            if model is None:
                model = onnx.load(Path(case.model_dir) / "model.onnx")
            weights = {i.name for i in model.graph.initializer}
            for n in reversed(range(len(model.graph.input))):
                if model.graph.input[n].name in weights:
                    del model.graph.input[n]
            if any("preview" in o.domain for o in model.opset_import):
                continue
            read = given(case, model)
            if read is not None:
                yield case.name, model, *read, case.rtol, case.atol


def given(case: Any, model: onnx.ModelProto) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
    values = [*model.graph.input, *model.graph.output]
    if not all(v.type.HasField("tensor_type") for v in values):
        return None
    if case.data_sets:
        inputs, outputs = ([np.asarray(a) for a in part] for part in case.data_sets[0])
    else:
        folder = Path(case.model_dir) / "test_data_set_0"
        inputs, outputs = (
            [numpy_helper.to_array(onnx.load_tensor(folder / f"{kind}_{n}.pb")) for n in range(len(side))]
            for kind, side in (("input", model.graph.input), ("output", model.graph.output))
        )
    whole = len(inputs) == len(model.graph.input) and len(outputs) == len(model.graph.output)
    return (inputs, outputs) if whole and all(a.dtype != object for a in (*inputs, *outputs)) else None


def verdict(
    model: onnx.ModelProto, inputs: list[np.ndarray], outputs: list[np.ndarray], rtol: float, atol: float
) -> tuple[str, str]:
    why = ""
    for constant in (False, True):
        try:
            written = convert(ir.from_proto(shaped(model, inputs, constant)))
        except Exception as e:  # whatever it is, the next case shall be looked at
            return "fails", repr(e)[:200]
        if written.data is None:
            why = written.problems[0].why
            continue
        got = apart(written.data, {v.name: a for v, a in zip(model.graph.input, inputs, strict=True)})
        if isinstance(got, str):
            return "fails", got
        for value, want in zip(model.graph.output, outputs, strict=True):
            have = got[value.name]
            if have.dtype != want.dtype or have.shape != want.shape:
                return "wrong", f"{value.name}: {have.dtype}{have.shape} instead of {want.dtype}{want.shape}"
            near = max(rtol, 1e-3), max(atol, 1e-4 if want.dtype == np.float32 else 2e-3)
            same = np.allclose(have, want, *near, equal_nan=True) if want.dtype != bool else np.array_equal(have, want)
            if not same:
                return "wrong", f"{value.name} differs"
        return "right", ""
    return "refused", why


def shaped(model: onnx.ModelProto, inputs: list[np.ndarray], constant: bool) -> onnx.ModelProto:
    """The case's model with the shapes of its data; all inputs but the first as constants if asked for."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value, array in zip(copy.graph.input, inputs, strict=True):
        value.type.tensor_type.shape.ClearField("dim")
        for size in array.shape:
            value.type.tensor_type.shape.dim.add().dim_value = size
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    for n in reversed(range(1, len(inputs))):
        if constant:
            copy.graph.initializer.append(numpy_helper.from_array(inputs[n], copy.graph.input[n].name))
            del copy.graph.input[n]
    return copy


def apart(data: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray] | str:
    """Run in a fork: some of the engine's checks end the process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            answer: Any = prove.run(data, feeds)
        except Exception as e:  # the engine's words go back through the pipe
            answer = repr(e)[:300]
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if not content:
        return f"the engine ended with signal {status & 127}"
    return pickle.loads(content)  # from our own fork


if __name__ == "__main__":
    main()
