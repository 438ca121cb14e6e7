"""Resize: RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR where they compute the same, else exactly by gathers.

Resizing is linear and separable: for each axis a matrix says how much of each input element an output element holds.
ONNX Runtime itself gives the matrix, by resizing the identity. Whether one of TFLite's modes is the same is then seen
by comparing matrices. Where none is, the few input elements of each output element are gathered and weighted.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.registry import Fixed, Layout, Refusal, channels_last, identity, operator
from edgec_targets.emitters.litert.values import array, given, number, rank, shape, text

_TOLERANCE = 1e-5
"""Of a weight: what float32 coordinates differ by."""
_TAPS = 8
_MODES = ((False, True), (True, False), (False, False))
"""(align_corners, half_pixel_centers)."""


def _layout(node: ir.Node) -> Layout:
    of = rank(node.inputs[0])
    last = channels_last(of) if of == 4 else identity(of)
    return Fixed({0: (last,)}, {0: last})


@operator("Resize", "Upsample", layout=_layout)
def resize(ctx: Context, node: ir.Node) -> None:
    """By TFLite's operator over H and W, or axis by axis."""
    dims, out_dims = shape(node.inputs[0]), shape(node.outputs[0])
    last = channels_last(len(dims)) if len(dims) == 4 else identity(len(dims))
    mode = text(node, "mode", "nearest")
    x = ctx.get(node.inputs[0], last)
    matrices = {
        a: _matrix(node, a, dims[a], out_dims[a]) for a in range(len(dims)) if _changes(node, a, dims, out_dims)
    }
    if mode == "cubic" and x.dtype != "float32":
        raise Refusal("It resizes integers by cubic interpolation.")
    out = ctx.result(node, last)
    if len(dims) == 4 and set(matrices) <= {2, 3} and mode in ("nearest", "linear"):
        for align, half in _MODES:
            if all(_agrees(m, mode, align, half) for m in matrices.values()):
                name = "ResizeNearestNeighbor" if mode == "nearest" else "ResizeBilinear"
                code = "RESIZE_NEAREST_NEIGHBOR" if mode == "nearest" else "RESIZE_BILINEAR"
                size = ctx.numbers(out.shape[1:3])
                ctx.op(code, [x, size], (), f"{name}Options", out=out, alignCorners=align, halfPixelCenters=half)
                return
    for a, matrix in matrices.items():
        x = _taps(ctx, x, matrix, last.index(a))
    ctx.reshape(x, out.shape, out)


def _changes(node: ir.Node, axis: int, dims: tuple[int, ...], out: tuple[int, ...]) -> bool:
    scales = array(given(node, 2 if node.op_type == "Resize" else 1))
    scaled = scales is not None and scales.size == len(dims) and float(scales[axis]) != 1.0
    return dims[axis] != out[axis] or scaled


def _matrix(node: ir.Node, axis: int, size: int, out: int) -> np.ndarray:
    """out × size: what ONNX Runtime makes of each unit vector along this axis."""
    if text(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise Refusal("It crops (tf_crop_and_resize).", "Crop by a Slice instead.")
    if node.attributes.get("axes") is not None or text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        wanted = None
    else:
        wanted = array(given(node, 2 if node.op_type == "Resize" else 1))
    scale = float(wanted[axis]) if wanted is not None and wanted.size > axis else None
    names = ("coordinate_transformation_mode", "mode", "nearest_mode")
    texts = tuple((n, text(node, n, "")) for n in names if n in node.attributes)
    if node.op_type == "Upsample":
        plain = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        texts = (*plain.items(), ("mode", text(node, "mode", "nearest")))
    flags = ("antialias", "exclude_outside")
    numbers = tuple((n, int(node.attributes[n].as_int())) for n in flags if n in node.attributes)
    return _by_runtime(size, out, scale, texts, numbers, number(node, "cubic_coeff_a", -0.75))


@functools.lru_cache(maxsize=64)
def _by_runtime(
    size: int,
    out: int,
    scale: float | None,
    texts: tuple[tuple[str, str], ...],
    numbers: tuple[tuple[str, int], ...],
    cubic: float,
) -> np.ndarray:
    import onnxruntime as ort

    attributes: dict[str, Any] = {**dict(texts), **dict(numbers)}
    if attributes.get("mode") == "cubic":
        attributes["cubic_coeff_a"] = cubic
    # Four axes, of which two stay: the form that all of the engine's kernels take.
    sizes, scales = [1, 1, out, size], [1.0, 1.0, scale or 1.0, 1.0]
    if scale is not None:
        given_as = helper.make_tensor("k", onnx.TensorProto.FLOAT, [4], scales)
        inputs = ["x", "", "k"]
    else:
        given_as = helper.make_tensor("k", onnx.TensorProto.INT64, [4], sizes)
        inputs = ["x", "", "", "k"]
    graph = helper.make_graph(
        [helper.make_node("Resize", inputs, ["y"], **attributes)],
        "resize",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, size, size])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [given_as],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (result,) = session.run(None, {"x": np.eye(size, dtype=np.float32)[None, None]})
    except Exception as e:  # the engine's own classes, one a status code
        raise Refusal(f"ONNX Runtime doesn't resize so: {' '.join(str(e).split())[:160]}") from e
    found: np.ndarray = np.asarray(result)[0, 0]
    return found


def _agrees(matrix: np.ndarray, mode: str, align: bool, half: bool) -> bool:
    """Whether TFLite's kernel computes this matrix (tflite/kernels/internal/reference/resize_*.h)."""
    out, size = matrix.shape
    scale = np.float32((size - 1) / (out - 1)) if align and out > 1 else np.float32(size / out)
    at = (np.arange(out, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
    own = np.zeros((out, size), np.float32)
    rows = np.arange(out)
    if mode == "nearest":
        index = np.floor(at + np.float32(0.5)) if align else np.floor(at)
        own[rows, np.clip(index, 0, size - 1).astype(int)] = 1
    else:
        at = at - np.float32(0.5 if half else 0)
        low = np.maximum(np.floor(at), 0).astype(int)
        high = np.minimum(np.ceil(at).astype(int), size - 1)
        share = at - np.floor(at) if not half else at - low
        share = np.where(at < 0, 0, share)
        np.add.at(own, (rows, np.minimum(low, size - 1)), 1 - share)
        np.add.at(own, (rows, high), share)
    return bool(np.abs(own - matrix).max() < _TOLERANCE)


def _taps(ctx: Context, x: Tensor, matrix: np.ndarray, axis: int) -> Tensor:
    """Σ over taps of GATHER(x, index) · weight."""
    places = [np.flatnonzero(row) for row in matrix]
    count = max(len(p) for p in places)
    if count > _TAPS:
        raise Refusal(f"Each of its results takes {count} elements along an axis.", "Use an average pool.")
    dims = (*x.shape[:axis], len(places), *x.shape[axis + 1 :])
    total: Tensor | None = None
    for n in range(count):
        index = np.array([p[n] if n < len(p) else p[0] for p in places], np.int32)
        weights = np.array([row[p[n]] if n < len(p) else 0 for row, p in zip(matrix, places, strict=True)], np.float32)
        part = ctx.op("GATHER", [x, ctx.numbers(index)], dims, "GatherOptions", axis=axis)
        if not np.all(weights == 1):
            shaped = weights.reshape((-1,) + (1,) * (len(dims) - axis - 1))
            part = ctx.broadcast("MUL", part, ctx.file.constant(shaped))
        total = part if total is None else ctx.broadcast("ADD", total, part)
    assert total is not None
    return total
