"""What of the known models goes into TFLite's format, and how near its answers are to ONNX Runtime's.

    python -m benchmarks.litert_coverage [--only REGEX] [--no-save]

Models: the zoo in float32, float16 (weights) and int8 (edgec's quantizer, every layer in integers, effort "plain", then
`harmonize`), and the ONNX models that pip packages bring (`make models`), with the shapes below. Each is run beside
ONNX Runtime on real inputs (the zoo's evaluation data; for others rendered strokes, tones, this file's text).
`dB` is the SQNR of the worst output over all inputs against ONNX Runtime on the same model; for float16 against the
float32 model. `equal` is the share of inputs whose every output is equal bit for bit. The table goes to docs/litert.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from benchmarks import record, zoo
from edgec import data, frontends, passes, quantize
from edgec_targets.emitters.litert import prove
from edgec_targets.emitters.litert.conversion import Written, convert
from edgec_targets.emitters.litert.harmony import harmonize

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "litert.md"
MODELS = ROOT / "build" / "models"
INPUTS = 30
INTEGER = ("dscnn_kws", "resnet8_cifar10", "ppocr_cls", "silero_vad", "ultraface", "efficientnet_lite0", "minilm_sts")
SPEECH = {"input": (1, 576), "state": (2, 1, 128), "sr": ()}
PIP: dict[str, dict[str, tuple[int, ...]]] = {
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": {"x": (1, 3, 320, 320)},
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": {"x": (1, 3, 48, 320)},
    "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx": {"x": (1, 3, 48, 192)},
    "silero_vad/data/silero_vad.onnx": SPEECH,
    "silero_vad/data/silero_vad_16k_op15.onnx": SPEECH,
    "silero_vad/data/silero_vad_16k_sequence.onnx": {"input": (1, 576), "h": (1, 1, 128), "c": (1, 1, 128)},
    "silero_vad/data/silero_vad_half.onnx": SPEECH,
    "silero_vad/data/silero_vad_op18_ifless.onnx": SPEECH,
    "silero_vad/data/silero_vad_openvino_16k.onnx": SPEECH,
    "magika/models/standard_v3_3/model.onnx": {"bytes": (1, 2048)},
}
Feed = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="models whose name matches")
    parser.add_argument("--no-save", action="store_true", help="print only")
    arguments = parser.parse_args()
    rows = []
    for name, make in cases():
        if re.search(arguments.only, name):
            rows.append(make())
            print(line(rows[-1]), flush=True)
    if not arguments.no_save and not arguments.only:
        record.save("litert_coverage", rows, engine="ai-edge-litert", inputs=INPUTS)
        write(rows)
    wholly = sum(r["wholly"] for r in rows)
    print(f"{wholly} of {len(rows)} wholly")
    if any(r["wholly"] and r["precision"] == "float32" and r["db"] < 60 for r in rows):
        sys.exit("a float32 model is under 60 dB")


def cases() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Name and what to do, in the table's order."""
    for case in zoo.CASES:
        yield f"{case} float32", lambda case=case: float_row(case)
        yield f"{case} float16", lambda case=case: half_row(case)
        if case in INTEGER:
            yield f"{case} int8", lambda case=case: int8_row(case)
    for name, shapes in PIP.items():
        if (MODELS / name).is_file():
            yield f"{Path(name).stem} float32", lambda name=name, shapes=shapes: pip_row(name, shapes)


def fused(case: str) -> ir.Model:
    model = frontends.load(zoo.folder(case) / "model.onnx").model
    passes.run(model)
    return model


def feeds(case: str, which: str, count: int, model: ir.Model) -> list[Feed]:
    """Single samples of a case's data."""
    batched = {v.name for v in model.graph.inputs if v.shape is not None and not isinstance(v.shape[0], int)}
    found: list[Feed] = []
    for feed in zoo.module(case).feeds(which):
        rows = max((len(a) for n, a in feed.items() if n in batched), default=1)
        for n in range(rows):
            found.append({k: np.ascontiguousarray(a[n : n + 1]) if k in batched else a for k, a in feed.items()})
            if len(found) == count:
                return found
    return found


def float_row(case: str) -> dict[str, Any]:
    model = fused(case)
    return row(case, "float32", model, convert(model), feeds(case, "eval", INPUTS, model), model)


def half_row(case: str) -> dict[str, Any]:
    model = fused(case)
    return row(case, "float16", model, convert(model, half=True), feeds(case, "eval", INPUTS, model), model)


def int8_row(case: str) -> dict[str, Any]:
    model = fused(case)
    calib = feeds(case, "calib", 64, model)
    made = quantize.quantize_with_data(
        model, data.Dataset.of(calib, model.graph.inputs), effort="plain", arch="aarch64"
    ).model
    made, _ = harmonize(made)
    return row(case, "int8", made, convert(made), feeds(case, "eval", INPUTS, model), made)


