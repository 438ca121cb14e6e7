"""The layout pass: convolutions and all that follows them in NHWC, so that a vector holds neighbouring channels.

Values of rank 4 are known in ONNX's order (NCHW), in NHWC, or in both; a transpose is made only where a reader needs
the other one. In NHWC are computed:

1. convolutions with constant weights (which become HWIO) and two-dimensional pools and resizes, always;
2. elementwise operators, where an argument is in NHWC already and the others can be;
3. Concat, Split, Slice, Softmax, means and other reductions, where their arguments are in NHWC already: axes change.

Everything else reads ONNX's order. Where height and width, or the channels, are 1, a transpose is only a reshape.
Constants are transposed and reshaped here, by numpy: TVM would compile a kernel for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax

TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
AXIS = (0, 3, 1, 2)
"""An axis of NCHW -> the same axis of NHWC."""
_POOLS = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")
_UNARY = (
    "nn.relu", "nn.leakyrelu", "nn.gelu", "nn.gelu_tanh", "nn.silu", "nn.selu", "nn.softplus", "clip", "sigmoid",
    "tanh", "exp", "log", "sqrt", "rsqrt", "abs", "negative", "floor", "ceil", "round", "erf", "sin", "cos", "square",
    "sign", "astype", "logical_not",
)  # fmt: skip
_ELEMENTWISE = (
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "where", "greater", "greater_equal", "less",
    "less_equal", "equal", "not_equal",
)  # fmt: skip
_REDUCTIONS = ("mean", "sum", "max", "min", "prod")


def nhwc(module: Any) -> Any:
    """`module` with its "main" rewritten. Functions with control flow stay as they are."""
    main = module["main"]
    if len(main.body.blocks) != 1 or not isinstance(main.body.blocks[0], relax.DataflowBlock):
        return module
    made = _Rewriter(main).function()
    module = tvm.IRModule(dict(module.functions.items()))
    module.update_func(module.get_global_var("main"), made)
    return module


class _Rewriter:
    """One walk over the bindings; `plain` and `moved` are what each variable became, in NCHW and in NHWC."""

    def __init__(self, main: Any) -> None:
        self.main = main
        self.builder = relax.BlockBuilder()
        self.plain: dict[Any, Any] = {}
        self.moved: dict[Any, Any] = {}
        self.ways: dict[str, Callable[[Any, Any], bool]] = {
            "nn.conv2d": self._convolution, "nn.softmax": self._along, "nn.log_softmax": self._along,
            "concat": self._concat, "split": self._along, "image.resize2d": self._resize, "nn.pad": self._pad,
            "permute_dims": self._transpose, "reshape": self._reshape, "expand_dims": self._reshape,
            "squeeze": self._reshape,
        }  # fmt: skip
        self.ways |= {f"nn.{name}": self._pool for name in _POOLS}
        self.ways |= dict.fromkeys(_UNARY, self._unary)
        self.ways |= dict.fromkeys(_ELEMENTWISE, self._elementwise)
        self.ways |= dict.fromkeys(_REDUCTIONS, self._reduction)

    def function(self) -> Any:
        main = self.main
        for parameter in main.params:
            self.plain[parameter] = parameter
        with self.builder.function("main", params=list(main.params)):
            with self.builder.dataflow():
                for binding in main.body.blocks[0].bindings:
                    self._bind(binding.var, binding.value)
                result = self.builder.emit_output(self._read(main.body.body))
            self.builder.emit_func_output(result)
        return self.builder.get()["main"].with_attrs(dict(main.attrs or {}))

    def _bind(self, var: Any, value: Any) -> None:
        if isinstance(value, relax.Call):
            way = self.ways.get(str(getattr(value.op, "name", "")).removeprefix("relax."))
            if way is None or not way(var, value):
                self.plain[var] = self._emit(_with(value, [self._read(arg) for arg in value.args]))
        elif isinstance(value, relax.TupleGetItem) and value.tuple_value in self.moved:
            self.moved[var] = self._emit(relax.TupleGetItem(self.moved[value.tuple_value], value.index))
        elif isinstance(value, relax.Var) and value in self.moved:
            self.moved[var] = self.moved[value]
        else:
            read = self._read(value)
            self.plain[var] = read if isinstance(read, (tvm.ir.GenericConst, relax.Var)) else self._emit(read)

    def _emit(self, value: Any) -> Any:
        return self.builder.emit(value)

    def _read(self, value: Any) -> Any:
        """An argument in ONNX's order."""
        if isinstance(value, relax.Tuple):
            return relax.Tuple([self._read(field) for field in value.fields])
        if isinstance(value, relax.TupleGetItem):
            return relax.TupleGetItem(self._read(value.tuple_value), value.index)
        if not isinstance(value, relax.Var):
            return value
        if value not in self.plain:
            source = self.moved[value]
            if isinstance(source.ty, relax.TupleType):
                fields = [
                    self._order(self._emit(relax.TupleGetItem(source, n)), TO_NCHW)
                    for n in range(len(source.ty.fields))
                ]
                self.plain[value] = self._emit(relax.Tuple(fields))
            else:
                self.plain[value] = self._order(source, TO_NCHW)
        return self.plain[value]

    def _read_moved(self, value: Any) -> Any:
        """An argument of rank 4 in NHWC; constants of less are given axes."""
        known = self._constant(value)
        if known is not None:
            if known.ndim == 0 or known.size == 1:
                return relax.const(known.reshape(()), str(known.dtype))
            full = known.reshape((1,) * (4 - known.ndim) + known.shape)
            return relax.const(np.ascontiguousarray(full.transpose(TO_NHWC)), str(known.dtype))
        if value not in self.moved:
            self.moved[value] = self._order(self.plain[value], TO_NHWC)
        return self.moved[value]

    def _order(self, value: Any, axes: tuple[int, ...]) -> Any:
        shape = _shape(value)
        wanted = [shape[axis] for axis in axes]
        if [size for size in shape if size != 1] == [size for size in wanted if size != 1]:
            return self._emit(relax.op.reshape(value, wanted))
        return self._emit(relax.op.permute_dims(value, list(axes)))

    def _constant(self, value: Any) -> np.ndarray | None:
        if isinstance(value, relax.Var):
            value = self.plain.get(value)
        return value.value.numpy() if isinstance(value, tvm.ir.GenericConst) else None

    def _has_moved(self, value: Any) -> bool:
        return isinstance(value, relax.Var) and value in self.moved

    # Each way answers whether it has bound the variable; where not, the call is made in ONNX's order.

    def _convolution(self, var: Any, call: Any) -> bool:
        weights = self._constant(call.args[1])
        attrs = call.attrs
        if weights is None or attrs.data_layout != "NCHW" or attrs.kernel_layout != "OIHW":
            return False
        kernel = relax.const(np.ascontiguousarray(weights.transpose(2, 3, 1, 0)), str(weights.dtype))
        self.moved[var] = self._emit(
            relax.op.nn.conv2d(
                self._read_moved(call.args[0]), kernel, strides=list(attrs.strides), padding=list(attrs.padding),
                dilation=list(attrs.dilation), groups=int(attrs.groups), data_layout="NHWC", kernel_layout="HWIO",
            )
        )  # fmt: skip
        return True

    def _pool(self, var: Any, call: Any) -> bool:
        attrs = call.attrs
        if attrs.layout != "NCHW":
            return False
        source = self._read_moved(call.args[0])
        name = call.op.name.rpartition(".")[2]
        if name == "adaptive_avg_pool2d":
            made = relax.op.nn.adaptive_avg_pool2d(source, list(attrs.output_size), layout="NHWC")
        else:
            more = {"count_include_pad": bool(attrs.count_include_pad)}
            made = getattr(relax.op.nn, name)(
                source, list(attrs.pool_size), strides=list(attrs.strides), padding=list(attrs.padding),
                dilation=list(attrs.dilation), ceil_mode=bool(attrs.ceil_mode), layout="NHWC", **more,
            )  # fmt: skip
        self.moved[var] = self._emit(made)
        return True

    def _resize(self, var: Any, call: Any) -> bool:
        attrs = call.attrs
        if attrs.layout != "NCHW" or not self._has_moved(call.args[0]):
            return False
        made = relax.op.image.resize2d(
            self._read_moved(call.args[0]), call.args[1], roi=list(attrs.roi) if attrs.roi else None, layout="NHWC",
            method=attrs.method, coordinate_transformation_mode=attrs.coordinate_transformation_mode,
            rounding_method=attrs.rounding_method, cubic_alpha=float(attrs.cubic_alpha),
            cubic_exclude=int(attrs.cubic_exclude), extrapolation_value=float(attrs.extrapolation_value),
        )  # fmt: skip
        self.moved[var] = self._emit(made)
        return True

    def _unary(self, var: Any, call: Any) -> bool:
        if not self._has_moved(call.args[0]):
            return False
        self.moved[var] = self._emit(_with(call, [self.moved[call.args[0]], *call.args[1:]]))
        return True

    def _elementwise(self, var: Any, call: Any) -> bool:
        if not any(self._has_moved(arg) for arg in call.args):
            return False
        if not all(self._constant(arg) is not None or _rank(arg) == 4 for arg in call.args):
            return False
        if any((known := self._constant(arg)) is not None and known.ndim > 4 for arg in call.args):
            return False
        self.moved[var] = self._emit(_with(call, [self._read_moved(arg) for arg in call.args]))
        return True

    def _along(self, var: Any, call: Any) -> bool:
        """Operators with one axis: Softmax, Split."""
        if not self._has_moved(call.args[0]):
            return False
        axis = AXIS[int(call.attrs.axis) % 4]
        source = self.moved[call.args[0]]
        name = call.op.name.removeprefix("relax.")
        if name == "split":
            parts = call.attrs.indices_or_sections
            sections = int(parts) if isinstance(parts, (int, tvm.tirx.IntImm)) else [int(p) for p in parts]
            self.moved[var] = self._emit(relax.op.split(source, sections, axis))
        else:
            self.moved[var] = self._emit(getattr(relax.op.nn, name.rpartition(".")[2])(source, axis))
        return True

    def _concat(self, var: Any, call: Any) -> bool:
        fields = list(call.args[0].fields) if isinstance(call.args[0], relax.Tuple) else []
        if not any(self._has_moved(field) for field in fields) or not all(_rank(field) == 4 for field in fields):
            return False
        self.moved[var] = self._emit(
            relax.op.concat([self._read_moved(field) for field in fields], AXIS[int(call.attrs.axis) % 4])
        )
        return True

    def _pad(self, var: Any, call: Any) -> bool:
        if not self._has_moved(call.args[0]) or str(call.attrs.pad_mode) != "constant":
            return False
        width = [int(n) for n in call.attrs.pad_width]
        if len(width) != 8:
            return False
        moved = [n for axis in TO_NHWC for n in width[2 * axis : 2 * axis + 2]]
        value = float(call.attrs.pad_value)
        self.moved[var] = self._emit(relax.op.nn.pad(self.moved[call.args[0]], moved, pad_value=value))
        return True

    def _reduction(self, var: Any, call: Any) -> bool:
        if not self._has_moved(call.args[0]) or call.attrs.axis is None:
            return False
        axes = sorted(int(axis) % 4 for axis in call.attrs.axis)
        keeps = bool(call.attrs.keepdims)
        left = [axis for axis in TO_NHWC if axis not in axes]
        if not keeps and left != sorted(left):
            return False
        reduce = getattr(relax.op, call.op.name.removeprefix("relax."))
        made = self._emit(reduce(self.moved[call.args[0]], [AXIS[axis] for axis in axes], keepdims=keeps))
        (self.moved if keeps else self.plain)[var] = made
        return True

    def _transpose(self, var: Any, call: Any) -> bool:
        known = self._constant(call.args[0])
        axes = call.attrs.axes
        order = [int(axis) for axis in axes] if axes is not None else list(range(_rank(call.args[0])))[::-1]
        if known is not None:
            self.plain[var] = relax.const(np.ascontiguousarray(known.transpose(order)), str(known.dtype))
            return True
        if tuple(order) == TO_NHWC and self._has_moved(call.args[0]):
            self.plain[var] = self.moved[call.args[0]]
            return True
        if tuple(order) == TO_NCHW and len(order) == 4:
            self.moved[var] = self._read(call.args[0])
            return True
        return False

    def _reshape(self, var: Any, call: Any) -> bool:
        known = self._constant(call.args[0])
        if known is None:
            return False
        self.plain[var] = relax.const(known.reshape(_shape(var)), str(known.dtype))
        return True


def _with(call: Any, arguments: Sequence[Any]) -> Any:
    """The same call on other arguments."""
    return relax.Call(call.op, list(arguments), call.attrs, list(call.ty_args))


def _shape(value: Any) -> list[int]:
    return [int(size) for size in value.ty.shape.values]


def _rank(value: Any) -> int:
    return int(getattr(value.ty, "ndim", -1))
