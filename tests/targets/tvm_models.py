"""Small models for the tests of the TVM payload, and the compiler's steps up to answers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from edgec_targets import registry


def board(name: str = "host") -> Any:
    found = registry.board(name)
    return dataclasses.replace(found, engines={**found.engines, "tvm": ">=1,<2"})


def model(nodes: list[Any], inputs: dict[str, Any], outputs: list[str], weights: dict[str, np.ndarray]) -> Any:
    """An onnx_ir model; inputs are name -> shape of float32."""
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info(n, 1, shape) for n, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return ir.from_proto(onnx.shape_inference.infer_shapes(made))


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convnet(channels: int = 8) -> Any:
    """Convolution, depthwise, residual, pool, Gemm, Softmax."""
    c = channels
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["a"], name="first", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="depthwise", pads=[1, 1, 1, 1], group=c),
        helper.make_node("Clip", ["c", "zero", "six"], ["d"]),
        helper.make_node("Conv", ["d", "w3", "b1"], ["e"], name="pointwise"),
        helper.make_node("Add", ["e", "b"], ["f"]),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("Gemm", ["h", "w4", "b4"], ["i"], transB=1),
        helper.make_node("Softmax", ["i"], ["class"], axis=-1),
    ]
    weights = {
        "w1": random(c, 3, 3, 3), "b1": random(c), "w2": random(c, 1, 3, 3, seed=1), "w3": random(c, c, 1, 1, seed=2),
        "w4": random(10, c, seed=3), "b4": random(10, seed=4), "zero": np.float32(0), "six": np.float32(6),
    }  # fmt: skip
    return model(nodes, {"image": ["N", 3, 12, 10]}, ["class"], weights)


def checked(given: Any, vectors: Any, *, pick: int = 0, parallel: bool = False) -> Any:
    """Compile a model for this machine inside this process, as the child does, and compare with ONNX Runtime.

    Returns (program, scheduled). `pick` chooses among the candidates of each nest.
    """
    import tvm

    from edgec_targets.emitters.tvm import build, lower, program, proof, schedule
    from edgec_targets.emitters.tvm.prepare import prepare
    from edgec_targets.emitters.tvm.tiles import candidates

    prepared, problems = prepare(given)
    assert not problems, problems
    proto = ir.to_proto(prepared)
    lowered = lower.lower(proto, tvm.target.Target("llvm"))
    made = program.program(lowered)
    functions = build.kernels(lowered)
    nests = {n: nest for n, f in functions.items() if (nest := schedule.nest(f)) is not None}
    tiles = {}
    for nest in nests.values():
        found = candidates(nest, vectors)
        tiles[nest.key] = found[pick % len(found)]
    scheduled = build.scheduled(functions, nests, tiles, vectors, parallel=parallel)
    proof.check(proto, made, build.build(scheduled.module, tvm.target.Target("llvm")))
    return made, scheduled, nests
