"""Small models for the tests of fusions: seeded weights, and a pass held to a model's answers."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgec import passes
from edgec.passes.check import outputs_check


def weights(seed: int = 3, /, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """float32 numbers between 0.5 and 2: no division by nearly nothing."""
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.5, 2, shape).astype(np.float32) for name, shape in shapes.items()}


def fused(text: str, arrays: dict[str, np.ndarray], feeds: dict[str, np.ndarray], *names: str) -> dict[str, int]:
    """Node counts after the passes; the check raises where an output moved."""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(d), n) for n, d in arrays.items())
    model = ir.from_proto(proto)
    passes.run(model, names, check=outputs_check(proto.SerializeToString(), [feeds], tolerance=1e-5))
    return passes.counts(model)
