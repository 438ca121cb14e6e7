"""float16 and bfloat16 forms: size, decibels and CPU time, model by model.

    python -m benchmarks.quantize_half [MODEL …]

For each zoo model, and each of `make models`: the file's size over float32's; SQNR of the outputs (before a final
softmax or sigmoid) on evaluation inputs where the zoo has them, else on seeded noise; CPU time of float32 over the
form's in onnxruntime, one thread, in turn in one process. "weights": constants in 16 bits, run by onnxruntime itself.
"compute": arithmetic in 16 bits; its decibels are those of a device that adds in float32 and rounds each result
(`half/simulate.py`), its time is onnxruntime's on this CPU, which has no such kernels. Goes to
results/quantize_half.json and into docs/quantization_half.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from benchmarks import record, zoo
from benchmarks.int8_speed import timed
from edgec import data, frontends, passes
from edgec.quantize.corrections.judge import before_probabilities
from edgec.quantize.half import KINDS, simulated, to_half
from edgec.quantize.session import Session

DOCS = Path(__file__).parents[1] / "docs" / "quantization_half.md"
BEGIN, END = "<!-- half: begin -->", "<!-- half: end -->"
PIP = Path(__file__).parents[1] / "build" / "models"
SAMPLES = {"efficientnet_lite0": 24, "minilm_sts": 16, "ultraface": 12}
# Inputs of pip's models: a picture's size, or a token's range.
SHAPES = {"det_infer": [1, 3, 320, 320], "rec_infer": [1, 3, 48, 320], "cls_infer": [1, 3, 48, 192]}
FORMS = {
    "float16 weights, to nearest": {"kind": "float16", "mode": "weights", "rounding": "nearest"},
    "float16 weights": {"kind": "float16", "mode": "weights"},
    "bfloat16 weights": {"kind": "bfloat16", "mode": "weights"},
    "float16 compute": {"kind": "float16", "mode": "compute"},
    "bfloat16 compute": {"kind": "bfloat16", "mode": "compute"},
}


def noise(path: Path, model: ir.Model, count: int) -> Iterator[dict[str, Any]]:
    """Seeded inputs for a model without data."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        feed: dict[str, Any] = {}
        for value in model.graph.inputs:
            name, dtype = str(value.name), value.dtype.numpy()  # type: ignore[union-attr]
            shape = [d if isinstance(d, int) else 1 for d in value.shape or []]
            shape = next((s for word, s in SHAPES.items() if word in path.name), shape)
            if "silero" in path.name and name == "input":
                shape = [1, 576] if len(shape) == 2 else [4, *shape[1:]]
            if "magika" in path.as_posix():
                feed[name] = rng.integers(0, 256, [1, 2048]).astype(dtype)
            elif dtype.kind == "f":
                feed[name] = (rng.standard_normal(shape) * 0.3).astype(dtype)
            else:
                feed[name] = np.full(shape, 16000, dtype)
        yield feed


def cases(wanted: list[str]) -> Iterator[tuple[str, ir.Model, data.Dataset, list[dict[str, Any]]]]:
    """Name, fused float32 model, calibration data, evaluation inputs."""
    for case in zoo.CASES:
        if wanted and case not in wanted:
            continue
        model = frontends.load(zoo.folder(case) / "model.onnx").model
        inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
        calibration = data.load_calibration(f"{zoo.folder(case)}/eval.py:feeds", inputs).select(0, None, 8)
        passes.run(model)
        feeds = [dict(f) for f in islice(zoo.module(case).feeds("eval"), SAMPLES.get(case, 100))]
        yield case, model, calibration, feeds
    for path in sorted(PIP.rglob("*.onnx")):
        name = "magika" if "magika" in path.as_posix() else path.stem
        name = f"{name} (pip)" if name in zoo.CASES else name
        if wanted and name not in wanted:
            continue
        model = frontends.load(path).model
        passes.run(model)
        feeds = list(noise(path, model, 6))
        try:
            Session(model).run(feeds[0])
        except Exception as problem:  # a model whose inputs the noise does not fit says so, and is left out
            print(f"{name}: {problem}", flush=True)
            continue
        yield name, model, data.Dataset.of(feeds, model.graph.inputs), feeds


def decibels(model: ir.Model, form: ir.Model, feeds: list[dict[str, Any]]) -> float:
    reference, tested = Session(before_probabilities(model)), Session(before_probabilities(form))
    expected, got = [], []
    for feed in feeds:
        for a, b in zip(reference.run(feed), tested.run(feed), strict=True):
            if a.dtype.kind == "f":
                expected.append(a)
                got.append(b)
    return round(data.sqnr_db(expected, got), 1)


def table(figures: dict[str, Any]) -> str:
    """The figures as the docs show them."""
    lines = [
        "| model | MB | " + " | ".join(FORMS) + " | CPU time: weights, compute |",
        "| --- " * (len(FORMS) + 3) + "|",
    ]
    for name, row in figures.items():
        forms = row["forms"]
        cells = [f"{forms[f]['db']} dB, {forms[f]['size']:.2f}" for f in FORMS]
        speeds = [forms[f]["speed"]["median"] for f in ("float16 weights", "float16 compute")]
        lines.append(
            f"| {name} | {row['bytes'] / 1e6:.1f} | {' | '.join(cells)} | {speeds[0]:.2f} ×, {speeds[1]:.2f} × |"
        )
    return "\n".join(lines)


def write_docs(figures: dict[str, Any]) -> None:
    text = DOCS.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text(f"{before}{BEGIN}\n{table(figures)}\n{END}{after}")


def main() -> None:
    figures: dict[str, Any] = {}
    for name, model, calibration, feeds in cases(sys.argv[1:]):
        contents = {"float32": frontends.save_bytes(model)}
        row: dict[str, Any] = {"bytes": len(contents["float32"]), "samples": len(feeds), "forms": {}}
        for form, options in FORMS.items():
            compute = options["mode"] == "compute"
            made = to_half(model, data=calibration if compute else None, **options)  # type: ignore[arg-type]
            kind = KINDS[options["kind"]]
            run = made.model
            if compute:
                logits = before_probabilities(model)
                run = simulated(to_half(logits, data=calibration, **options).model, kind.onnx)  # type: ignore[arg-type]
            row["forms"][form] = {
                "size": round(len(frontends.save_bytes(made.model)) / row["bytes"], 3),
                "db": decibels(model, run, feeds),
                "half": sum(made.report.half.values()),
                "kept": len(made.report.kept),
                "casts": made.report.casts,
            }
            if form in ("float16 weights", "float16 compute"):
                contents[form] = frontends.save_bytes(made.model)
        seconds = timed(contents, feeds[0])
        for form in contents.keys() - {"float32"}:
            row["forms"][form]["speed"] = record.ratio(seconds["float32"], seconds[form])
        figures[name] = row
        print(name, f"{row['bytes'] / 1e6:.2f} MB")
        for form, f in row["forms"].items():
            speed = f"× {f['speed']['median']:.2f}" if "speed" in f else ""
            print(f"    {form:28s} size {f['size']:.3f}  {f['db']:6.1f} dB  {speed}", flush=True)
        if not sys.argv[1:]:  # after each, so that a run that is cut short leaves what it has
            record.save("quantize_half", figures, unit="SQNR in dB; CPU time of float32 over the form's, 1 thread")
            write_docs(figures)


if __name__ == "__main__":
    main()
