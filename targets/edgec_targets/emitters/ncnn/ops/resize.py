"""Resize, where ncnn's Interp computes the same: the proof after the conversion has the last word."""

from __future__ import annotations

import onnx_ir as ir

from edgec_targets.emitters.ncnn.context import Context
from edgec_targets.emitters.ncnn.ops.pooling import image
from edgec_targets.emitters.ncnn.registry import Refusal, operator
from edgec_targets.emitters.ncnn.values import integer, need, real, text

_NEAREST, _LINEAR, _CUBIC = 1, 2, 3


@operator("Resize", "Upsample")
def resize(ctx: Context, node: ir.Node) -> None:
    """Interp to the output's size. Nearest takes floor of asymmetric places; the others half pixels or corners."""
    dims, after = image(need(node, 0)), image(node.outputs[0])
    if len(dims) != 3 or dims[0] != after[0]:
        raise Refusal("It resizes something else than the two axes of an image.")
    kind = {"nearest": _NEAREST, "linear": _LINEAR, "cubic": _CUBIC}.get(text(node, "mode", "nearest"))
    places = text(node, "coordinate_transformation_mode", "half_pixel")
    if node.op_type == "Upsample":
        places = "asymmetric"
    if kind is None or integer(node, "antialias") or integer(node, "exclude_outside"):
        raise Refusal("Its mode, antialias or exclude_outside has no like in ncnn.")
    scale = [after[1] / dims[1], after[2] / dims[2]]
    whole = all(s >= 1 and s == int(s) for s in scale)
    if kind == _NEAREST:
        floor = text(node, "nearest_mode", "round_prefer_floor") == "floor" or node.op_type == "Upsample"
        half = places in ("half_pixel", "pytorch_half_pixel") and whole and not floor
        if not (half or (places == "asymmetric" and floor)):
            raise Refusal(f"It takes the nearest by {places}; ncnn takes floor of asymmetric places.")
    elif places not in ("half_pixel", "align_corners", "pytorch_half_pixel"):
        raise Refusal(f"It finds places by {places}; ncnn by half pixels or corners.")
    if kind == _CUBIC and real(node, "cubic_coeff_a", -0.75) != -0.75:
        raise Refusal("Its cubic coefficient is not -0.75.")
    params = {0: kind, 1: scale[0], 2: scale[1], 3: after[1], 4: after[2], 6: int(places == "align_corners")}
    ctx.put(node.outputs[0], ctx.op("Interp", [ctx.view(need(node, 0), dims)], after, params))
