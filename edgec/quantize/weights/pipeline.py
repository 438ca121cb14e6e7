"""Weight-only quantization from end to end: what becomes integers, in which format, rounded how, in which form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, LiftConstantsToInitializersPass

from edgec.data import Dataset
from edgec.errors import BudgetError, UnsupportedError, UsageError
from edgec.progress import Progress, silent
from edgec.quantize.corrections.judge import Judge, split
from edgec.quantize.corrections.lockstep import Feed
from edgec.quantize.weights import embeddings, targets
from edgec.quantize.weights.edit import Editor
from edgec.quantize.weights.fit import fit, fitted
from edgec.quantize.weights.forms import BLOCKS, Form, write
from edgec.quantize.weights.groups import Format, Grouped
from edgec.quantize.weights.items import Item, items
from edgec.quantize.weights.mix import Option, choose
from edgec.quantize.weights.result import Row, WeightsQuantized
from edgec.quantize.weights.sensitivity import noise

# At most so many samples to fit on, to check with, and to measure sensitivity with.
SAMPLES, HELD_OUT, PROBES = 256, 32, 8
# The opset whose DequantizeLinear has blocks and four bits.
OPSET = 21


def quantize_weights(
    model: ir.Model,
    *,
    bits: Literal[8, 4] = 8,
    data: Dataset | None = None,
    group: int | None = None,
    exclude: Collection[str] = (),
    form: Form = "auto",
    max_bytes: int | None = None,
    progress: Progress = silent,
) -> WeightsQuantized:
    """A model whose weights and embedding tables are integers in the file; activations stay float. Deterministic.

    Without data weights are rounded to nearest. With data (four samples at least) they are fitted layer by layer, which
    is kept only where held-out samples come nearer to the float model.

    Args:
        model: float32 or float16, opset 21 or newer, best after the passes; not changed. The exporter's notes
            (metadata, doc strings) are not taken over.
        bits: 8, or 4 for MatMul, Gemm and tables (others keep eight). With data each weight gets a format of its own,
            by how much the outputs suffer, and the file has the size that it would have had; kept where held-out
            samples gain. Tables may then have 5 or 6 bits as well.
        data: calibration feeds, no labels.
        group: features that share a scale, 0 for whole rows, or a power of two from 16 on; None: 64 with eight bits, 32
            with four, or what fits each weight. Tables choose their own (a row, 16).
        exclude: constants, nodes or operator types that stay float.
        form: "auto", "qdq", "nbits" or "folded", see `forms`.
        max_bytes: size of the file; formats are then mixed within it, with or without data.
        progress: `with progress(stage, total) as advance` for each long stage.

    Raises:
        UsageError: an argument that makes no sense, or an exclusion that matches nothing.
        UnsupportedError: nothing to quantize, or the opset is too old.
        BudgetError: `max_bytes` can't be reached.
        BadInputError: the data can't be used.
    """
    _check(bits, group, form)
    from edgec_targets.emitters.onnxruntime import opset

    model = opset.lower(model, opset.candidates(model)[0])
    if model.graph.opset_imports.get("", 0) < OPSET:
        raise UnsupportedError(
            f"opset {model.graph.opset_imports.get('', 0)} can't hold weights in groups",
            f"DequantizeLinear has blocks from opset {OPSET} on",
            f"convert the model to opset {OPSET} (the front end does)",
            code="E411",
        )
    copy = model.clone()
    ClearMetadataAndDocStringPass()(copy)
    LiftConstantsToInitializersPass()(copy)
    _known(copy, exclude)
    found, skipped = items(copy, exclude)
    if not found:
        why = "; ".join(f"{k}: {v}" for k, v in list(skipped.items())[:3])
        why = why or "no node outside If, Loop and Scan has constant weights"
        raise UnsupportedError("no weight of the model can be quantized", why, "leave the model in float", code="E412")
    used, kept_back = split(data, SAMPLES, HELD_OUT) if data is not None else ([], [])
    heard: dict[str, float] = {}
    before = _size(copy)
    formats = {item.name: item.default(bits, group) for item in found}
    nearest = {} if max_bytes is not None else {item.name: item.rounded(formats[item.name]) for item in found}
    if max_bytes is not None or (group is None and used and kept_back):
        rest = before - sum(item.nbytes for item in found)
        same = rest + sum(item.bytes_in(formats[item.name]) for item in found)
        heard, mixed = _mixed(copy, found, bits, max_bytes or same, rest, used[:PROBES], progress)
        rounded = {i.name: i.rounded(mixed[i.name]) for i in found if mixed[i.name] != formats[i.name] or not nearest}
        rounded = nearest | rounded
        if not nearest or _nearer(copy, found, rounded, nearest, kept_back):
            formats, nearest = mixed, rounded
    made, first, second = _fitted(copy, found, formats, nearest, used, kept_back, progress)
    written = copy.clone()
    again, _ = items(written, exclude)
    editor = Editor(written.graph)
    for item in again:
        _write(editor, item, made.get(item.name, nearest[item.name]), form)
    layers = tuple(
        Row(i.name, i.kind, formats[i.name], i.name in made, i.nbytes, i.bytes_in(formats[i.name]), heard.get(i.name))
        for i in found
    )
    final = Judge(copy, kept_back)(written).sqnr if kept_back else None
    return WeightsQuantized(written, layers, skipped, before, _size(written), first, second, final)


def _check(bits: int, group: int | None, form: str) -> None:
    if bits not in (4, 8):
        raise UsageError(f"weights of {bits} bits", "they are made int8 or int4", "ask for 8 or 4", code="E215")
    if group is not None and group != 0 and group not in BLOCKS:
        why = "engines multiply by blocks of a power of two, 16 at least"
        raise UsageError(f"a group of {group} features", why, "ask for 16, 32, 64, 128 or 0 (whole rows)", code="E215")
    if form not in ("auto", "qdq", "nbits", "folded"):
        raise UsageError(f"no form '{form}'", "there are auto, qdq, nbits and folded", code="E215")


def _known(model: ir.Model, exclude: Collection[str]) -> None:
    names = {v.name for v in model.graph.initializers.values()}
    for node in model.graph:
        names |= {node.name, node.op_type, *(v.name for v in node.outputs)}
    if unknown := sorted(set(exclude) - names):
        raise UsageError(
            f"nothing is called '{unknown[0]}'", "exclude takes constants, nodes and operator types", code="E213"
        )


def _size(model: ir.Model) -> int:
    return int(ir.to_proto(model).ByteSize())


def _mixed(
    model: ir.Model, found: list[Item], bits: int, max_bytes: int, rest: int, feeds: list[Feed], progress: Progress
) -> tuple[dict[str, float], dict[str, Format]]:
    """A format for each item within the size; noise that each makes in its smallest format, where data can tell.

    `rest` are the bytes of everything else.
    """
    budget = max_bytes - rest
    smallest = {item.name: min(item.choices(bits), key=item.bytes_in) for item in found}
    rounded = {i.name: (lambda i=i: i.array(i.rounded(smallest[i.name]))) for i in found}
    heard: dict[str, float] = {}
    if feeds:
        with progress("measuring sensitivity", len(found)) as advance:
            heard = noise(model, rounded, feeds, advance)
    options: dict[str, list[Option]] = {}
    with progress("choosing formats", len(found)) as advance:
        for item in found:
            energy, errors = item.errors(item.choices(bits))
            worst = errors[smallest[item.name]] or 1e-30
            # Without data, or where it can't tell (NaN), every weight's relative error counts the same.
            scale = heard.get(item.name, worst / energy)
            scale = scale if np.isfinite(scale) else worst / energy
            options[item.name] = [Option(f, item.bytes_in(f), scale * e / worst) for f, e in errors.items()]
            advance(1)
    formats = choose(options, budget)
    if formats is None:
        least = max_bytes - budget + sum(min(o.nbytes for o in given) for given in options.values())
        raise BudgetError(
            f"the model can't have {max_bytes:,} bytes",
            f"with all weights of {bits} bits it has {least:,}",
            "allow more, or four bits" if bits == 8 else "allow more",
            code="E302",
        )
    return heard, formats


def _nearer(
    copy: ir.Model, found: list[Item], new: Mapping[str, Grouped], old: Mapping[str, Grouped], feeds: list[Feed]
) -> bool:
    """Whether held-out samples gain by other integers."""
    judge = Judge(copy, feeds)
    verdicts = [judge(_replaced(copy, {i.name: i.array(made[i.name]) for i in found})) for made in (new, old)]
    return verdicts[0].beats(verdicts[1])


def _fitted(
    copy: ir.Model,
    found: list[Item],
    formats: Mapping[str, Format],
    nearest: Mapping[str, Grouped],
    used: list[Feed],
    kept_back: list[Feed],
    progress: Progress,
) -> tuple[dict[str, Grouped], float | None, float | None]:
    """Integers fitted to data where that helps, and the held-out SQNR, dB, of those to nearest and of the fitted."""
    chosen = [i.what for i in found if isinstance(i.what, targets.Target) and fitted(i.what)]
    if not kept_back:
        return {}, None, None
    judge = Judge(copy, kept_back)
    plain = judge(_replaced(copy, {i.name: i.array(nearest[i.name]) for i in found}))
    if not chosen:
        return {}, plain.sqnr, None
    names = {t.name for t in chosen}
    work = _replaced(copy, {i.name: i.array(nearest[i.name]) for i in found if i.name not in names})
    again, _ = targets.find(work)
    with progress("fitting weights", len(chosen)) as advance:
        made = fit(copy, work, [t for t in again if t.name in names], formats, used, progress=advance)
    verdict = judge(work)
    return (made if verdict.beats(plain) else {}), plain.sqnr, verdict.sqnr


def _replaced(model: ir.Model, arrays: Mapping[str, np.ndarray]) -> ir.Model:
    """A copy with other constants, in the dtype of those that were there."""
    copy = model.clone()
    constants = copy.graph.initializers
    for name, array in arrays.items():
        old = constants[name].dtype or ir.DataType.FLOAT
        constants[name].const_value = ir.Tensor(array.astype(old.numpy()), name=name)
    return copy


def _write(editor: Editor, item: Item, made: Grouped, form: Form) -> None:
    if isinstance(item.what, embeddings.Table):
        embeddings.rewrite(editor, item.what, made)
    else:
        write(editor, item.what, made, form)
