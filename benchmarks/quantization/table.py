"""The table in docs/quantization.md, from benchmarks/results/quantization.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs" / "quantization.md"
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"


def rows(figures: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| model | file | metric | agreement | dB | KB | CPU s, MiB made in | float's CPU time over its |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case, made in figures.items():
        for name, row in made.items():
            if "error" in row:
                lines.append(f"| {case} | {name} | failed: {row['error'].replace('|', '/')} | | | | | |")
                continue
            cost = f"{row['cpu_s']}, {row['peak_mib']}" if "cpu_s" in row else "–"
            speed = row["float_over_it"]
            lines.append(
                f"| {case} | {name} | {row['metric']} {row['value']} | {row.get('agreement', '–')} | "
                f"{row.get('sqnr_db', '–')} | {row['bytes'] / 1000:.0f} | {cost} | "
                f"{speed['median']:.2f} ({speed['p10']:.2f}–{speed['p90']:.2f}) |"
            )
    return "\n".join(lines)


def write(figures: dict[str, dict[str, Any]]) -> None:
    """Replaces what lies between the markers, or appends the section."""
    text = DOCS.read_text()
    if BEGIN not in text:
        intro = "## Figures\n\n`make bench-quantization`: the same calibration data for all."
        text = text.rstrip("\n") + f"\n\n{intro}\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN, 1)
    DOCS.write_text(f"{before}{BEGIN}\n{rows(figures)}\n{END}{rest.split(END, 1)[1]}")
