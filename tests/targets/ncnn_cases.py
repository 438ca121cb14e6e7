"""ONNX graphs for the ncnn emitter's tests, and how one is held against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import helper, numpy_helper

from edgec_runtime.engines import ncnn
from edgec_runtime.payload import StoredPayload
from edgec_targets.emitters.ncnn.conversion import Written, convert
from edgec_targets.emitters.ncnn.prove import sqnr

LEAST_DB = 90.0  # with small tensors; winograd and ncnn's own exp and tanh take some


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 21,
) -> ir.Model:
    """A checked model of float32 inputs; outputs' shapes are left to inference, which knows not all of them."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(data), name) for name, data in (constants or {}).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    proto = onnx.shape_inference.infer_shapes(proto)
    if all(output.type.tensor_type.HasField("shape") for output in proto.graph.output):
        onnx.checker.check_model(proto)
    return ir.from_proto(proto)


def single(
    op: str, shapes: Sequence[Sequence[int]], constants: Sequence[Any] = (), *, opset: int = 21, **attributes: Any
) -> ir.Model:
    """One node: its inputs are x0, x1, …, then the constants ("" leaves one out)."""
    names = [f"x{n}" for n in range(len(shapes))]
    given = {f"k{n}": np.asarray(c) for n, c in enumerate(constants) if not isinstance(c, str)}
    tail = ["" if isinstance(c, str) else f"k{n}" for n, c in enumerate(constants)]
    node = helper.make_node(op, [*names, *tail], ["y"], name="n", **attributes)
    return model([node], dict(zip(names, shapes, strict=True)), ["y"], given, opset)


def run(written: Written, folder: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by the device's adapter, in this process."""
    paths = {}
    for role, data in (("param", written.param), ("bin", written.bin), ("interface", written.interface)):
        paths[role] = str(folder / role)
        Path(paths[role]).write_bytes(data)
    payload = StoredPayload({"files": paths}, paths)
    payload.proven = ncnn.library().stamp()
    executable = ncnn.Engine().load(payload, {"threads": 1})
    names = [tensor.name for tensor in executable.outputs]
    found = dict(zip(names, executable.run(names, feeds), strict=True))
    executable.close()
    return found


def reference(made: ir.Model, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """ONNX Runtime's outputs."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(ir.to_proto(made).SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def feeds(made: ir.Model, low: float = -2.0, high: float = 2.0, seed: int = 0) -> dict[str, np.ndarray]:
    """Uniform inputs."""
    rng = np.random.default_rng(seed)
    return {
        str(value.name): rng.uniform(low, high, [int(d) for d in value.shape]).astype(np.float32)
        for value in made.graph.inputs
    }


def compare(made: ir.Model, folder: Path, low: float = -2.0, high: float = 2.0, least: float = LEAST_DB) -> Written:
    """Assert that the model is written and that its answers are ONNX Runtime's."""
    written = convert(made)
    assert not written.problems, written.problems
    given = feeds(made, low, high)
    found, wanted = run(written, folder, given), reference(made, given)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].shape == array.shape and found[name].dtype == array.dtype
        assert sqnr(array, found[name]) >= least, f"{name}: {sqnr(array, found[name]):.0f} dB"
    return written
