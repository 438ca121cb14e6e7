"""The tables in docs/quantization.md, made from benchmarks/results/quantization.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quantization import bars
from benchmarks.quantization.peers import PEERS

DOCS = Path(__file__).parents[2] / "docs" / "quantization.md"
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime",),
    "nncf": ("nncf", "openvino"),
    "olive": ("olive-ai", "onnxruntime"),
    "onnx_neural_compressor": ("onnx-neural-compressor", "onnxruntime"),
    "aimet": ("aimet-onnx", "torch"),
    "modelopt": ("nvidia-modelopt", "onnxruntime", "onnxruntime-gpu"),
}
NAMES = {
    "efficientnet_lite0": "EfficientNet-Lite0",
    "minilm_sts": "MiniLM-L6",
    "ultraface": "UltraFace",
    "silero_vad": "Silero VAD",
    "resnet8_cifar10": "ResNet-8",
    "dscnn_kws": "DS-CNN",
    "ppocr_cls": "PP-OCR direction classifier",
}
ENGINES = {"onnxruntime": "ORT", "openvino": "OpenVINO", "exact": "exact"}


@dataclass(frozen=True)
class Column:
    """A figure of a row.

    Attributes:
        title: in the table's head.
        value: of a row; None where there is none.
        text: how it is written.
        best: which one is printed bold: `max` or `min`.
    """

    title: str
    value: Callable[[dict[str, Any]], float | None]
    text: Callable[[float], str]
    best: Callable[..., float] = max


def _of(name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda row: row.get(name)


def _share(value: float) -> str:
    return f"{100 * value:.2f}".rstrip("0").rstrip(".")


QUALITY = {
    "top1": (Column("top-1 %", _of("value"), _share), Column("agrees %", _of("agreement"), _share)),
    "spearman_mean": (
        Column("Spearman", _of("value"), "{:.4f}".format),
        Column("cosine p5", _of("cosine_p5"), "{:.4f}".format),
    ),
    "f1_vs_fp32": (
        Column("F1", _of("value"), "{:.3f}".format),
        Column("mean IoU", _of("mean_iou"), "{:.3f}".format),
    ),
    "frame_auc": (
        Column("AUC", _of("value"), "{:.4f}".format),
        Column("accuracy %", _of("acc@0.5"), _share),
    ),
}
COMMON = (
    Column("dB", _of("sqnr_db"), "{:.1f}".format),
    Column("MB", lambda row: row["bytes"] / 1e6 if "bytes" in row else None, "{:.2f}".format, min),
    Column("speed ×", lambda row: row.get("float_over_it", {}).get("median"), "{:.2f}".format),
    Column("CPU s", _of("cpu_s"), "{:.0f}".format, min),
    Column("MiB", _of("peak_mib"), "{:.0f}".format, min),
)


def model_table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """One model's rows; the best quantized file of each column is bold, ties together."""
    metric = next(row["metric"] for row in rows.values() if "metric" in row)
    columns = (*QUALITY[metric], *COMMON)
    scored = [row for row in rows.values() if "error" not in row and row["peer"] != "float32"]
    best: dict[str, str] = {}
    for column in columns:
        values = [v for row in scored if (v := column.value(row)) is not None]
        best[column.title] = column.text(column.best(values)) if values else ""
    heads = ["tool", "recipe", "runs in", *(c.title for c in columns)]
    lines = ["| " + " | ".join(heads) + " |", "| --- | --- | --- |" + " ---: |" * len(columns)]
    for row in rows.values():
        cells = [PEERS.get(row["peer"], row["peer"]), row["recipe"], ENGINES[row["engine"]]]
        if "error" in row:
            cells += [f"fails: {row['error'].replace('|', '/')[:110]}", *[""] * (len(columns) - 1)]
        else:
            for column in columns:
                value = column.value(row)
                text = "–" if value is None else column.text(value)
                if column.title == "speed ×" and value is not None:
                    low, high = row["float_over_it"]["p10"], row["float_over_it"]["p90"]
                    spread = f" ({low:.2f}–{high:.2f})"
                else:
                    spread = ""
                bold = row["peer"] != "float32" and text == best[column.title]
                cells.append((f"**{text}**" if bold else text) + spread)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def behind(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Where a peer's file is better than every one of ours, column by column, in the same engine."""
    metric = next((row["metric"] for row in rows.values() if "metric" in row), "")
    found = []
    for column in (*QUALITY.get(metric, ()), *COMMON):
        for engine, short in ENGINES.items():
            scored = [r for r in rows.values() if "error" not in r and r["engine"] == engine and r["peer"] != "float32"]
            known = [(v, r) for r in scored if (v := column.value(r)) is not None]
            ours = [v for v, r in known if r["peer"] == "edgec"]
            if not ours or not known:
                continue
            best, row = column.best(known, key=lambda pair: pair[0])
            own = column.best(ours)
            if column.best(best, own) != own and column.text(best) != column.text(own):
                text = f"{column.title} in {short}: {column.text(best)} ({row['peer']}, {row['recipe']})"
                found.append(f"{text}, ours {column.text(own)}")
    return found


def environment_table(found: dict[str, Any]) -> list[str]:
    """What each tool's installation takes."""
    lines = ["| tool | MB installed | seconds | versions |", "| --- | ---: | ---: | --- |"]
    for peer, name in PEERS.items():
        made = found.get(peer)
        if made is None:
            continue
        if "failed" in made:
            lines.append(f"| {name} | {made['failed'][:150]} | | |")
            continue
        wanted = DISTRIBUTIONS.get(peer, ("edgec", "onnxruntime"))
        versions = ", ".join(f"{d} {made['packages'][d]}" for d in wanted if d in made["packages"])
        lines.append(f"| {name} | {made['megabytes']} | {made['seconds']} | {versions} |")
    return lines


LEGEND = """\
Every file is quantized with the same calibration inputs and scored on the same evaluation set by the same code;
**bold**: the best quantized file of a column, whoever made it.

- *runs in*: ORT is onnxruntime; both engines on one thread. *exact*: a symmetric int8 file with uint8 zero points of
  128, the same numbers, so that onnxruntime's s8·s8 kernels don't decide.
- *dB*: all float outputs, before a final softmax.
- *speed ×*: CPU time of float32 in onnxruntime over this row's, on 8 inputs, all files of a model in turn in one
  process (10th to 90th percentile of the rounds).
- *CPU s*, *MiB*: of the process that made the file, imports included, on the threads that the tool takes by itself.

A tool that fails on a model is a row with its message."""


def rendered(found: dict[str, Any]) -> str:
    """Everything between the markers: the bars, a table a model (folded but the first), the installations."""
    lines = [*bars.table(found), "", LEGEND]
    for case in (c for c in NAMES if found["rows"].get(c)):
        rows = found["rows"][case]
        dates = sorted({row["date"] for row in rows.values()})
        taken = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        count = next((row["n"] for row in rows.values() if "n" in row), 0)
        title = f"<b>{NAMES[case]}</b>: {len(rows)} rows, {SAMPLES.get(case, '{} samples').format(count)}, {taken}"
        opened = " open" if case == next(iter(NAMES)) else ""
        lines += ["", f"<details{opened}><summary>{title}</summary>", "", *model_table(rows), "", "</details>"]
    lines += ["", "What the tools take to install, in an empty environment:", ""]
    lines += environment_table(found["environments"])
    machines = "; ".join(f"{m['cpu']} ({', '.join(m['isa'])})" for m in found["machines"].values())
    notes = f"Machine: {machines}. Versions and dates of every row are in `benchmarks/results/quantization.json`."
    return "\n".join([*lines, "", notes])


SAMPLES = {"minilm_sts": "{} pairs of sentences", "silero_vad": "{} frames"}


def write(found: dict[str, Any]) -> None:
    """Replaces what lies between the markers."""
    text = DOCS.read_text()
    before, rest = text.split(BEGIN, 1)
    DOCS.write_text(f"{before}{BEGIN}\n{rendered(found)}\n{END}{rest.split(END, 1)[1]}")
