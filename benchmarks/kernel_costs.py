"""The figures behind `edgec/quantize/placement/costs.py`: onnxruntime's float and int8 convolutions, layer by layer.

    python -m benchmarks.kernel_costs

Each layer is a model of its own, run 60 times with onnxruntime's profile, one thread; the 20th percentile of its
kernel's time stands beside what `costs.py` says. Written to results/kernel_costs.json with the ratio of the two.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from benchmarks import record
from edgec import quantize
from edgec.data import Dataset
from edgec.measure.interleaved import percentile
from edgec.quantize.placement.costs import node_cost

# input channels, output channels, kernel, height, width, groups, stride
LAYERS = (
    *((i, o, 1, h, w, 1, 1) for i, o in ((8, 32), (16, 96), (32, 32), (64, 64), (200, 32), (256, 256)) for h, w in
      ((2, 96), (30, 40), (60, 80))),
    *((c, c, k, h, w, c, 1) for c in (8, 16, 32, 96, 256) for k in (3, 5) for h, w in ((2, 96), (15, 20), (60, 80))),
    (3, 16, 3, 240, 320, 1, 2), (3, 32, 3, 224, 224, 1, 2), (3, 8, 3, 48, 192, 1, 2), (3, 16, 3, 32, 32, 1, 1),
    (16, 16, 3, 30, 40, 1, 1), (32, 32, 3, 16, 16, 1, 1), (64, 64, 3, 8, 8, 1, 1), (64, 64, 3, 30, 40, 1, 1),
)  # fmt: skip


def layer(i: int, o: int, k: int, h: int, w: int, groups: int, stride: int) -> ir.Model:
    weight = np.random.default_rng(0).normal(0, 0.1, (o, i // groups, k, k)).astype(np.float32)
    conv = helper.make_node(
        "Conv", ["x", "w"], ["y"], name="conv", group=groups, strides=[stride] * 2, pads=[k // 2] * 4
    )
    shape = [1, o, (h + 2 * (k // 2) - k) // stride + 1, (w + 2 * (k // 2) - k) // stride + 1]
    graph = helper.make_graph(
        [conv], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, i, h, w])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def profiled(model: ir.Model, feed: dict[str, Any], kinds: tuple[str, ...]) -> float:
    """Nanoseconds of the kernel, 20th percentile."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options: Any = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/p"
        session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, ["CPUExecutionProvider"])
        for _ in range(60):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    found = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found[event["args"]["op_name"]].append(1e3 * event["dur"])
    return next(percentile(found[kind], 0.2) for kind in kinds if kind in found)


def main() -> None:
    rows = []
    for shape in LAYERS:
        model = layer(*shape)
        x = np.random.default_rng(1).random((1, shape[0], *shape[3:5]), np.float32)
        data = Dataset.of([{"x": x}] * 2, model.graph.inputs)
        int8 = quantize.quantize_with_data(model, data, effort="plain", arch="").model
        cost = node_cost(next(iter(model.graph)))
        measured = profiled(model, {"x": x}, ("Conv", "FusedConv")), profiled(int8, {"x": x}, ("QLinearConv",))
        rows.append({"layer": shape, "float_ns": measured[0], "int8_ns": measured[1],
                     "float_model_ns": round(cost.in_float), "int8_model_ns": round(cost.in_integer)})  # fmt: skip
        print(f"{shape!s:34} float {measured[0]:9.0f} ({cost.in_float:9.0f})  int8 {measured[1]:9.0f}"
              f" ({cost.in_integer:9.0f})  × {measured[0] / measured[1]:.2f} ({cost.in_float / cost.in_integer:.2f})",
              flush=True)  # fmt: skip
    off = [abs(np.log(r["float_model_ns"] / r["int8_model_ns"] / (r["float_ns"] / r["int8_ns"]))) for r in rows]
    print(f"the model's ratio is off by a factor of {np.exp(statistics.median(off)):.2f} in the median")
    record.save("kernel_costs", rows)


if __name__ == "__main__":
    main()
