"""The figures of docs/arm.md from results/arm.json: `python -m benchmarks.arm_tables` writes them between its marks."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import arm_verdicts, record, zoo

PAGE = Path(__file__).parents[1] / "docs" / "arm.md"
BEGIN, END = "<!-- figures: python -m benchmarks.arm_tables -->", "<!-- /figures -->"
ENGINES = ("litert", "onnxruntime", "tvm", "ncnn")


def table(columns: list[str], rows: Iterable[Iterable[str]], *, words: int = 1) -> str:
    """A table whose first `words` columns are words, the others numbers."""
    head = ["| " + " | ".join(columns) + " |", "|" + " --- |" * words + " ---: |" * (len(columns) - words)]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])


def prose(*parts: str) -> str:
    return textwrap.fill(" ".join(parts), 150, break_long_words=False, break_on_hyphens=False)


def millions(counts: Any) -> str:
    number = arm_verdicts.count(counts)
    if number is None:
        return "–"
    return f"{number / 1e6:.3g}" if number < 1e8 else f"{number / 1e6:.0f}"


def megabytes(number: float) -> str:
    return f"{number / 1e6:.1f}"


def verdicts(figures: dict[str, Any]) -> str:
    rows = (
        (row.measure, row.bar, row.value + (f"; {row.note}" if row.note else ""), f"*{row.verdict}*")
        for row in arm_verdicts.rows(figures)
    )
    return table(["measure", "bar", "measured", ""], rows, words=4)


def start(figures: dict[str, Any]) -> str:
    found = {name: value for name, value in figures["start"].items() if "instructions" in value}
    rows = (
        (name, f"{value['instructions'] / 1e6:.1f}", "" if name.startswith("of that") else megabytes(value["memory"]))
        for name, value in found.items()
    )
    size = figures["start"]["installed size, bytes"]["together"] / 1e6
    return (
        "A model of one operator on a Cortex-A76, over bare Python, bytecode cached:\n\n"
        + table(["", "M instructions", "MB of memory"], rows)
        + "\n\n"
        + prose(
            "A verifying load includes the check of the library in a child process. An installed app imports no",
            "`json`, `zipfile`, `hashlib`, `typing`, `ctypes` or numpy.",
            f"Installed, runtime and LiteRT are {size:.1f} MB.",
        )
    )


def calls(figures: dict[str, Any]) -> str:
    found = figures["calls"]
    here = found["this machine"]
    rows = []
    for name, value in found.items():
        if name != "this machine":
            over = here.get(f"{name.partition(', ')[2]}, over the C call")
            rows.append([name, f"{value:,}", "" if over is None else f"{over:.2f}"])
    return "The same model, through everything a user's call goes through, and the C function alone:\n\n" + table(
        ["", "instructions, A76", "µs over the C call, x86-64"], rows
    )


def models(figures: dict[str, Any]) -> str:
    rows = []
    for case in zoo.CASES:
        for core, row in figures.get("models", {}).get(case, {}).items():
            row = row["int8"]
            best = [n for key in row if "quantizer" in key and (n := arm_verdicts.count(row[key]))]
            chosen = row.get(f"{row.get('chosen')} edgec")
            named = chosen if isinstance(chosen, dict) else {}
            kinds = ", ".join(f"{kind} {named[kind]:,}" for kind in ("mmla", "dot", "smlal") if named.get(kind))
            rows.append([
                case, core, row.get("chosen", "–"), kinds, millions(chosen), millions(row.get("litert package")),
                millions(row.get("onnxruntime package")),
                millions({"instructions": min(best)} if best else None),
            ])  # fmt: skip
    columns = ["model", "core", "first payload", "its multiplications", "its count", "ai-edge-litert", "onnxruntime",
               "onnxruntime, its quantizer's file"]  # fmt: skip
    said = prose(
        "Millions of instructions of one call, int8, one thread; bundles by `edgec compile --effort plain` for",
        "rpi-zero2w, rpi5 and generic-armv8.6-i8mm, each model with the shapes of its first evaluation input (Silero",
        "VAD: 32 frames).",
        '"First payload" is what a load takes; it is counted through the runtime\'s adapter. The packages run the same',
        "files; the last column is the best that onnxruntime's own quantizer (u8s8, s8s8) makes, run by onnxruntime:",
    )
    return said + "\n\n" + table(columns, rows, words=4)


def floats(figures: dict[str, Any]) -> str:
    cases = dict(figures.get("floats", {}))
    rows = [
        [case, millions(row.get("onnxruntime package")), *(millions(row.get(f"{e} edgec")) for e in ENGINES)]
        for case, row in cases.items()
    ]
    missing = {
        engine: row[f"{engine} edgec"]["refused"]
        for row in cases.values()
        for engine in ENGINES
        if "refused" in row.get(f"{engine} edgec", {})
    }
    reasons = "".join(f"\n{engine} was not measured: {why}" for engine, why in missing.items())
    said = prose(
        "Millions of instructions of one call in float32 on a Cortex-A53. MiniLM and the larger convnets were not",
        "measured: QEMU emulates floating point in software, which takes up to an hour a model.",
    )
    columns = ["model", "package onnxruntime", *(f"{engine}, by edgec" for engine in ENGINES)]
    return f"{said}\n\n{table(columns, rows)}" + (f"\n{reasons}" if reasons else "")


def x86(figures: dict[str, Any]) -> str:
    rows = []
    for case, row in figures.get("x86", {}).items():
        ratios = {engine: f"{found['time']['median']:.2f}" for engine, found in row["engines"].items()}
        rows.append([case, f"{row['onnxruntime_us']:.0f}", *(ratios.get(e, "–") for e in ("litert", "tvm", "ncnn"))])
    return "CPU time of float32 on this x86-64 over the package onnxruntime's, one thread, in turn:\n\n" + table(
        ["model", "onnxruntime, µs", "LiteRT", "TVM", "ncnn"], rows
    )


def host(figures: dict[str, Any]) -> str:
    rows = []
    for case, row in figures.get("host", {}).items():
        over = row["over the best"]
        lite = row.get("litert int8 over onnxruntime int8")
        ratio = f"{over['median']:.2f} ({over['p10']:.2f}–{over['p90']:.2f})"
        rows.append([case, row["ships"], row["best of onnxruntime"], ratio, f"{lite['median']:.2f}" if lite else "–"])
    said = prose(
        "What `edgec compile -t host` ships (`--effort plain`, calibration data) beside onnxruntime's best, CPU time,",
        "one thread, in turn; best of the model as given, its own quantizer's int8, and edgec's int8:",
    )
    columns = ["model", "ships", "onnxruntime's best", "ratio of CPU time", "int8: LiteRT over onnxruntime"]
    return f"{said}\n\n{table(columns, rows, words=3)}"


def same(figures: dict[str, Any]) -> str:
    rows = []
    for case, found in figures.get("same", {}).items():
        if "in floating point" not in found:
            continue
        by_engine = [found.get(engine) for engine in ("onnxruntime", "litert")]
        words = ["–" if e is None else "identical" if e["the same"] else "differ" for e in by_engine]
        both = "–" if None in by_engine else "identical" if found["all the same"] else "differ"
        rest = ", ".join(found["in floating point"]) or "nothing"
        rows.append([case, str(found["inputs"]), *words, both, rest])
    columns = ["model", "inputs", "ONNX Runtime, four machines", "LiteRT, four machines", "both engines",
               "float operators"]  # fmt: skip
    return (
        "int8 answers over real inputs on Cortex-A53, A76, i8mm and x86-64 with VNNI: all integers that an operator in"
        " floating point reads,\nbefore the float tail of the model rounds them:\n\n" + table(columns, rows)
    )


def sharing(figures: dict[str, Any]) -> str:
    rows = []
    for name, row in figures.get("sharing", {}).items():
        one, four, two = row["one model"], row["four models"], row["each of two processes"]
        rows.append([
            name, megabytes(row["file"]), str(one["threads"]), str(four["threads"]), megabytes(one["private"]),
            megabytes(four["private"]), megabytes(two["file"]), megabytes(two["file_pss"]),
        ])  # fmt: skip
    columns = ["EfficientNet-Lite0", "file, MB", "threads, one model", "four", "private MB, one model", "four",
               "file in memory, of two processes each", "its share (PSS)"]  # fmt: skip
    return "Two threads asked for; what models add to a process on x86-64:\n\n" + table(columns, rows)


SECTIONS = {
    "Bars": verdicts, "Starting": start, "A call": calls, "An inference in int8": models,
    "An inference in floating point": floats, "On x86-64": x86, "What ships for this machine": host,
    "The same answers everywhere": same, "Several models, several processes": sharing,
}  # fmt: skip


def text(run: dict[str, Any]) -> str:
    """All of it, as Markdown."""
    figures, versions = run["figures"], run["versions"]
    parts = [
        prose(
            f"`python -m benchmarks.arm`, {run['date']}; {run['emulator']}, onnxruntime {versions['onnxruntime']};",
            "all counts with versions are in `benchmarks/results/arm.json`.",
        )
    ]
    for title, make in SECTIONS.items():
        try:
            parts.append(f"### {title}\n\n{make(figures)}")
        except (KeyError, TypeError) as error:
            print(f"no table of {title!r}: {error!r}", file=sys.stderr)
    return "\n\n".join(parts)


def main() -> None:
    """Write them into the page."""
    run = json.loads((record.RESULTS / "arm.json").read_text())
    page = PAGE.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE} lacks the marks {BEGIN} and {END}")
    PAGE.write_text(f"{before}{BEGIN}\n\n{text(run)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
