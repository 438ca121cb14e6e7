"""Distillation on calibration inputs: the quantized model trained to answer as the float model does. Needs torch.

Block by block first (Li et al. 2021, "BRECQ", arXiv:2102.05426), each given what really reaches it, then the whole
model end to end (Hinton et al. 2015, arXiv:1503.02531, with the values before the probabilities in their place). No
labels. What is trained are the integer weights (their rounding passes gradients straight through), biases
and the scales of activations; all are written back under the names they had, so speed and size stay.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.errors import MissingError
from edgec.quantize import layers
from edgec.quantize.corrections.bias import layer_scales, shift_bias
from edgec.quantize.corrections.distill.blocks import Block, blocks, needed, reference
from edgec.quantize.corrections.distill.program import Program
from edgec.quantize.corrections.distill.store import store
from edgec.quantize.corrections.distill.train import Rates, Result, train
from edgec.quantize.corrections.judge import Judge, before_probabilities, split
from edgec.quantize.corrections.lockstep import Cuts, Feed
from edgec.quantize.session import Session

# What inputs and targets of one block, and what is alive beside them, may take over all samples.
MEMORY = 256 * 2**20


@dataclass(frozen=True)
class Part:
    """One block, or the whole model.

    Attributes:
        name: of the float value it is to give; "end to end".
        layers: quantized layers in it.
        before: error over the signal on samples held out from its training, dB; NaN where it was left alone.
        after: the same after training.
        left: why it was left alone, else "".
    """

    name: str
    layers: int
    before: float
    after: float
    left: str = ""


@dataclass(frozen=True)
class Distilled:
    """What distillation did.

    Attributes:
        model: trained, or the quantized one as it came where that was no better.
        kept: whether samples that no training saw gained: in sum, and on the typical one.
        before: SQNR of the outputs (before a final softmax) on those, dB.
        after: the same after training.
        parts: blocks in order, then the whole.
        samples: how many were trained on.
    """

    model: ir.Model
    kept: bool
    before: float
    after: float
    parts: tuple[Part, ...]
    samples: int

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return {
            "kept": self.kept,
            "samples": self.samples,
            "parts": [{k: _number(v) for k, v in asdict(p).items()} for p in self.parts],
        }


def available() -> bool:
    """Whether torch is installed."""
    return importlib.util.find_spec("torch") is not None


def distill(
    model: ir.Model,
    quantized: ir.Model,
    data: Dataset,
    *,
    by_block: bool = True,
    end_to_end: bool = True,
    steps: int = 400,
    batch: int = 16,
    rates: Rates = Rates(),  # noqa: B008 - frozen
    samples: int = 256,
    held_out: int = 32,
    seed: int = 0,
    progress: Callable[[int, int | None], None] | None = None,
) -> Distilled:
    """Train a quantized model on calibration inputs, and keep it only if samples that it has not seen gain.

    Every fourth sample of the data is held out and decides; of the others, every fifth decides within each training
    when to stop. Deterministic for a number of threads.

    Args:
        model: the float model that `quantized` was made of; not changed.
        quantized: with Q/DQ; not changed.
        data: calibration feeds; with fewer than eight nothing is done.
        by_block: train blocks one after the other.
        end_to_end: train the whole behind that.
        steps: of each training.
        batch: samples a step.
        rates: how fast.
        samples: at most so many to train on; fewer where a block's values would take more than `MEMORY`.
        held_out: at most so many to decide with.
        seed: of the order of samples.
        progress: called with (parts done, parts or None).

    Raises:
        MissingError: torch is not installed.
        BadInputError: the data is not what the model wants.
    """
    if not available():
        raise MissingError(
            "distillation needs torch, which is not installed", "", "pip install 'edgec[distill]'", code="E1010"
        )
    used, kept_back = split(data, samples, held_out)
    copy = quantized.clone()
    inputs = [v for v in copy.graph.inputs if v.name not in copy.graph.initializers]
    if not kept_back or len(used) < 6 or len(inputs) != 1 or inputs[0].dtype != ir.DataType.FLOAT:
        return Distilled(quantized, False, math.nan, math.nan, (), 0)
    _own_biases(copy)
    parts: list[Part] = []
    options = {"steps": steps, "batch": batch, "rates": rates, "seed": seed}

    def done(part: Part) -> None:
        parts.append(part)
        if progress:
            progress(len(parts), None)

    source, last = inputs[0], _last(copy)
    if by_block and last is not None:
        _blocks(model, copy, last, used, options, done)
    if end_to_end and last is not None:
        done(_whole(model, copy, source, last, used, options))
    judge = Judge(model, kept_back)
    before, after = judge(quantized), judge(copy)
    kept = after.beats(before)
    return Distilled(copy if kept else quantized, kept, before.sqnr, after.sqnr, tuple(parts), len(used))


def _last(quantized: ir.Model) -> ir.Value | None:
    """The value before the probabilities; None where there are several outputs or no float one."""
    outputs = before_probabilities(quantized).graph.outputs
    own = {v.name: v for node in quantized.graph for v in node.outputs}
    only = outputs[0] if len(outputs) == 1 else None
    return None if only is None or only.dtype not in (None, ir.DataType.FLOAT) else own.get(only.name)


def _blocks(
    model: ir.Model,
    copy: ir.Model,
    last: ir.Value,
    used: list[Feed],
    options: dict[str, Any],
    done: Callable[[Part], None],
) -> None:
    found = blocks(model, copy, last)
    if not found:
        return
    floats = {v.name: v for node in model.graph for v in node.outputs}
    references = [floats[b.reference] for b in found]
    used = used[: _affordable(model, copy, found, references, used[0])]
    ours, theirs = Cuts(copy, [b.result for b in found]), Cuts(model, references)
    state, expected = [dict(f) for f in used], [dict(f) for f in used]
    name = str(found[0].source.name)
    reaching = [f[name] for f in used]
    try:
        for k, block in enumerate(found):
            done(_train(copy, block, reaching, theirs.advance(k, expected), options))
            reaching = ours.advance(k, state)
    finally:
        ours.close()
        theirs.close()


def _train(
    copy: ir.Model, block: Block, inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray], options: dict[str, Any]
) -> Part:
    program = Program(block.nodes, block.source, block.result)
    if program.missing:
        left = f"not in torch: {', '.join(sorted(program.missing))}"
        return Part(block.reference, block.trained, math.nan, math.nan, left)
    result = train(program, inputs, targets, **options)
    if result.kept:
        store(copy, program)
    return Part(block.reference, block.trained, _db(result.before), _db(result.after))


def _whole(
    model: ir.Model, copy: ir.Model, source: ir.Value, last: ir.Value, used: list[Feed], options: dict[str, Any]
) -> Part:
    """All of it at once, to the output before its probabilities."""
    name = "end to end"
    program = Program(needed(list(copy.graph), last, source), source, last)
    if program.missing:
        return Part(name, 0, math.nan, math.nan, f"not in torch: {', '.join(sorted(program.missing))}")
    session = Session(before_probabilities(model))
    inputs = [f[str(source.name)] for f in used]
    trained = train(program, inputs, [session.run(f)[0] for f in used], **options)
    if trained.kept:
        store(copy, program)
    return Part(name, len(program.trained), _db(trained.before), _db(trained.after))


def _own_biases(model: ir.Model) -> None:
    """A bias that two layers share gets a copy for each: their scales will differ."""
    for node in list(model.graph):
        if not layers.is_onnx(node) or node.op_type not in ("Conv", "Gemm") or len(node.inputs) < 3:
            continue
        bias = node.inputs[2]
        if bias is not None and len(bias.uses()) > 1 and layer_scales(node) is not None:
            weight = node.inputs[1]
            producer = None if weight is None else weight.producer()
            integers = None if producer is None else layers.constant(producer.inputs[0])
            assert integers is not None
            shift_bias(model.graph, node, np.zeros(layers.output_channels(node, integers.shape)))


def _affordable(
    model: ir.Model, copy: ir.Model, found: Sequence[Block], references: Sequence[ir.Value], feed: Feed
) -> int:
    """How many samples' live values, inputs and targets fit into `MEMORY`; at least six."""
    sizes = np.zeros(len(found), np.int64)
    for graph, ends in ((copy, [b.result for b in found]), (model, references)):
        cuts, state = Cuts(graph, ends), [dict(feed)]
        for k in range(len(found)):
            result = cuts.advance(k, state)
            sizes[k] += sum(a.nbytes for a in state[0].values()) + 2 * result[0].nbytes
        cuts.close()
    return max(6, MEMORY // max(int(sizes.max()), 1))


def _db(error: float) -> float:
    return math.nan if not error > 0 else -10 * math.log10(error)


def _number(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 2) if math.isfinite(value) else None


__all__ = ["Distilled", "Part", "Rates", "Result", "available", "distill", "reference"]
