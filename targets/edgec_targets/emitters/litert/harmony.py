"""Scales by which ONNX Runtime and LiteRT add integers alike: the result's scale is moved by some ten-thousandths.

Both engines round the same sums, one in float32, one in fixed point, and near the middle between two integers they may
part (`exact`). For which sums they are near it depends on the scales; a few steps of 1/8192 of the scale find one with
no such sum among all 65,536. The Q/DQ model gets that scale, so both payloads made of it have it: equal answers by
construction, at no cost when they run. One step of an integer in 8192 is far below what rounding to eight bits loses.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert import exact, fusion, ranks, units
from edgec_targets.emitters.litert.file import Quantization
from edgec_targets.emitters.litert.prepare import prepare
from edgec_targets.emitters.litert.quantizers import parameters
from edgec_targets.emitters.litert.schema import schema
from edgec_targets.emitters.litert.values import array

_STEP, _STEPS = 2.0**-13, 24
_CODES = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL"}


def harmonize(model: ir.Model) -> tuple[ir.Model, dict[str, int]]:
    """A copy of a Q/DQ model with such scales, and for each addition that stays apart the number of differing pairs.

    The model itself, where nothing had to change. Scales that other tensors of other values share are left alone.
    """
    result = model.clone()
    # A scale may be the input of the next addition: in the graph's order, each once, with what the ones before became.
    apart: dict[str, int] = {}
    changed = False
    for name, code, sources, fused in _additions(model):
        a, b, out = (_quantization(result, n) for n in (*sources, name))
        if a is None or b is None or out is None:
            continue
        before = exact.differing(code, a, b, out, fused, False)
        if not before:
            continue
        found = next((s for s in _candidates(out) if not exact.differing(code, a, b, s, fused, False)), None)
        if found is None:
            apart[name] = before
        elif _rescale(result, name, found.scale[0]):
            changed = True
        else:
            apart[name] = before
    if not changed:
        return model, apart
    _rescale_biases(result)
    return result, apart


def _additions(model: ir.Model) -> list[tuple[str, str, list[str], int]]:
    """Integer additions and products as the writer sees them: result, operator, operands, activation.

    Names of values are those that QuantizeLinear gives them in the model.
    """
    prepared, problems = prepare(model)
    if problems:
        return []
    ranks.align(prepared)
    fusion.fuse(prepared)
    table = units.fold(prepared)
    found = []
    for node in prepared.graph:
        if node.op_type in _CODES and node.domain in ("", "ai.onnx") and node.outputs[0] in table:
            names = [str(v.name) for v in node.inputs if v is not None]
            fused = int(getattr(schema().ActivationFunctionType, fusion.fused(node)))
            found.append((str(node.outputs[0].name), _CODES[node.op_type], names, fused))
    return found


def _quantizer(model: ir.Model, name: str) -> ir.Node | None:
    """The QuantizeLinear that makes the value, or what an integer mover makes it of."""
    for node in model.graph:
        if any(o.name == name for o in node.outputs):
            return node if node.op_type == "QuantizeLinear" else None
    return None


def _quantization(model: ir.Model, name: str) -> Quantization | None:
    node = _quantizer(model, name)
    return None if node is None else parameters(node)


def _candidates(found: Quantization) -> list[Quantization]:
    """Scales near this one, the nearest first."""
    steps = [sign * n for n in range(1, _STEPS + 1) for sign in (1, -1)]
    scales = [float(np.float32(found.scale[0] * (1 + k * _STEP))) for k in steps]
    return [Quantization((s,), found.zero_point, found.axis) for s in scales]


def _rescale(model: ir.Model, name: str, scale: float) -> bool:
    """Give the value that scale, in every Q and DQ of it. False, and nothing done, where others use the constant."""
    node = _quantizer(model, name)
    old = node.inputs[1] if node is not None else None
    if node is None or old is None or old.name is None:
        return False
    own = {name}
    users = [use.node for use in old.uses()]
    for user in users:
        if user.op_type == "QuantizeLinear":
            own.add(str(user.outputs[0].name))
    for user in users:
        known = user.op_type == "QuantizeLinear" or (
            user.op_type == "DequantizeLinear" and user.inputs[0] is not None and user.inputs[0].name in own
        )
        if not known:
            return False
    readers = [use.node for use in node.outputs[0].uses()]
    if any(r.op_type == "DequantizeLinear" and r.inputs[1] is not old for r in readers):
        return False
    kind = old.const_value.numpy().dtype if old.const_value is not None else np.dtype(np.float32)
    shape = old.const_value.numpy().shape if old.const_value is not None else ()
    old.const_value = ir.Tensor(np.full(shape, scale, kind), name=old.name)
    return True


def _rescale_biases(model: ir.Model) -> None:
    """An int32 bias has the scale of its layer's input times that of its weights: say so again."""
    for node in model.graph:
        index = units.WEIGHTED.get(node.op_type)
        if index is None or len(node.inputs) <= index:
            continue
        makers = [v.producer() if v is not None else None for v in (node.inputs[0], node.inputs[1], node.inputs[index])]
        x, w, b = makers
        if x is None or w is None or b is None or any(m.op_type != "DequantizeLinear" for m in (x, w, b)):
            continue
        of_x, of_w, of_b = (array(m.inputs[1]) for m in (x, w, b))
        value = b.inputs[1]
        if of_x is None or of_w is None or of_b is None or value is None or len(value.uses()) != 1:
            continue
        wanted = np.asarray(of_x * of_w, np.float32).reshape(of_b.shape)
        value.const_value = ir.Tensor(wanted, name=value.name)
