"""The work in a TFLite file, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from edgec_targets.profiles.work import Numbers, Work, pair

_NO_WORK = frozenset(
    {"reshape", "squeeze", "expand_dims"}
)  # XNNPACK and the interpreter hand the memory on, or copy it
_LOOKED_UP = frozenset(
    {"logistic", "tanh", "hard_swish", "gelu", "elu", "exp", "leaky_relu", "abs", "sqrt", "log", "relu"}
)
_PAIRS = frozenset({"add", "sub", "mul", "div", "maximum", "minimum", "squared_difference", "pow"})


def work(data: bytes) -> list[Work]:
    """What the kernels of a file do, in order. Sizes are the file's own.

    Raises MissingError (E1040) without the package that brings the schema.
    """
    from edgec_targets.emitters.litert.schema import schema

    s = schema()
    model = s.ModelT.InitFromPackedBuf(data)
    names = {value: name.lower() for name, value in vars(s.BuiltinOperator).items() if isinstance(value, int)}
    types = s.TensorType
    graph = model.subgraphs[0]
    reader = _Reader(model, graph, types)
    found = [Work("call", "float", reader.elements([*graph.inputs, *graph.outputs]), 1)]
    several = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        several.append((names[max(code.builtinCode, code.deprecatedBuiltinCode)], operator))
    skipped, looked_up = _tables(several, {int(i) for i in graph.outputs}, reader.number)
    for place, (kind, operator) in enumerate(several):
        if place in looked_up:
            found.append(Work("table", "int8", reader.elements(operator.outputs), 1))
            continue
        made = None if place in skipped else reader.operator(kind, operator)
        if made is not None:
            found.append(made)
    return found


def _tables(
    several: Sequence[tuple[str, Any]], ends: set[int], numbers: Callable[[int], bool]
) -> tuple[set[int], set[int]]:
    """Functions of one number between DEQUANTIZE and QUANTIZE, one or a chain: XNNPACK looks their integers up.

    Args:
        several: the operators by name.
        ends: the file's outputs.
        numbers: whether a tensor is a constant of one element.

    Returns the places of what then is nothing, and those of the QUANTIZE that the table stands for.
    """
    users: dict[int, list[int]] = {}
    for place, (_, operator) in enumerate(several):
        for i in operator.inputs:
            users.setdefault(int(i), []).append(place)
    skipped: set[int] = set()
    tables: set[int] = set()
    for start, (kind, _) in enumerate(several):
        chain, place = [start], start
        while kind == "dequantize":
            result = int(several[place][1].outputs[0])
            behind = users.get(result, [])
            if len(behind) != 1 or result in ends:
                break
            place = behind[0]
            name, found = several[place]
            if name == "quantize" and len(chain) > 1:
                skipped.update(chain)
                tables.add(place)
            others = [int(i) for i in found.inputs if int(i) != result]
            if name not in _LOOKED_UP and not (name in _PAIRS and len(others) == 1 and numbers(others[0])):
                break
            chain.append(place)
    return skipped, tables


class _Reader:
    def __init__(self, model: Any, graph: Any, types: Any) -> None:
        self._graph, self._types = graph, types
        self._constant = {
            i
            for i, tensor in enumerate(graph.tensors)
            if (held := model.buffers[tensor.buffer].data) is not None and len(held)
        }

    def shape(self, index: int) -> list[int]:
        found = self._graph.tensors[index].shape
        return [] if found is None else [int(d) for d in found]

    def number(self, index: int) -> bool:
        """Whether a tensor is a constant of one element."""
        return index in self._constant and prod(self.shape(index)) == 1

    def elements(self, indices: Any) -> int:
        return sum(prod(self.shape(int(i))) for i in indices if i >= 0)

    def operator(self, kind: str, operator: Any) -> Work | None:
        inputs = [int(i) for i in operator.inputs]
        outputs = [int(i) for i in operator.outputs]
        moving = [i for i in inputs if i >= 0 and i not in self._constant]
        if not moving:
            return None  # of constants alone: done when the file is loaded
        out = self.shape(outputs[0])
        numbers = self._numbers(inputs, outputs)
        if kind in ("conv_2d", "transpose_conv"):
            return self._conv(kind, operator, inputs, out, numbers)
        if kind == "depthwise_conv_2d":
            taps, channels = prod(self.shape(inputs[1])[1:3]), out[-1]
            return Work("depthwise", numbers, prod(out[:-1]), channels, 1, taps, channels, gathered=True)
        if kind == "fully_connected":
            n, k = self.shape(inputs[1])
            return Work("product", numbers, prod(out) // max(n, 1), n, k)
        if kind == "batch_matmul":
            inner = self.shape(inputs[0])[-2 if operator.builtinOptions.adjX else -1]
            return Work("product.pair", numbers, out[-2], out[-1], inner, 1, prod(out[:-2]))
        larger = max(prod(out), *(prod(self.shape(i)) for i in moving))
        last = max(out[-1] if out else 1, 1)
        if kind in _NO_WORK:
            return Work("reshape", numbers, larger, larger)
        if kind in _PAIRS and len(inputs) == 2:
            return Work(f"{kind}.{pair([prod(self.shape(i)) for i in inputs])}", numbers, larger, last)
        if kind in ("mean", "sum", "reduce_max", "reduce_min"):
            source = self.shape(moving[0])
            inner = bool(out) and len(out) == len(source) and out[-1] == source[-1] and source[-1] > 1
            return Work(f"{kind}.{'outer' if inner else 'inner'}", numbers, larger, source[-1] if source else 1)
        if kind == "transpose":
            source = self.shape(moving[0])
            rows = bool(source) and bool(out) and source[-1] == out[-1]
            return Work(f"transpose.{'rows' if rows else 'elements'}", numbers, larger, last)
        if "pool" in kind:
            window = operator.builtinOptions.filterHeight * operator.builtinOptions.filterWidth
            return Work(kind, numbers, prod(out) * window, window)
        return Work(kind, numbers, larger, last)

    def _conv(self, kind: str, operator: Any, inputs: list[int], out: list[int], numbers: Numbers) -> Work:
        weights = self.shape(inputs[1])
        options = operator.builtinOptions
        if kind == "transpose_conv":  # computed as a product for each input pixel
            source = self.shape(inputs[2])
            columns = weights[0] * prod(weights[1:3])
            return Work("conv.transposed", numbers, prod(source[:-1]), columns, weights[3])
        source = self.shape(inputs[0])
        taps, groups = prod(weights[1:3]), max(source[-1] // weights[3], 1)
        gathered = taps > 1 or options.strideH > 1 or options.strideW > 1
        lines = prod(out[:-2])
        return Work("conv", numbers, prod(out[:-1]), weights[0] // groups, weights[3], taps, groups, lines, gathered)

    def _numbers(self, inputs: list[int], outputs: list[int]) -> Numbers:
        types = self._types
        first, result = self._graph.tensors[inputs[0]].type, self._graph.tensors[outputs[0]].type
        second = self._graph.tensors[inputs[1]].type if len(inputs) > 1 and inputs[1] >= 0 else first
        if first == types.FLOAT32 and second in (types.INT8, types.INT4):
            return "dynamic"
        return "int8" if types.INT8 in (first, result) and types.FLOAT32 not in (first, result) else "float"
