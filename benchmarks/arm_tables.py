"""The tables of docs/arm.md from results/arm.json: `python -m benchmarks.arm_tables`."""

from __future__ import annotations

import json
from typing import Any

from benchmarks import record


def table(columns: list[str], rows: list[list[str]]) -> str:
    head = ["| " + " | ".join(columns) + " |", "| --- " + "| ---: " * (len(columns) - 1) + "|"]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])


def millions(counts: Any) -> str:
    if not isinstance(counts, dict) or "instructions" not in counts:
        return "–"
    return (
        f"{counts['instructions'] / 1e6:.3g}" if counts["instructions"] < 1e8 else f"{counts['instructions'] / 1e6:.0f}"
    )


def start(figures: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{value['instructions'] / 1e6:.1f}",
            "" if name.startswith("of that") else f"{value['memory'] / 1e6:.1f}",
        ]
        for name, value in figures.items()
        if "instructions" in value
    ]
    return table(["", "M instructions", "MB of memory"], rows)


def call(figures: dict[str, Any]) -> str:
    here = figures["this machine"]
    micro = {
        "edgec_runtime, memoryviews": here["memoryviews, over the C call"],
        "edgec_runtime, numpy arrays": here["numpy arrays, over the C call"],
    }
    rows = [
        [name, f"{value:,}", f"{micro[name]:.2f}" if name in micro else ""]
        for name, value in figures.items()
        if name != "this machine"
    ]
    return table(["", "instructions, A76", "µs over the C call, x86-64"], rows)


def models(figures: dict[str, Any]) -> str:
    rows = []
    for case, cores in figures.items():
        for core, precisions in cores.items():
            if core == "not written":
                continue
            for precision, engines in precisions.items():
                ways = ("onnxruntime package", "litert package", "litert edgec")
                rows.append([f"{case} {precision}", core, *(millions(engines.get(way)) for way in ways)])
    return table(["model", "core", "onnxruntime", "ai-edge-litert", "LiteRT, directly"], rows)


def same(figures: dict[str, Any]) -> str:
    rows = []
    for case, found in figures.items():
        if "in floating point" not in found:
            continue
        engines = [found.get(engine) for engine in ("onnxruntime", "litert")]
        words = ["–" if e is None else "identical" if e["the same"] else "differ" for e in engines]
        both = "identical" if found["all the same"] else "differ"
        if len([e for e in engines if e]) < 2:
            both = "–"
        rest = ", ".join(found["in floating point"]) or "nothing"
        rows.append([case, str(found["inputs"]), *words, both, rest])
    columns = [
        "model",
        "inputs",
        "ONNX Runtime, four machines",
        "LiteRT, four machines",
        "both engines",
        "float operators",
    ]
    return table(columns, rows)


def main() -> None:
    """Print all of them."""
    figures = json.loads((record.RESULTS / "arm.json").read_text())["figures"]
    for name, make in (("start", start), ("call", call), ("models", models), ("same", same)):
        print(f"\n{name}\n\n{make(figures[name])}")
    print(f"\n{figures['start']['installed size, bytes']['together'] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
