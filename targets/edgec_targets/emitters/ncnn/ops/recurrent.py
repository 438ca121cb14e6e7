"""LSTM, GRU and RNN of one sequence, states in and out. ncnn holds a sequence as steps × inputs.

Gates: ONNX has i o f c and z r h; ncnn i f o g and r u n, with four biases for GRU's (r, u, and n's two).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.ncnn.context import Blob, Context
from edgec_targets.emitters.ncnn.file import Dims, Weights
from edgec_targets.emitters.ncnn.registry import Refusal, operator
from edgec_targets.emitters.ncnn.values import (
    array,
    given,
    integer,
    need,
    optional_weights,
    shape,
    text,
    used,
    weights,
)  # fmt: skip

_FUNCTIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_ORDER = {"LSTM": [0, 2, 1, 3], "GRU": [1, 0, 2], "RNN": [0]}
_DIRECTIONS = {"forward": 0, "reverse": 1, "bidirectional": 2}


@operator("LSTM", "GRU", "RNN")
def recurrent(ctx: Context, node: ir.Node) -> None:
    """One layer; its states are given and returned where the model does."""
    kind = node.op_type
    w, r = weights(node, 1, "weights"), weights(node, 2, "weights")
    directions, units = w.shape[0], integer(node, "hidden_size")
    _check(node, directions)
    bias = optional_weights(node, 3, "bias")
    bias = np.zeros((directions, 2 * w.shape[1]), np.float32) if bias is None else bias
    steps = shape(need(node, 0))[0]
    x = ctx.view(need(node, 0), (steps, w.shape[2]))
    states = [given(node, index) for index in ((5, 6) if kind == "LSTM" else (5,))]
    wanted = [used(node, n + 1) for n in range(len(states))]
    inputs = [x]
    if any(state is not None for state in states) or any(wanted):
        inputs += [_state(ctx, state, (directions, units)) for state in states]
    params = {0: units, 1: w.size, 2: _DIRECTIONS[text(node, "direction", "forward")]}
    stored = [_gates(w, kind), _biases(bias, kind, units), _gates(r, kind)]
    dims = [(steps, directions * units), *[(directions, units)] * (len(inputs) - 1)]
    names = ctx.file.layer(kind, [blob.name for blob in inputs], dims, params, stored)
    if used(node, 0):  # [steps, directions, 1, units]: each step's directions lie side by side in both
        ctx.put(node.outputs[0], Blob(names[0], (steps, directions * units)))
    for n, want in enumerate(wanted):
        if want:
            ctx.put(node.outputs[n + 1], Blob(names[n + 1], (directions, units)))


def _state(ctx: Context, value: ir.Value | None, dims: Dims) -> Blob:
    """A state; zeros where none is given."""
    return ctx.constant(np.zeros(dims, np.float32), dims) if value is None else ctx.view(value, dims)


def _check(node: ir.Node, directions: int) -> None:
    kind = node.op_type
    if shape(need(node, 0))[1] != 1 or integer(node, "layout"):
        raise Refusal("It takes a batch; ncnn takes one sequence at a time.")
    lengths = array(given(node, 4))
    if given(node, 4) is not None and (lengths is None or (lengths != shape(need(node, 0))[0]).any()):
        raise Refusal("Its sequence lengths are not those of its input.")
    if given(node, 7) is not None or "clip" in node.attributes or integer(node, "input_forget"):
        raise Refusal("It has peepholes, a clip, or couples its gates.")
    if kind == "GRU" and not integer(node, "linear_before_reset"):
        raise Refusal("It resets before the matrix product (linear_before_reset=0); ncnn resets after it.")
    functions = node.attributes.get("activations")
    if functions is not None and list(functions.as_strings()) != _FUNCTIONS[kind] * directions:
        raise Refusal(f"Its activations are {list(functions.as_strings())}; ncnn has {_FUNCTIONS[kind]}.")


def _gates(values: np.ndarray, kind: str) -> Weights:
    """Directions × gates · units × inputs, in ncnn's order of gates."""
    return Weights(_ordered(values.reshape(values.shape[0], len(_ORDER[kind]), -1), _ORDER[kind]), tagged=True)


def _biases(bias: np.ndarray, kind: str, units: int) -> Weights:
    order = _ORDER[kind]
    both = bias.reshape(bias.shape[0], 2, len(order), units)
    if kind != "GRU":
        return Weights(_ordered(both.sum(axis=1), order), tagged=True)
    summed = both.sum(axis=1)
    rows = [summed[:, 1], summed[:, 0], both[:, 0, 2], both[:, 1, 2]]
    return Weights(np.stack(rows, axis=1), tagged=True)


def _ordered(values: np.ndarray, order: Sequence[int]) -> np.ndarray:
    return np.ascontiguousarray(values[:, order])
