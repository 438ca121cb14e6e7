"""`--shape`: the user fixes dimensions of inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from edgec.errors import BadInputError
from edgec.frontends.onnx import tensors


def apply(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int | str]]) -> None:
    """Write `shapes` into the graph's inputs. What follows from it (value_info) is inferred anew by the caller.

    A dimension the model fixes can't be changed; a symbol that two inputs share can't get two sizes.

    Raises:
        BadInputError: naming the input, and listing all inputs with their shapes.
    """
    graph = proto.graph
    weights = {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    inputs = {i.name: i for i in graph.input if i.name not in weights}
    listed = {name: _shape(info) for name, info in inputs.items()}  # as they are before any is changed
    bound: dict[str, tuple[int, str]] = {}
    for name, shape in shapes.items():
        if name not in inputs:
            why = "it is a weight with a value" if name in weights else "there is no such input"
            raise _error(f"a shape was given for {name!r}: {why}", listed)
        kind = inputs[name].type
        if not kind.HasField("tensor_type"):
            raise _error(f"the input {name!r} is no tensor and has no shape", listed)
        for dim in shape:
            whole = isinstance(dim, int) and not isinstance(dim, bool) and dim >= 0
            if not whole and (not isinstance(dim, str) or not dim):
                raise _error(f"the shape given for {name!r} has the dimension {dim!r}", listed)
        tensors.elements([d for d in shape if isinstance(d, int)], f"the shape given for {name!r}")
        _one(name, kind.tensor_type, shape, listed, bound)


def _one(
    name: str,
    kind: onnx.TypeProto.Tensor,
    shape: Sequence[int | str],
    listed: Mapping[str, str],
    bound: dict[str, tuple[int, str]],
) -> None:
    if not kind.HasField("shape"):
        kind.shape.SetInParent()
        for _ in shape:
            kind.shape.dim.add()
    if len(kind.shape.dim) != len(shape):
        raise _error(f"the input {name!r} has {len(kind.shape.dim)} dimensions; {len(shape)} were given", listed)
    for axis, (dim, wanted) in enumerate(zip(kind.shape.dim, shape, strict=True)):
        if dim.HasField("dim_value"):
            if dim.dim_value != wanted:
                what = f"dimension {axis} of the input {name!r} is {dim.dim_value} in the model, not {wanted}"
                raise _error(what, listed)
        elif isinstance(wanted, str):
            dim.dim_param = wanted
        else:
            symbol = dim.dim_param
            size, other = bound.setdefault(symbol, (wanted, name)) if symbol else (wanted, name)
            if size != wanted:
                raise _error(f"{symbol!r} would be {size} in {other!r} and {wanted} in {name!r}", listed)
            dim.dim_value = wanted


def _error(what: str, listed: Mapping[str, str]) -> BadInputError:
    inputs = ", ".join(f"{name}={shape}" for name, shape in listed.items())
    why = f"the model's inputs are: {inputs or 'none'}"
    return BadInputError(what, why, "give --shape name=1,3,224,224", code="E907")


def _shape(info: onnx.ValueInfoProto) -> str:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
        return "?"
    dims = [str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim]
    return ",".join(dims) or "scalar"
