"""Works out shape arithmetic (Shape, Gather, Slice, Concat, …) at compile time, dimensions known by name included."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common._c_api_utils import call_onnx_api

from edgec.passes import library, unused
from edgec.passes.naming import Names
from edgec.passes.report import Log
from edgec.passes.values import dimension, input_at, integers, is_op, same_shape, scalar

# A shape, an axis list, a slice bound: more elements than this are data, not shape arithmetic.
MOST_ELEMENTS = 64

_CONSTANT = "shape arithmetic to constant"
_RESHAPE = "Reshape to a constant shape"
_EXPAND = "Expand to the shape it has"

# What is known of an integer tensor: an object array whose items are an int, a dimension's name, or None (unknown).
Known = np.ndarray[Any, Any]


def infer(model: ir.Model) -> None:
    """Shape inference by ONNX, with data propagation, from the inputs on.

    What the file says of inner values is not believed where inference knows better: after somebody has made the batch
    of a model free, it may still say 1 everywhere. Where inference fails, and for operators that it does not know, the
    file's word stays. (onnx-ir's own pass keeps what the file says, and would write a tensor type on sequences.)
    """
    dims = (dimension(d) for v in model.graph.inputs if v.shape is not None for d in v.shape)
    named = {d for d in dims if d is not None}
    order = list(model.graph.initializers.values())
    with library.quiet(), contextlib.suppress(Exception):
        inferred = ir.from_proto(call_onnx_api(_infer, model))
        for graph, source in zip(model.graphs(), inferred.graphs(), strict=True):
            found = {v.name: v for n in source for v in n.outputs}
            for value in (v for n in graph for v in n.outputs):
                if (other := found.get(value.name)) is not None:
                    _refine(value, other, named)
    # The library takes large initializers out for the call and adds them again at the end: keep the file's order.
    model.graph.initializers.clear()
    for value in order:
        model.graph.initializers.add(value)


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    del proto.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True)


def _refine(value: ir.Value, inferred: ir.Value, named: set[int | str]) -> None:
    """Takes what inference found: numbers, and names that come from the inputs; else what is known already."""
    if value.type is None:
        value.type = inferred.type
    if inferred.shape is None:
        return
    if value.shape is None:
        value.shape = inferred.shape
    elif len(value.shape) == len(inferred.shape) and not value.is_graph_output():
        value.shape = ir.Shape(
            [
                b if dimension(a) is None or isinstance(b, int) or dimension(b) in named else a
                for a, b in zip(value.shape, inferred.shape, strict=True)
            ]
        )


def apply(model: ir.Model, log: Log) -> None:
    """Resolves shape arithmetic.

    1. An integer tensor computed from shapes, all of whose elements are known, becomes a constant, also where other
       dimensions of those shapes are not known: `Shape(x)[2:3]` of x: [batch, 3, 48, 192].
    2. A Reshape whose target is computed takes a constant: numbers where known, 0 where a dimension is that of its
       input, -1 for at most one that is neither.
    3. An Expand to the shape (by name) that its input has becomes Identity.
    4. Nothing is assumed of a dimension without a name, nor of an output's size where a dimension may be 0 and the
       target would need -1.
    """
    infer(model)
    names = Names(model)
    known: dict[ir.Value, Known | None] = {}
    for graph in list(model.graphs()):
        for node in graph:
            _track(node, known)
            if is_op(node, "Reshape"):
                _materialize(model, node, known, names, log)
            elif is_op(node, "Expand"):
                _drop_expand(node, known, log)
            else:
                _to_constant(model, node, known, names, log)
    unused.sweep(model)


def _dimensions(shape: ir.Shape | None) -> Known | None:
    if shape is None:
        return None
    return _objects([dimension(d) for d in shape])


def _objects(items: Any, shape: tuple[int, ...] | None = None) -> Known:
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out if shape is None else out.reshape(shape)


def _value(value: ir.Value | None, known: dict[ir.Value, Known | None]) -> Known | None:
    if value is None:
        return None
    if value in known:
        return known[value]
    constant = integers(value)
    if constant is None or len(constant) > MOST_ELEMENTS:
        return None
    return _objects(constant, () if value.shape is not None and len(value.shape) == 0 else None)


def _track(node: ir.Node, known: dict[ir.Value, Known | None]) -> None:
    """Records what is known of the node's output, where it is shape arithmetic."""
    transfer = _TRANSFER.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if transfer is None or len(node.outputs) != 1:
        return
    result = transfer(node, known)
    if result is not None and result.size <= MOST_ELEMENTS:
        known[node.outputs[0]] = result


