"""CPU time of decoders with a ConvTranspose: float32, int8 around it, and int8 with it as a convolution and a move.

    python -m benchmarks.int8_upsample

Each is a 1×1 convolution, a ConvTranspose with kernel and stride 2, a Relu and a 1×1 convolution; onnxruntime, one
thread, in turn in one process; ratios of float32's time over the other's. Goes to results/int8_upsample.json.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper, shape_inference

from benchmarks import record
from benchmarks.int8_speed import timed
from edgec import frontends, quantize
from edgec.data import Dataset

# Input and output channels of the ConvTranspose, height and width it reads.
LAYERS = ((24, 24, 80), (64, 32, 32), (128, 64, 16), (256, 128, 16))


def decoder(channels: int, out: int, size: int) -> ir.Model:
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.1, (channels, 32, 1, 1)),
        "up": rng.normal(0, 0.1, (channels, out, 2, 2)),
        "b": rng.normal(0, 0.1, out),
        "w2": rng.normal(0, 0.1, (32, out, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], name="before"),
        helper.make_node("ConvTranspose", ["c", "up", "b"], ["t"], name="up", strides=[2, 2]),
        helper.make_node("Relu", ["t"], ["r"], name="act"),
        helper.make_node("Conv", ["r", "w2"], ["y"], name="behind"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 2 * size, 2 * size])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return ir.from_proto(shape_inference.infer_shapes(model))


def main() -> None:
    rows: list[dict[str, Any]] = []
    for channels, out, size in LAYERS:
        model = decoder(channels, out, size)
        x = np.random.default_rng(1).normal(0, 1, (1, 32, size, size)).astype(np.float32)
        data = Dataset.of([{"x": x}] * 2, model.graph.inputs)
        made = {"float32": model}
        for name, exclude in (("int8 around it", ["up"]), ("int8", [])):
            made[name] = quantize.quantize_with_data(model, data, effort="plain", arch="", exclude=exclude).model
        seconds = timed({n: frontends.save_bytes(m) for n, m in made.items()}, {"x": x})
        row: dict[str, Any] = {"layer": [channels, out, size]}
        row["float_us"] = round(1e6 * float(np.median(seconds["float32"])), 1)
        row |= {n: record.ratio(seconds["float32"], seconds[n]) for n in made if n != "float32"}
        rows.append(row)
        print(f"{channels:4d} → {out:4d}, {size} × {size}: float {row['float_us']} µs, int8 around it × "
              f"{row['int8 around it']['median']:.2f}, int8 × {row['int8']['median']:.2f}", flush=True)  # fmt: skip
    record.save("int8_upsample", rows, unit="CPU time of float32 over int8's, 1 thread")


if __name__ == "__main__":
    main()