def pip_row(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    proto = onnx.load(MODELS / name)
    for value in proto.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            dim.dim_value = size
    model = frontends.load(proto).model
    passes.run(model)
    title = name.split("/")[0] if Path(name).stem == "model" else Path(name).stem
    return row(title, "float32", model, convert(model), list(pip_feeds(model, shapes)), model)


def pip_feeds(model: ir.Model, shapes: dict[str, tuple[int, ...]]) -> Iterator[Feed]:
    rng = np.random.default_rng(0)
    names = {str(v.name) for v in model.graph.inputs}
    for _ in range(8):
        feed: Feed = {}
        for name in names:
            shape = shapes[name]
            if name == "x":
                feed[name] = picture(rng, shape)
            elif name == "sr":
                feed[name] = np.array(16000, np.int64)
            elif name == "bytes":
                text = np.frombuffer((Path(__file__).read_bytes() * 2)[:2048], np.uint8)
                feed[name] = np.roll(text, int(rng.integers(2048))).astype(np.int32)[None]
            elif name == "input":
                t = np.arange(shape[-1]) / 16000
                tone = sum(np.sin(2 * np.pi * f * t) / k for k, f in enumerate(rng.uniform(90, 900, 5), 1))
                feed[name] = (0.2 * tone + 0.01 * rng.standard_normal(shape)).astype(np.float32)
            else:
                feed[name] = (0.1 * rng.standard_normal(shape)).astype(np.float32)
        yield feed


def picture(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Dark strokes on white, in PP-OCR's range of −1 to 1."""
    image = np.ones(shape, np.float32)
    for _ in range(40):
        top, left = int(rng.integers(shape[2] - 12)), int(rng.integers(shape[3] - 12))
        if rng.random() < 0.5:
            image[..., top : top + 10, left : left + 2] = -1
        else:
            image[..., top : top + 2, left : left + 9] = -1
    return np.clip(image + 0.03 * rng.standard_normal(shape), -1, 1).astype(np.float32)


def row(
    name: str, precision: str, source: ir.Model, written: Written, inputs: list[Feed], reference: ir.Model
) -> dict[str, Any]:
    """One line of the table, measured."""
    result: dict[str, Any] = {"model": name, "precision": precision, "wholly": written.data is not None}
    if written.data is None:
        first = written.problems[0]
        result["stopped"] = f"{first.operator} {first.node}: {first.why}"
        return result
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    proto = ir.to_proto(reference).SerializeToString()
    session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    runner, equal = prove.Runner(written.data), 0
    names = [o.name for o in session.get_outputs()]
    signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for feed in inputs:
        want, got = dict(zip(names, session.run(None, feed), strict=True)), runner(feed)
        equal += all(np.array_equal(want[n], got[n]) for n in names)
        for n in names:
            signal[n] += float(np.square(want[n].astype(np.float64)).sum())
            noise[n] += float(np.square(want[n].astype(np.float64) - got[n]).sum())
    decibels = [10 * np.log10(signal[n] / noise[n]) if noise[n] else 999.0 for n in names]
    return {
        **result,
        "operators": sum(written.operators.values()),
        "transposes": written.transposes,
        "db": round(min(decibels), 1),
        "equal": round(equal / len(inputs), 3),
        "inputs": len(inputs),
        "bytes": len(written.data),
        "onnx_bytes": len(ir.to_proto(source).SerializeToString()),
        "by_operator": dict(sorted(written.operators.items())),
        "notes": list(written.notes),
    }


def line(r: dict[str, Any]) -> str:
    """One row in Markdown."""
    if not r["wholly"]:
        return f"| {r['model']} | {r['precision']} | no | | | | | {r['stopped'][:150]} |"
    near = "equal" if r["db"] == 999 else f"{r['db']:.0f} dB"
    size = f"{r['bytes']:,}"
    return (
        f"| {r['model']} | {r['precision']} | yes | {r['operators']} | {r['transposes']} | {near} | {size} | "
        f"{'; '.join(sorted({n.split(': ')[1] for n in r['notes']}))} |"
    )


def write(rows: list[dict[str, Any]]) -> None:
    """The table between the page's markers."""
    head = (
        "| model | precision | wholly | operators | transposes | beside ONNX Runtime | bytes | differs, or stopped by |"
    )
    table = "\n".join([head, "| --- | --- | --- | --- | --- | --- | --- | --- |", *map(line, rows)])
    page = PAGE.read_text(encoding="utf-8")
    made = re.sub(
        r"(<!-- coverage: begin -->\n).*?(<!-- coverage: end -->)",
        lambda m: f"{m[1]}\n{table}\n\n{m[2]}",
        page,
        flags=re.S,
    )
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