def _shape(node: ir.Node, known: dict[ir.Value, Known | None]) -> Known | None:
    x = node.inputs[0]
    dims = _dimensions(x.shape) if x is not None else None
    if dims is None:
        return None
    end = node.attributes.get_int("end", None)
    return dims[node.attributes.get_int("start", 0) : len(dims) if end is None else end]


def _size(node: ir.Node, known: dict[ir.Value, Known | None]) -> Known | None:
    x = node.inputs[0]
    if x is None or x.shape is None or not all(isinstance(d, int) for d in x.shape):
        return None
    return _objects([int(np.prod([int(d) for d in x.shape], dtype=np.int64))], ())  # type: ignore[arg-type]


def _gather(node: ir.Node, known: dict[ir.Value, Known | None]) -> Known | None:
    x, indices = _value(node.inputs[0], known), _value(node.inputs[1], known)
    if x is None or indices is None or x.ndim != 1 or not _all_int(indices):
        return None
    picked = indices.astype(np.int64)
    if picked.size and (picked.min() < -len(x) or picked.max() >= len(x)):
        return None
    return np.take(x, picked) if picked.ndim else _objects([x[int(picked)]], ())


def _slice(node: ir.Node, known: dict[ir.Value, Known | None]) -> Known | None:
    x = _value(node.inputs[0], known)
    bounds = [integers(input_at(node, i)) if input_at(node, i) is not None else None for i in range(1, 5)]
    if x is None or x.ndim != 1 or bounds[0] is None or bounds[1] is None:
        return None
    for i in (3, 4):  # axes or steps that are there but not constant
        if input_at(node, i) is not None and bounds[i - 1] is None:
            return None
    axes, steps = bounds[2] or [0], bounds[3] or [1]
    if len(bounds[0]) != 1 or len(bounds[1]) != 1 or axes not in ([0], [-1]) or steps != [1]:
        return None
    return x[bounds[0][0] : bounds[1][0]]


def _concat(node: ir.Node, known: dict[ir.Value, Known | None]) -> Known | None:
    parts = [_value(v, known) for v in node.inputs]
    if any(p is None or p.ndim != 1 for p in parts) or node.attributes.get_int("axis", 0) not in (0, -1):
        return None
    return np.concatenate([p for p in parts if p is not None])


def _reshaped(node: ir.Node, known: dict[ir.Value, Known | None]) -> Known | None:
    """Squeeze, Unsqueeze and Reshape between a scalar and one dimension keep the elements."""
    x, output = _value(node.inputs[0], known), node.outputs[0]
    if x is None or output.shape is None or len(output.shape) > 1 or (len(output.shape) == 0 and x.size != 1):
        return None
    return x.reshape(-1) if len(output.shape) == 1 else x.reshape(())


def _copied(node: ir.Node, known: dict[ir.Value, Known | None]) -> Known | None:
    """Identity, and Cast between integer types wide enough for a dimension."""
    wide = (ir.DataType.INT64, ir.DataType.INT32)
    if is_op(node, "Cast") and node.attributes.get_int("to", 0) not in wide:
        return None
    if node.inputs[0] is None or node.inputs[0].dtype not in wide:
        return None
    return _value(node.inputs[0], known)


def _arithmetic(combine: Callable[[int, int], int]) -> Callable[[ir.Node, dict[ir.Value, Known | None]], Known | None]:
    def transfer(node: ir.Node, known: dict[ir.Value, Known | None]) -> Known | None:
        if len(node.inputs) != 2:
            return None
        a, b = _value(node.inputs[0], known), _value(node.inputs[1], known)
        if a is None or b is None or node.outputs[0].dtype not in (ir.DataType.INT64, ir.DataType.INT32):
            return None
        try:
            left, right = np.broadcast_arrays(a, b)
        except ValueError:
            return None
        items = [
            combine(x, y) if isinstance(x, int) and isinstance(y, int) else None
            for x, y in zip(left.reshape(-1), right.reshape(-1), strict=True)
        ]
        return _objects(items, left.shape) if all(i is None or abs(i) < 1 << 31 for i in items) else None

    return transfer


