"""Transformers in int8: what smoothing, dynamic ranges and unfused residual sums each bring, on the zoo's MiniLM.

    python -m benchmarks.quantize_transformers [--openvino PYTHON]

Accuracy on the zoo's whole evaluation set (400 sentences, Spearman on its pairs), against the float model's embeddings.
Speed is float's CPU time over the file's, round by round, one thread, in turn in one process. PYTHON is an interpreter
that has numpy and openvino: the files are then run there too, with float32 in OpenVINO as a base beside onnxruntime's.
Also Silero's LSTM, and ConvInteger against Conv. Goes to results/quantize_transformers.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record, zoo
from benchmarks.quantization.engines import fix_threads, onnxruntime
from benchmarks.transformers_measure import accuracy, seconds
from edgec import data, frontends, passes, quantize
from edgec.quantize.dynamic import quantize_dynamic

CASE = "minilm_sts"


def files(folder: Path) -> dict[str, tuple[bytes, float]]:
    """Each form's file and the CPU seconds that it took to make."""
    source = folder / "model.onnx"
    model = frontends.load(source).model
    calibration = data.load_calibration(f"{folder}/eval.py:feeds", list(model.graph.inputs))
    passes.run(model)
    made: dict[str, tuple[bytes, float]] = {"float32 as given": (source.read_bytes(), 0.0)}

    def make(name: str, function: Any) -> None:
        start = time.process_time()
        result = function()
        made[name] = frontends.save_bytes(result.model), time.process_time() - start

    seven = quantize.Scheme(weight_bits=7)
    make("static, ranges alone", lambda: quantize.quantize_with_data(model, calibration, effort="plain"))
    make("static", lambda: quantize.quantize_with_data(model, calibration))
    make("static, 7 bits", lambda: quantize.quantize_with_data(model, calibration, scheme=seven))
    make("dynamic, no data", lambda: quantize_dynamic(model))
    make("dynamic", lambda: quantize_dynamic(model, data=calibration))
    make("dynamic, 7 bits", lambda: quantize_dynamic(model, data=calibration, weight_bits=7))
    made["onnxruntime dynamic, per channel, 7 bits"] = peer(source)
    return made


def peer(source: Path) -> tuple[bytes, float]:
    """onnxruntime's own quantize_dynamic, as its documentation advises for transformers on x86."""
    from onnxruntime.quantization import quantize_dynamic as theirs
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        start = time.process_time()
        quant_pre_process(str(source), str(before), skip_symbolic_shape=True)
        theirs(str(before), str(after), per_channel=True, reduce_range=True)
        return after.read_bytes(), time.process_time() - start


def minilm() -> dict[str, Any]:
    folder, evaluation = zoo.folder(CASE), zoo.module(CASE)
    feeds = list(evaluation.feeds("eval"))
    made = files(folder)
    runs = {name: onnxruntime(content) for name, (content, _) in made.items()}
    first = next(iter(runs))
    reference = np.concatenate([runs[first](feed)[0] for feed in feeds]).astype(np.float64)
    times = seconds(runs, feeds[:4])
    rows: dict[str, Any] = {}
    for name, (content, cost) in made.items():
        rows[name] = {
            **accuracy(runs[name], reference, feeds),
            "spearman": evaluation.evaluate(runs[name])["value"],
            "bytes": len(content),
            "made_in_cpu_s": round(cost, 1),
            "ms": round(1e3 * float(np.median(times[name])), 2),
            "speed": record.ratio(times[first], times[name]),
        }
        print(
            f"{name:42s}",
            {k: v for k, v in rows[name].items() if k != "speed"},
            rows[name]["speed"]["median"],
            flush=True,
        )
    return {"onnxruntime": rows, "contents": {name: content for name, (content, _) in made.items()}}


def in_openvino(python: str, contents: dict[str, bytes]) -> dict[str, Any]:
    """The files in OpenVINO, in an interpreter that has it. Dynamic files are onnxruntime's matter."""
    wanted = [name for name in contents if "dynamic" not in name]
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        for k, name in enumerate(wanted):
            Path(folder, f"{k}.onnx").write_bytes(contents[name])
        command = [python, "-m", "benchmarks.transformers_measure", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    found = json.loads(done.stdout.splitlines()[-1])
    rows: dict[str, Any] = {}
    for name, (scores, times) in zip(wanted, found, strict=True):
        row = {**scores, "ms": round(1e3 * float(np.median(times)), 2), "speed": record.ratio(found[0][1], times)}
        rows[name] = row
        print(f"OpenVINO {name:33s}", row, flush=True)
    return rows


def silero() -> dict[str, Any]:
    """Silero VAD's LSTM, the one layer that has a dynamic form there."""
    folder, evaluation = zoo.folder("silero_vad"), zoo.module("silero_vad")
    model = frontends.load(folder / "model.onnx").model
    passes.run(model)
    contents = {"float32": frontends.save_bytes(model), "dynamic": frontends.save_bytes(quantize_dynamic(model).model)}
    runs = {name: onnxruntime(content) for name, content in contents.items()}
    times = seconds(runs, [zoo.first_feed("silero_vad")])
    return {
        name: {
            "auc": evaluation.evaluate(run)["value"],
            "bytes": len(contents[name]),
            "speed": record.ratio(times["float32"], times[name]),
        }
        for name, run in runs.items()
    }


def convolution() -> dict[str, Any]:
    """One 3 × 3 convolution of 64 channels on 28 × 28, float and as DynamicQuantizeLinear, ConvInteger."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 64, 3, 3)).astype(np.float32)
    integers = np.clip(np.rint(weight * 30), -127, 127).astype(np.int8)
    runs = {}
    for name, nodes, constant in (
        ("Conv", [("Conv", ["x", "w"], ["y"])], weight),
        (
            "ConvInteger",
            [("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), ("ConvInteger", ["q", "w", "z"], ["i"]),
             ("Cast", ["i"], ["f"]), ("Mul", ["f", "s"], ["y"])],
            integers,
        ),
    ):  # fmt: skip
        runs[name] = onnxruntime(_graph(nodes, constant))
    feed = {"x": rng.standard_normal((1, 64, 28, 28)).astype(np.float32)}
    times = seconds(runs, [feed])
    return {"speed": record.ratio(times["Conv"], times["ConvInteger"])}


def _graph(nodes: list[tuple[str, list[str], list[str]]], constant: np.ndarray) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, 64, 28, 28]
    made = []
    for kind, inputs, outputs in nodes:
        extra: dict[str, Any] = {"pads": [1, 1, 1, 1]} if kind.startswith("Conv") else {}
        made.append(helper.make_node(kind, inputs, outputs, **(extra | ({"to": 1} if kind == "Cast" else {}))))
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", "y")]
    graph = helper.make_graph(made, "g", values[:1], values[1:], [numpy_helper.from_array(constant, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openvino", metavar="PYTHON", help="an interpreter that has numpy and openvino")
    asked = parser.parse_args()
    fix_threads()
    figures = {"silero_vad": silero(), "convolution": convolution()}
    print(json.dumps(figures), flush=True)
    found = minilm()
    contents = found.pop("contents")
    if asked.openvino:
        found["openvino"] = in_openvino(asked.openvino, contents)
    figures[CASE] = found
    record.save("quantize_transformers", figures, unit="CPU time of float32 over the file's, 1 thread")


if __name__ == "__main__":
    main()
