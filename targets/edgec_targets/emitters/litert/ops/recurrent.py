"""LSTM, GRU and RNN of a fixed number of steps, step by step, with their states as inputs and outputs.

TFLite's UNIDIRECTIONAL_SEQUENCE_LSTM keeps its state in variables that live from call to call, and can neither begin
with a given state nor with zeros again: it computes something else than ONNX's LSTM. What reads the inputs alone is
one matrix product over all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.ops.products import fully_connected
from edgec_targets.emitters.litert.registry import Refusal, operator
from edgec_targets.emitters.litert.values import array, given, integer, shape, text, used

_STEPS = 512
"""Ten operators a step: beyond this a file would be mostly structure."""
_FUNCTIONS: dict[str, tuple[str, str | None]] = {
    "Relu": ("RELU", None),
    "Sigmoid": ("LOGISTIC", None),
    "Tanh": ("TANH", None),
}
Step = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
"""What the inputs give to all gates, state h, state c → the states after the step."""


@dataclass(frozen=True)
class _Direction:
    """One direction's weights: gates × inputs, gates × units, both biases."""

    w: np.ndarray
    r: np.ndarray
    wb: np.ndarray
    rb: np.ndarray
    functions: tuple[str, ...]


@operator("LSTM")
def lstm(ctx: Context, node: ir.Node) -> None:
    """Gates i o f c. h' = o · tanh(c'), c' = f · c + i · c~."""
    if given(node, 7) is not None:
        raise Refusal("It has peepholes.")
    if integer(node, "input_forget", 0):
        raise Refusal("It couples input and forget gates.")

    def make(d: _Direction) -> tuple[np.ndarray, np.ndarray, Step]:
        gate, cell, hidden = (_FUNCTIONS[f] for f in d.functions)
        recurrent = ctx.constant(d.r.copy())
        units = d.r.shape[1]

        def step(x: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
            assert c is not None
            total = ctx.broadcast("ADD", x, fully_connected(ctx, h, recurrent, None, None, 0))
            gates = ctx.unary(gate[0], _columns(ctx, total, 0, 3 * units), None, gate[1])
            i, o, f = (_columns(ctx, gates, n * units, units) for n in range(3))
            fresh = ctx.unary(cell[0], _columns(ctx, total, 3 * units, units), None, cell[1])
            after = ctx.broadcast("ADD", ctx.broadcast("MUL", f, c), ctx.broadcast("MUL", i, fresh))
            return ctx.broadcast("MUL", o, ctx.unary(hidden[0], after, None, hidden[1])), after

        return d.w, d.wb + d.rb, step

    _sequence(ctx, node, 4, ("Sigmoid", "Tanh", "Tanh"), make)


@operator("GRU")
def gru(ctx: Context, node: ir.Node) -> None:
    """Gates z r h. h' = (1 − z) · h~ + z · h, with the reset before or after the matrix product."""
    after_product = bool(integer(node, "linear_before_reset", 0))

    def make(d: _Direction) -> tuple[np.ndarray, np.ndarray, Step]:
        gate, fresh = (_FUNCTIONS[f] for f in d.functions)
        units = d.r.shape[1]
        both, candidate = ctx.constant(d.r[: 2 * units].copy()), ctx.constant(d.r[2 * units :].copy())
        bias = d.wb.copy()
        bias[: 2 * units] += d.rb[: 2 * units]
        if not after_product:
            bias[2 * units :] += d.rb[2 * units :]
        own = ctx.file.constant(d.rb[2 * units :].copy())

        def step(x: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
            total = ctx.broadcast("ADD", _columns(ctx, x, 0, 2 * units), fully_connected(ctx, h, both, None, None, 0))
            gates = ctx.unary(gate[0], total, None, gate[1])
            z, r = _columns(ctx, gates, 0, units), _columns(ctx, gates, units, units)
            if after_product:
                part = ctx.broadcast("MUL", r, fully_connected(ctx, h, candidate, own, None, 0))
            else:
                part = fully_connected(ctx, ctx.broadcast("MUL", r, h), candidate, None, None, 0)
            new = ctx.unary(fresh[0], ctx.broadcast("ADD", _columns(ctx, x, 2 * units, units), part), None, fresh[1])
            # (1 − z) · new + z · h = new + z · (h − new)
            return ctx.broadcast("ADD", new, ctx.broadcast("MUL", z, ctx.broadcast("SUB", h, new))), None

        return d.w, bias, step

    _sequence(ctx, node, 3, ("Sigmoid", "Tanh"), make)


@operator("RNN")
def rnn(ctx: Context, node: ir.Node) -> None:
    """h' = f(W x + R h + b)."""

    def make(d: _Direction) -> tuple[np.ndarray, np.ndarray, Step]:
        function = _FUNCTIONS[d.functions[0]]
        recurrent = ctx.constant(d.r.copy())

        def step(x: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
            total = ctx.broadcast("ADD", x, fully_connected(ctx, h, recurrent, None, None, 0))
            return ctx.unary(function[0], total, None, function[1]), None

        return d.w, d.wb + d.rb, step

    _sequence(ctx, node, 1, ("Tanh",), make)


def _sequence(
    ctx: Context,
    node: ir.Node,
    gates: int,
    defaults: tuple[str, ...],
    make: Callable[[_Direction], tuple[np.ndarray, np.ndarray, Step]],
) -> None:
    """All directions over all steps, and the results that are used."""
    batch_first = bool(integer(node, "layout", 0))
    dims = shape(node.inputs[0])
    steps, batch = (dims[1], dims[0]) if batch_first else (dims[0], dims[1])
    directions = _directions(node, gates, defaults, steps, batch)
    x = ctx.input(node, 0)
    if batch_first:
        x = ctx.transpose(x, (1, 0, 2))
    flat = ctx.reshape(x, (steps * batch, dims[2]))
    order = text(node, "direction", "forward")
    ys, hs, cs = [], [], []
    for n, direction in enumerate(directions):
        units = direction.r.shape[1]
        w, b, step = make(direction)
        given_all = fully_connected(ctx, flat, ctx.constant(w.copy()), ctx.file.constant(b), None, 0)
        backwards = order == "reverse" or n == 1
        h = _initial(ctx, node, 5, n, batch, units, batch_first)
        c = _initial(ctx, node, 6, n, batch, units, batch_first) if node.op_type == "LSTM" else None
        outs: list[Tensor] = []
        for t in reversed(range(steps)) if backwards else range(steps):
            h, c = step(_rows(ctx, given_all, t * batch, batch), h, c)
            outs.append(h)
        ys.append(outs[::-1] if backwards else outs)
        hs.append(h)
        cs.append(c)
    _results(ctx, node, ys, hs, cs, batch_first)


def _results(
    ctx: Context,
    node: ir.Node,
    ys: list[list[Tensor]],
    hs: list[Tensor],
    cs: list[Tensor | None],
    batch_first: bool,
) -> None:
    """Y as steps × directions × batch × units, Y_h and Y_c as directions × batch × units; batch first with layout 1."""
    batch, units = hs[0].shape
    steps, count = len(ys[0]), len(ys)
    if used(node, 0):
        parts = [ctx.reshape(ys[d][t], (1, 1, batch, units)) for t in range(steps) for d in range(count)]
        whole = _stack(ctx, parts, (steps * count, 1, batch, units))
        whole = ctx.reshape(whole, (steps, count, batch, units))
        if batch_first:
            whole = ctx.transpose(whole, (2, 0, 1, 3))
        out = ctx.result(node)
        ctx.reshape(whole, out.shape, out)
    for index, states in ((1, hs), (2, cs)):
        if not used(node, index):
            continue
        found = [s for s in states if s is not None]
        whole = _stack(ctx, [ctx.reshape(s, (1, batch, units)) for s in found], (count, batch, units))
        if batch_first:
            whole = ctx.transpose(whole, (1, 0, 2))
        out = ctx.result(node, index=index)
        ctx.reshape(whole, out.shape, out)


def _stack(ctx: Context, parts: list[Tensor], dims: tuple[int, ...]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    return ctx.op("CONCATENATION", parts, dims, "ConcatenationOptions", axis=0)


def _directions(node: ir.Node, gates: int, defaults: tuple[str, ...], steps: int, batch: int) -> list[_Direction]:
    if steps > _STEPS:
        raise Refusal(
            f"It has {steps} steps; more than {_STEPS}, step by step, make too large a file.",
            "Feed shorter pieces and carry the state.",
        )
    if node.attributes.get("clip") is not None:
        raise Refusal("It clips.")
    lengths = given(node, 4)
    if lengths is not None and (array(lengths) is None or np.any(array(lengths) != steps)):
        raise Refusal("Its sequences have lengths of their own.", "Export it without sequence_lens.")
    w, r, b = (_constant(node, i) for i in (1, 2, 3))
    if w is None or r is None:
        raise Refusal("Its weights are computed by the model.")
    count, units = r.shape[0], r.shape[2]
    if b is None:
        if given(node, 3) is not None:
            raise Refusal("Its bias is computed by the model.")
        b = np.zeros((count, 2 * gates * units), np.float32)
    attribute = node.attributes.get("activations")
    names = [str(s) for s in attribute.as_strings()] if attribute is not None else list(defaults) * count
    if node.attributes.get("activation_alpha") is not None or any(n not in _FUNCTIONS for n in names):
        raise Refusal(f"It has activations {', '.join(names)}; written are {', '.join(_FUNCTIONS)}.")
    each, half = len(defaults), gates * units
    return [
        _Direction(w[d], r[d], b[d, :half].copy(), b[d, half:].copy(), tuple(names[d * each : (d + 1) * each]))
        for d in range(count)
    ]


def _constant(node: ir.Node, index: int) -> np.ndarray | None:
    found = array(given(node, index))
    return None if found is None else found.astype(np.float32) if found.dtype != np.float32 else found


def _initial(
    ctx: Context, node: ir.Node, index: int, direction: int, batch: int, units: int, batch_first: bool
) -> Tensor:
    """The state that a direction begins with: given, or zeros."""
    value = given(node, index)
    if value is None:
        return ctx.file.constant(np.zeros((batch, units), np.float32))
    whole = ctx.get(value)
    if batch_first:
        whole = ctx.transpose(whole, (1, 0, 2))
    if whole.shape[0] > 1:
        begin, size = ctx.numbers([direction, 0, 0]), ctx.numbers([1, batch, units])
        whole = ctx.op("SLICE", [whole, begin, size], (1, batch, units), "SliceOptions")
    return ctx.reshape(whole, (batch, units))


def _columns(ctx: Context, x: Tensor, start: int, count: int) -> Tensor:
    if count == x.shape[1]:
        return x
    begin, size = ctx.numbers([0, start]), ctx.numbers([x.shape[0], count])
    return ctx.op("SLICE", [x, begin, size], (x.shape[0], count), "SliceOptions")


def _rows(ctx: Context, x: Tensor, start: int, count: int) -> Tensor:
    if count == x.shape[0]:
        return x
    begin, size = ctx.numbers([start, 0]), ctx.numbers([count, x.shape[1]])
    return ctx.op("SLICE", [x, begin, size], (count, x.shape[1]), "SliceOptions")