def _divide(a: int, b: int) -> int | None:
    """Integer division as ONNX means it: towards zero. Division by zero stays unknown."""
    return None if b == 0 else int(np.sign(a) * np.sign(b)) * (abs(a) // abs(b))


_TRANSFER: dict[str, Callable[[ir.Node, dict[ir.Value, Known | None]], Known | None]] = {
    "Shape": _shape,
    "Size": _size,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Squeeze": _reshaped,
    "Unsqueeze": _reshaped,
    "Reshape": _reshaped,
    "Cast": _copied,
    "Identity": _copied,
    "Add": _arithmetic(lambda a, b: a + b),
    "Sub": _arithmetic(lambda a, b: a - b),
    "Mul": _arithmetic(lambda a, b: a * b),
    "Div": _arithmetic(_divide),  # type: ignore[arg-type]
    "Min": _arithmetic(min),
    "Max": _arithmetic(max),
}


def _all_int(items: Known) -> bool:
    return all(isinstance(i, int | np.integer) for i in items.reshape(-1))


def _constant(model: ir.Model, data: np.ndarray[Any, Any], wish: str, names: Names) -> ir.Value:
    tensor = ir.Tensor(data)
    value = ir.Value(
        name=names.value(wish), type=ir.TensorType(tensor.dtype), shape=ir.Shape(data.shape), const_value=tensor
    )
    model.graph.register_initializer(value)
    return value


def _to_constant(model: ir.Model, node: ir.Node, known: dict[ir.Value, Known | None], names: Names, log: Log) -> None:
    """Case 1."""
    if len(node.outputs) != 1 or not node.outputs[0].uses() or node.outputs[0].is_graph_output():
        return
    output = node.outputs[0]
    items = known.get(output)
    if items is None or output.dtype not in (ir.DataType.INT64, ir.DataType.INT32) or not _all_int(items):
        return
    if output.shape is None or len(output.shape) != items.ndim:
        return
    value = _constant(model, items.astype(output.dtype.numpy()), f"{output.name}/value", names)
    output.replace_all_uses_with(value)
    known[value] = items
    log.fire(_CONSTANT, node.name)


def _materialize(model: ir.Model, node: ir.Node, known: dict[ir.Value, Known | None], names: Names, log: Log) -> None:
    """Case 2."""
    data, shape, output = node.inputs[0], input_at(node, 1), node.outputs[0]
    if data is None or shape is None or integers(shape) is not None:
        return
    target = _target(data, _value(shape, known), output, bool(node.attributes.get_int("allowzero", 0)))
    if isinstance(target, str):
        log.refuse(_RESHAPE, node.name, target)
        return
    node.replace_input_with(1, _constant(model, np.array(target, np.int64), f"{output.name}/shape", names))
    node.attributes.pop("allowzero", None)
    log.fire(_RESHAPE, node.name)


def _target(data: ir.Value, items: Known | None, output: ir.Value, allowzero: bool) -> list[int] | str:
    """The constant target of a Reshape, or why there is none."""
    inferred = _dimensions(output.shape)
    if items is None:
        items = inferred
    if items is None or items.ndim != 1 or (inferred is not None and len(inferred) != len(items)):
        return "Nothing is known of the shape it is given"
    source = _dimensions(data.shape)
    target: list[int] = []
    for i, item in enumerate(items):
        size = inferred[i] if inferred is not None and isinstance(inferred[i], int) else item
        if isinstance(size, int) and (size > 0 or (size in (0, -1) and not allowzero)):
            target.append(size)
        elif isinstance(size, int):
            return "A dimension is 0"
        elif size is not None and source is not None and i < len(source) and source[i] == size:
            target.append(0)
        else:
            target.append(-1)
    unknown = target.count(-1)
    if unknown > 1:
        return f"{unknown} dimensions of its result are not known"
    if unknown and source is not None and any(isinstance(d, int) and d == 0 for d in source):
        return "Its input has no elements"
    return target


def _drop_expand(node: ir.Node, known: dict[ir.Value, Known | None], log: Log) -> None:
    """Case 3. The Expand turns into an Identity in place; the pass `identity` removes it."""
    x, items = node.inputs[0], _value(input_at(node, 1), known)
    dims = _dimensions(x.shape) if x is not None else None
    if x is None or items is None or dims is None or items.ndim != 1 or len(items) > len(dims):
        return
    if scalar(input_at(node, 1)) == 1 or same_shape(x, node.outputs[0]):
        same = True
    else:
        tail = dims[len(dims) - len(items) :]
        same = all(i is not None and (i == d or i == 1) for i, d in zip(items, tail, strict=True))
    if same:
        node.op_type = "Identity"
        node.resize_inputs(1)
        log.fire(_EXPAND, node.name)
