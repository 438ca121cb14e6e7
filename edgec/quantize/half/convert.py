"""float16 and bfloat16 forms of a float32 model: weights alone, or the arithmetic as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import onnx_ir as ir

from edgec.data import Dataset, sqnr_db
from edgec.data.metrics import reported_db
from edgec.errors import UsageError
from edgec.progress import Progress, silent
from edgec.quantize import layers
from edgec.quantize.half import support
from edgec.quantize.half.choose import Chosen, Wish, choose
from edgec.quantize.half.diffuse import Rounding
from edgec.quantize.half.extremes import extremes
from edgec.quantize.half.kinds import Kind, Name, kind_of
from edgec.quantize.half.rewrite import Names, Rewriter
from edgec.quantize.half.simulate import simulated
from edgec.quantize.half.storage import Stored, store
from edgec.quantize.session import Session

Mode = Literal["weights", "compute"]
# Samples that the decibels of the report are taken over.
_JUDGED = 8
# From this opset on Conv, pools and most others take bfloat16.
_BFLOAT16_OPSET = 22


@dataclass(frozen=True)
class Report:
    """What a conversion did.

    Attributes:
        kind: "float16" or "bfloat16".
        mode: "weights" or "compute".
        half: operator type -> how many of its nodes compute in 16 bits.
        kept: node name -> why it stays float32; of nodes with float32 results, in mode "compute".
        casts: Casts between the two types at run time (weights' not counted: engines fold those).
        stored: constants kept in 16 bits for float32 nodes.
        sqnr_db: of the outputs, as a device would give them that adds in float32; None without data.
    """

    kind: Name
    mode: Mode
    half: dict[str, int]
    kept: dict[str, str]
    casts: int
    stored: Stored
    sqnr_db: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for report.json and `--json`."""
        return {
            "kind": self.kind,
            "mode": self.mode,
            "half": dict(sorted(self.half.items())),
            "kept": dict(self.kept),
            "casts": self.casts,
            "stored": {"tensors": self.stored.tensors, "elements": self.stored.elements, "kept": self.stored.kept},
            "sqnr_db": self.sqnr_db,
        }


@dataclass(frozen=True)
class Half:
    """A 16-bit model and how it came about."""

    model: ir.Model
    report: Report


def to_half(
    model: ir.Model,
    *,
    kind: Name = "float16",
    mode: Mode = "weights",
    exclude: Collection[str] = (),
    keep_io: bool = True,
    rounding: Rounding = "diffused",
    data: Dataset | None = None,
    engine: str | None = None,
    progress: Progress = silent,
) -> Half:
    """Convert a float32 model. Deterministic; the given model is not changed.

    Mode "weights" halves the file: constants in 16 bits, a Cast behind each, arithmetic in float32. Mode "compute" also
    computes in 16 bits, for targets with such kernels: what ONNX's types and the engine's kernels allow, less what its
    numbers forbid, less what is not worth two Casts (`support.py`, `delicate.py`, `choose.py`).

    Args:
        model: float32; its values' types known (the front end infers them), else nodes stay float32.
        kind: the type.
        mode: "weights" or "compute".
        exclude: names (see `layers.layer_names`) or operator types that keep float32 weights and arithmetic.
        keep_io: float32 inputs and outputs stay so; False, in mode "compute": they become 16-bit too.
        rounding: of weights; "diffused": each takes up the error of the one before where that makes errors cancel
            (`diffuse.py`); "nearest": each by itself, ties to even, as ONNX's Cast does.
        data: feeds; decides by ranges what is delicate, where by default the operator does, and gives the decibels.
        engine: whose kernels decide as well ("onnxruntime": the installed one on this machine); None: any that runs
            what ONNX allows.
        progress: of the look at the data.

    Raises:
        UsageError: an exclusion matches nothing, or kind, mode or engine don't exist.
        BadInputError: the model can't be run on the data.
    """
    if mode not in ("weights", "compute"):
        raise UsageError(f"there is no mode '{mode}'", "", "use weights or compute", code="E215")
    if rounding not in ("diffused", "nearest"):
        raise UsageError(f"there is no rounding '{rounding}'", "", "use diffused or nearest", code="E215")
    chosen_kind = kind_of(kind)
    copy = model.clone()
    names, casts, made = Names(copy), 0, {}
    half: Counter[str] = Counter()
    kept: dict[str, str] = {}
    excluded = _excluded(copy, exclude)
    if mode == "compute":
        for graph in copy.graphs():
            support.complete_types(graph, copy.graph.opset_imports.get("", 0))
        ranges = None if data is None else extremes(copy, data, progress)
        if chosen_kind.name == "bfloat16":
            _newer(copy)
        rewriter = Rewriter(names, chosen_kind, rounding)
        called = layers.layer_names(copy)
        for depth, graph in enumerate(list(copy.graphs())):
            opset = copy.graph.opset_imports.get("", 0)
            wish = Wish(chosen_kind, opset, engine, excluded, ranges if not depth else None, keep_io or depth > 0)
            chosen = choose(graph, wish)
            half.update(node.op_type for node in chosen.half)
            kept |= _said(chosen, called)
            rewriter.graph(graph, chosen.half, wish.keep_io)
        casts, made = rewriter.casts, rewriter.constants
        _unused(copy, made)
    stored = store(copy, chosen_kind, names, rounding, made, excluded)
    quality = None if data is None else _quality(model, copy, chosen_kind, data)
    return Half(copy, Report(kind, mode, dict(half), kept, casts, stored, quality))


def _excluded(model: ir.Model, exclude: Collection[str]) -> set[ir.Node]:
    """The nodes that exclusions name, of all graphs where they are types."""
    names = layers.layer_names(model)
    nodes = [node for graph in model.graphs() for node in graph]
    found: set[ir.Node] = set()
    for word in exclude:
        matched = {n for n in nodes if n.op_type == word or names.get(n) == word}
        if not matched:
            raise UsageError(
                f"nothing to exclude is called '{word}'",
                "it is no node's name and no operator type of this model",
                "`edgec inspect MODEL --ops` lists the names",
                code="E212",
            )
        found |= matched
    return found


def _newer(model: ir.Model) -> None:
    """The opset in which most operators take bfloat16, where the model means the same there."""
    from edgec_targets.emitters.onnxruntime import opset

    own = opset.of(model)
    nodes = [node for node in model.graph.all_nodes() if node.domain == ""]
    if not 0 < own < _BFLOAT16_OPSET or model.functions:
        return
    if any(opset.differs(node, _BFLOAT16_OPSET, own) for node in nodes):
        return
    model.opset_imports[""] = _BFLOAT16_OPSET
    model.ir_version = max(int(model.ir_version or 0), opset.ir_version(_BFLOAT16_OPSET))
    for node in nodes:
        node.version = None


def _said(chosen: Chosen, names: dict[ir.Node, str]) -> dict[str, str]:
    return {names.get(node) or str(node.name or node.outputs[0].name): why for node, why in chosen.kept.items()}


def _unused(model: ir.Model, made: dict[ir.Value, ir.Value]) -> None:
    """Drop float32 constants whose 16-bit form all their readers took."""
    for value in made:
        producer = value.producer()
        if value.uses() or value.is_graph_output():
            continue
        if producer is not None and producer.graph is not None:
            producer.graph.remove(producer, safe=True)
        elif isinstance(value.graph, ir.Graph) and value.name is not None:
            del value.graph.initializers[value.name]


def _quality(model: ir.Model, made: ir.Model, kind: Kind, data: Dataset) -> float | None:
    """SQNR of the outputs on the first samples, computing in float32 and rounding each 16-bit result."""
    reference, tested = Session(model), Session(simulated(made, kind.onnx))
    expected, got = [], []
    for feed in islice(data, _JUDGED):
        pairs = zip(reference.run(feed), tested.run(feed), strict=True)
        for r, t in pairs:
            if getattr(r, "dtype", None) is not None and r.dtype.kind == "f":
                expected.append(r)
                got.append(t)
    return reported_db(sqnr_db(expected, got)) if expected else None
