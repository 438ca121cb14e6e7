"""The forms besides static int8 that a whole model can take, by the names that `--precision` gives them.

Static int8 is the pipeline's own (`quantize_with_data`), with a search within a budget; each form here is one call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import onnx_ir as ir

from edgec.data import Dataset
from edgec.errors import UnsupportedError, UsageError
from edgec.progress import Progress, silent
from edgec.quantize import layers, portable
from edgec.quantize.scheme import INT16X8, Scheme
from edgec.request import Effort, Form, Method


@dataclass(frozen=True)
class Wish:
    """What a form is made with.

    Attributes:
        data: calibration feeds; None where the user has none.
        exclude: names or operator types of nodes that stay float.
        method: how ranges are taken, of forms that need any.
        effort: "plain" leaves out what is fitted to data. A search is static int8's alone: here it is "default".
        arch: whose kernels decide what is worth it; "" where several count.
        narrow: whether a CPU that counts may saturate products of eight-bit weights.
        max_bytes: size of the file, of weight-only forms.
        insist: make it all the same where no layer gains time: the file is smaller.
    """

    data: Dataset | None = None
    exclude: Collection[str] = ()
    method: Method = "minmax"
    effort: Effort = "default"
    arch: str = ""
    narrow: bool = False
    max_bytes: int | None = None
    insist: bool = True

    @property
    def fitted_to(self) -> Dataset | None:
        """Data that integers may be fitted to."""
        return None if self.effort == "plain" else self.data


@dataclass(frozen=True)
class Made:
    """A model in one of the forms, and plain data about how it came about, for report.json and `--json`."""

    model: ir.Model
    report: Mapping[str, Any]


def make(form: Form, model: ir.Model, wish: Wish, progress: Progress = silent) -> Made:
    """Bring a float model, best after the passes, into a form. Deterministic; the given model is not changed.

    Raises:
        UsageError: the form needs calibration data, or an exclusion matches nothing.
        UnsupportedError: nothing in the model can take the form.
        BadInputError: the data can't be used.
    """
    if form in NEED_DATA and wish.data is None:
        raise UsageError(
            f"{form} needs calibration data",
            "Ranges of the activations are taken from real inputs.",
            "Add --calib DATA (a few dozen inputs are enough).",
            code="E213",
        )
    return _MAKERS[form](model, wish, progress)


NEED_DATA: frozenset[Form] = frozenset({"int16x8"})
"""Forms that can't be made without calibration data. The others use it where it helps."""


def mostly_products(model: ir.Model) -> bool:
    """Whether most of the weights are matrices of MatMul, Gemm and LSTM, where dynamic int8 may win."""
    sizes = {True: 0, False: 0}
    for node in model.graph:
        for value in node.inputs:
            tensor = layers.constant_tensor(value)
            # Tables are looked up, not multiplied: they speak for neither side.
            if tensor is not None and len(tensor.shape) >= 2 and node.op_type != "Gather":
                sizes[node.op_type in ("MatMul", "Gemm", "LSTM")] += tensor.size
    return sizes[True] > sizes[False]


def _dynamic(model: ir.Model, wish: Wish, progress: Progress) -> Made:
    from edgec.quantize.dynamic import DynamicQuantized, quantize_dynamic

    bits = portable.narrow(Scheme()).weight_bits if wish.narrow else Scheme().weight_bits

    def dynamic(arch: str) -> DynamicQuantized:
        return quantize_dynamic(
            model, exclude=wish.exclude, weight_bits=bits, arch=arch, data=wish.fitted_to, progress=progress
        )

    try:
        made = dynamic(wish.arch)
    except UnsupportedError:
        if not wish.insist or not wish.arch:
            raise
        made = dynamic("")
    return Made(made.model, {**made.report(), "weight_bits": bits})


def _weights(bits: Literal[8, 4]) -> Callable[[ir.Model, Wish, Progress], Made]:
    def made(model: ir.Model, wish: Wish, progress: Progress) -> Made:
        from edgec.quantize.weights import quantize_weights

        result = quantize_weights(
            model, bits=bits, data=wish.fitted_to, exclude=wish.exclude, max_bytes=wish.max_bytes, progress=progress
        )
        return Made(result.model, {"method": "weights", **result.report()})

    return made


def _half(kind: Literal["float16", "bfloat16"]) -> Callable[[ir.Model, Wish, Progress], Made]:
    def made(model: ir.Model, wish: Wish, progress: Progress) -> Made:
        from edgec.quantize.half import to_half

        result = to_half(model, kind=kind, exclude=wish.exclude, data=wish.data, progress=progress)
        return Made(result.model, {"method": "half", **result.report.as_dict()})

    return made


def _wide(model: ir.Model, wish: Wish, progress: Progress) -> Made:
    from edgec.quantize.pipeline import quantize_with_data

    assert wish.data is not None, "make() asks for it"
    result = quantize_with_data(
        model, wish.data, method=wish.method, exclude=wish.exclude, scheme=INT16X8,
        effort="plain" if wish.effort == "plain" else "default", arch="", progress=progress,
    )  # fmt: skip
    return Made(result.model, result.report(model))


_MAKERS: Mapping[Form, Callable[[ir.Model, Wish, Progress], Made]] = {
    "int8-dynamic": _dynamic,
    "int8-weights": _weights(8),
    "int4-weights": _weights(4),
    "float16": _half("float16"),
    "bfloat16": _half("bfloat16"),
    "int16x8": _wide,
}
