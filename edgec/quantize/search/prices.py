"""What each layer takes in float and in integers, and each conversion: by the engine's formulas, or measured here.

Measured: onnxruntime's own profile of the float model, of the model with everything integer, and of one with every
third layer in float, where much is converted. The least of many runs stands for a kernel: a busy machine only adds.
Kernels are found by their layer's name or result; those that the engine merged or renamed keep the formula, scaled as
the others were.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.placement import costs
from edgec.quantize.placement.costs import Cost
from edgec.quantize.placement.plan import Plan

RUNS = 12  # of each profile
_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Transpose"})
_GAIN = 2.0  # of integer products where an architecture's kernels are not known: they order layers, no more


class Prices:
    """Nanoseconds of each layer and conversion, by the engine's formulas.

    Args:
        known: whether the formulas are of the architecture's own kernels. Otherwise integers are taken for twice as
            fast everywhere and conversions for free: enough to say which layer loses most by staying float.
        measured: what was measured instead, by layer.
        conversions: factor on the formulas' conversions.
    """

    source = "formulas"

    def __init__(
        self, *, known: bool = True, measured: Mapping[ir.Node, Cost] | None = None, conversions: float = 1.0
    ) -> None:
        self._known, self._measured, self._conversions = known, dict(measured or {}), conversions
        if measured:
            self.source = "measured here"
        elif not known:
            self.source = "multiplications"

    def layer(self, node: ir.Node) -> Cost:
        """A layer's own time."""
        if node in self._measured:
            return self._measured[node]
        cost = costs.node_cost(node)
        if self._known:
            return cost
        return Cost(cost.in_float, cost.in_float / _GAIN)

    def to_integer(self, value: ir.Value) -> float:
        """Time to quantize a value."""
        return costs.to_integer(value) * self._conversions if self._known else 0.0

    def to_float(self, value: ir.Value) -> float:
        """Time to dequantize a value."""
        return costs.to_float(value) * self._conversions if self._known else 0.0

    def scaled(self, measured: float, formula: float) -> Prices:
        """The same with conversions that took `measured` where the formulas said `formula`, at most 8 × apart."""
        factor = min(8.0, max(1 / 8, measured / formula)) if formula > 0 else 1.0
        return Prices(known=self._known, measured=self._measured, conversions=factor)


class Sizes(Prices):
    """Bytes of weights instead of time: where integers are faster nowhere, they are still smaller."""

    source = "bytes"

    def layer(self, node: ir.Node) -> Cost:
        """A layer's weight in float32 and in int8."""
        weight = layers.weight_of(node)
        elements = costs.size(weight)
        return Cost(4.0 * elements, 1.0 * elements) if weight is not None else Cost(0.0, 0.0)

    def to_integer(self, value: ir.Value) -> float:
        """Nothing is stored for it."""
        return 0.0

    def to_float(self, value: ir.Value) -> float:
        """Nothing is stored for it."""
        return 0.0


@dataclass(frozen=True)
class Profile:
    """Nanoseconds by kernel name of one model, and in all what it spent on conversions."""

    kernels: Mapping[str, float]
    conversions: float
    types: Mapping[str, str] = field(default_factory=dict)

    def of(self, names: Sequence[str]) -> float | None:
        """The kernels of a layer whose node or results have these names."""
        found = [self.kernels[name] for name in dict.fromkeys(names) if name in self.kernels]
        return sum(found) if found else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the store."""
        return {"kernels": dict(self.kernels), "conversions": self.conversions}


def profile(model: bytes, feed: Mapping[str, np.ndarray], *, runs: int = RUNS) -> Profile:
    """Run a model on this machine with one thread under onnxruntime's profiler."""
    import onnxruntime

    ort: Any = onnxruntime
    with tempfile.TemporaryDirectory(prefix="edgec-profile-") as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "p")
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, dict(feed))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    least: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        name = name.removesuffix("_kernel_time")
        kinds[name] = str(event.get("args", {}).get("op_name", ""))
        least[name] = min(least.get(name, float("inf")), float(event["dur"]) * 1e3)
    kernels: dict[str, float] = {}
    for name, time in least.items():
        if kinds[name] not in _CONVERSIONS:
            plain = re.sub(r"(_token_\d+|_nchwc)+$", "", name)
            kernels[plain] = kernels.get(plain, 0.0) + time
    return Profile(kernels, sum(t for n, t in least.items() if kinds[n] in _CONVERSIONS))


def from_profiles(planned: Plan, names: Mapping[ir.Node, str], in_float: Profile, in_integer: Profile) -> Prices:
    """Prices of each unit of a plan from two profiles; `Prices.scaled` corrects the conversions.

    Args:
        planned: with everything integer.
        names: of the units' nodes.
        in_float: of the float model.
        in_integer: of the model with everything integer.
    """
    seen: dict[ir.Node, list[float | None]] = {}
    for unit in planned.units:
        aliases = [names[unit.node], *(str(v.name) for v in unit.node.outputs)]
        if unit.activation is not None:
            aliases += [str(unit.activation.name or ""), *(str(v.name) for v in unit.activation.outputs)]
        seen[unit.node] = [in_float.of(aliases), in_integer.of(aliases)]
    _give_back(seen)
    factors = []
    for side in (0, 1):
        ratios = []
        for node, found in seen.items():
            formula, time = _side(costs.node_cost(node), side), found[side]
            if time is not None and formula > 0 and node.op_type in layers.WEIGHTED:
                ratios.append(time / formula)
        factors.append(statistics.median(ratios) if ratios else 1.0)
    measured = {}
    for node, found in seen.items():
        cost = costs.node_cost(node)
        both = [f if f is not None else _side(cost, i) * factors[i] for i, f in enumerate(found)]
        measured[node] = Cost(both[0], both[1])
    return Prices(measured=measured, conversions=statistics.mean(factors))


def _give_back(seen: Mapping[ir.Node, list[float | None]]) -> None:
    """The float kernel of a convolution bears the name of what was fused into it: the time is the convolution's."""
    for node, found in seen.items():
        if found[0] is None or costs.node_cost(node).in_float > 0:
            continue
        makers = [v.producer() for v in node.inputs if v is not None]
        conv = next((p for p in makers if p is not None and p in seen and seen[p][0] is None), None)
        if conv is not None:
            seen[conv][0] = found[0]
        found[0] = 0.0


def _side(cost: Cost, side: int) -> float:
    return cost.in_integer if side else cost.in_float
