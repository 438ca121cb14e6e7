"""Float model in, dynamically quantized model out; with calibration data, smoothed and rounded with care.

1. Layers: MatMul and Gemm with constant weights (`products.py`), LSTM (`recurrent.py`). Conv stays float: ConvInteger,
   the only dynamic form, has no fast kernel (benchmarks/quantize_transformers.py measures it).
2. Embedding tables int8 by row (`weights/embeddings.py`).
3. With data: outliers smoothed into weights (`corrections/smooth.py`), kept where held-out samples gain.

Not here: weights rounded to the data by GPTQ. With ranges that follow each input it gained 1.2 dB on held-out
calibration samples of MiniLM and lost 2 on its evaluation set, where single sentences fell to a cosine of 0.94.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from edgec.data import Dataset
from edgec.data.metrics import reported_db
from edgec.errors import UnsupportedError, UsageError
from edgec.progress import Progress, silent
from edgec.quantize import layers
from edgec.quantize.assign import assign
from edgec.quantize.compact import without_traces
from edgec.quantize.corrections.judge import Feed, Judge, split
from edgec.quantize.corrections.smooth import Group, smooth
from edgec.quantize.dynamic import recurrent
from edgec.quantize.dynamic.products import Product, Writer, product, round_to_nearest
from edgec.quantize.dynamic.worth import pays
from edgec.quantize.placement.residual import unfused_residuals
from edgec.quantize.scheme import Scheme
from edgec.quantize.weights.edit import Editor
from edgec.quantize.weights.embeddings import quantize_embeddings

# At most so many samples to smooth with, and to check with.
SAMPLES, HELD_OUT = 96, 32
KINDS = frozenset({"MatMul", "Gemm", "LSTM"})


@dataclass(frozen=True)
class DynamicLayer:
    """What became of a layer: its name, operator type, and "int8" or why it stays float."""

    name: str
    op_type: str
    result: str

    @property
    def integer(self) -> bool:
        """Whether it is integer now."""
        return self.result == "int8"


@dataclass(frozen=True)
class DynamicStage:
    """A step that was tried with data: whether it was kept, and SQNR (dB) on held-out samples before and after."""

    name: str
    kept: bool
    before: float
    after: float


@dataclass(frozen=True)
class DynamicQuantized:
    """A dynamically quantized model and how it came about.

    Attributes:
        model: of standard operators, and com.microsoft's DynamicQuantizeLSTM where there is an LSTM.
        layers: every layer that was looked at, in graph order.
        embeddings: table → format.
        stages: what was tried with data.
        groups: what smoothing moved.
    """

    model: ir.Model
    layers: tuple[DynamicLayer, ...]
    embeddings: dict[str, str] = field(default_factory=dict)
    stages: tuple[DynamicStage, ...] = ()
    groups: tuple[Group, ...] = ()

    def report(self) -> dict[str, Any]:
        """Plain data for report.json and `--json`."""
        return {
            "method": "dynamic",
            "layers": [
                {"name": layer.name, "op_type": layer.op_type, "precision": "int8" if layer.integer else "float32"}
                | ({} if layer.integer else {"why": layer.result})
                for layer in self.layers
            ],
            "embeddings": dict(self.embeddings),
            "smoothing": [group.as_dict() for group in self.groups],
            "stages": [
                {"name": s.name, "kept": s.kept}
                | {"sqnr_db_before": reported_db(s.before), "sqnr_db_after": reported_db(s.after)}
                for s in self.stages
            ],
        }


def quantize_dynamic(
    model: ir.Model,
    *,
    exclude: Collection[str] = (),
    per_channel: bool = True,
    weight_bits: int = 8,
    arch: str = "x86_64",
    data: Dataset | None = None,
    embeddings: bool = True,
    progress: Progress = silent,
) -> DynamicQuantized:
    """A model with integer weights whose activations are quantized at run time. Deterministic.

    Args:
        model: float model (opset ≥ 11), best after the passes; not changed.
        exclude: names or operator types of nodes that stay float.
        per_channel: one weight scale per result; else one per layer.
        weight_bits: 8, or 7 for CPUs whose u8 · s8 saturates (`portable.may_saturate`): x86 without VNNI.
        arch: layers too small to gain there stay float (x86_64); another: none do.
        data: calibration samples; with them, outliers of activations are smoothed.
        embeddings: make embedding tables int8 as well.
        progress: `with progress(stage, total) as advance` for each long stage.

    Raises:
        UsageError: an exclusion matches nothing; another number of bits.
        UnsupportedError: nothing can be quantized.
        BadInputError: the data can't be used.
    """
    if weight_bits not in (7, 8):
        raise UsageError(
            f"weights of {weight_bits} bits", "dynamic int8 has eight, or seven", "ask for 8 or 7", code="E215"
        )
    scheme = replace(Scheme(), per_channel=per_channel, weight_bits=weight_bits)
    maker = _Maker(scheme, frozenset(exclude), arch)
    _check(model, exclude)
    _, looked_at = maker.find(model)
    tables = quantize_embeddings(model, exclude=exclude).formats if embeddings else {}
    if not any(layer.integer for layer in looked_at) and not tables:
        raise UnsupportedError(
            "no layer of the model can be quantized dynamically",
            "; ".join(sorted({layer.result for layer in looked_at})) or "it has no MatMul, Gemm or LSTM",
            "leave the model in float, or quantize it with calibration data (static int8)",
            code="E412",
        )
    stages: list[DynamicStage] = []
    groups: tuple[Group, ...] = ()
    used: list[Feed] = []
    kept_back: list[Feed] = []
    if data is not None:
        used, kept_back = split(data, SAMPLES, HELD_OUT)
    if kept_back:
        judge = Judge(model, kept_back)
        verdict = judge(maker.make(model))

        names = {p.name for p in maker.find(model)[0]}
        smoothed = smooth(model, used, dict.fromkeys(names, scheme), progress=progress)
        if smoothed.groups:
            after = judge(maker.make(smoothed.model))
            kept = after.beats(verdict)
            stages.append(DynamicStage("smoothing", kept, verdict.sqnr, after.sqnr))
            if kept:
                model, groups = smoothed.model, smoothed.groups
    result = maker.make(model)
    if embeddings:
        result = quantize_embeddings(result, exclude=exclude).model
    return DynamicQuantized(result, tuple(looked_at), tables, tuple(stages), groups)


class _Maker:
    """Finds the layers of a float model and makes the integer model; the same for each candidate."""

    def __init__(self, scheme: Scheme, exclude: frozenset[str], arch: str) -> None:
        self._scheme, self._exclude, self._arch = scheme, exclude, arch

    def find(self, model: ir.Model) -> tuple[list[Product], list[DynamicLayer]]:
        """The products to be made integer, and what is said of each layer."""
        names, floats = layers.layer_names(model), layers.float_values(model)
        products: list[Product] = []
        looked_at: list[DynamicLayer] = []
        readers: dict[ir.Value, int] = {}
        for node in model.graph:
            if node.op_type in ("MatMul", "Gemm") and node.inputs and node.inputs[0] is not None:
                readers[node.inputs[0]] = readers.get(node.inputs[0], 0) + (layers.weight_of(node) is not None)
        for node, name in names.items():
            if not layers.is_onnx(node) or node.op_type not in KINDS:
                continue
            result = "int8"
            if name in self._exclude or node.op_type in self._exclude:
                result = "excluded"
            elif node.op_type == "LSTM":
                result = recurrent.refusal(node) or "int8"
            else:
                made = product(node, name, floats)
                if isinstance(made, str):
                    result = made
                elif not pays(made, readers[made.value], self._arch):
                    result = "too small to gain"
                else:
                    products.append(made)
            looked_at.append(DynamicLayer(name, node.op_type, result))
        return products, looked_at

    def make(self, model: ir.Model) -> ir.Model:
        """The integer model."""
        copy, scheme = model.clone(), self._scheme
        unfused_residuals(copy)
        without_traces(copy)
        products, looked_at = self.find(copy)
        writer = Writer(copy.graph)
        for item in products:
            writer.replace(item, round_to_nearest(item, per_channel=scheme.per_channel, limit=scheme.weight_max))
        integer = {layer.name for layer in looked_at if layer.op_type == "LSTM" and layer.integer}
        for node, name in layers.layer_names(copy).items():
            if node.op_type == "LSTM" and name in integer:
                recurrent.replace(Editor(copy.graph), node, per_channel=scheme.per_channel, limit=scheme.weight_max)
        return copy


def _check(model: ir.Model, exclude: Collection[str]) -> None:
    """As `assign` does: an exclusion that matches nothing (nor a table's name) is a mistake."""
    assign(model, exclude=[word for word in exclude if word not in model.graph.initializers])
