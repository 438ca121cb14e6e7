"""What the project asks of itself, held against the rows: met or not, and the best peer beside it.

Ours and the peers' best are chosen by the same rule: the row that meets most of a bar's demands, then the one that is
best at its first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
NOT_INT8 = ("float16", "weight-only", "7-bit", "reduce_range", "MatMulNBits", "weights INT", "int4")


@dataclass(frozen=True)
class Demand:
    """A figure and its bound.

    Attributes:
        value: the figure of a row; None where it has none.
        bound: inclusive.
        text: how the figure is written.
        least: whether the bound is a lower one.
    """

    value: Callable[[Row], float | None]
    bound: float
    text: str
    least: bool = True

    def met(self, row: Row) -> bool:
        value = self.value(row)
        return value is not None and (value >= self.bound if self.least else value <= self.bound)

    def asked(self) -> str:
        return ("≥ " if self.least else "≤ ") + self.text.format(self.bound)

    def of(self, row: Row) -> str:
        value = self.value(row)
        return "–" if value is None else self.text.format(value)

    def rank(self, row: Row) -> float:
        value = self.value(row)
        return float("-inf") if value is None else value if self.least else -value


@dataclass(frozen=True)
class Bar:
    """Demands on one row.

    Attributes:
        title: what it is about.
        case: the model.
        demands: the first is what ties are broken by.
        engine: what runs the row.
        words: a row counts if its recipe holds one of these; empty: all int8 rows of eight-bit weights count.
        own: the one recipe of ours that counts; empty: as for the peers.
    """

    title: str
    case: str
    demands: tuple[Demand, ...]
    engine: str = "onnxruntime"
    words: tuple[str, ...] = ()
    own: str = ""

    def best(self, rows: Sequence[Row]) -> Row | None:
        fitting = [r for r in rows if "error" not in r and r["engine"] == self.engine and self.counts(r)]
        return max(fitting, key=lambda r: (sum(d.met(r) for d in self.demands), self.demands[0].rank(r)), default=None)

    def counts(self, row: Row) -> bool:
        """Whether a row is of the kind that the bar is about."""
        if self.own and row["peer"] == "edgec":
            return bool(row["recipe"] == self.own)
        if self.words:
            return any(w in row["recipe"] for w in self.words)
        return not any(w in row["recipe"] for w in NOT_INT8)


def _number(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.get(name)


def db(bound: float) -> Demand:
    return Demand(_number("sqnr_db"), bound, "{:.1f} dB")


def agreement(percent: float) -> Demand:
    return Demand(lambda r: 100 * r["agreement"] if "agreement" in r else None, percent, "{:.2f} %")


def speed(bound: float) -> Demand:
    return Demand(lambda r: r.get("float_over_it", {}).get("median"), bound, "{:.2f} ×")


def megabytes(bound: float) -> Demand:
    return Demand(lambda r: r["bytes"] / 1e6 if "bytes" in r else None, bound, "{:.1f} MB", least=False)


def number(name: str, bound: float, text: str, least: bool = True) -> Demand:
    return Demand(_number(name), bound, text, least)


def bars(found: dict[str, Any]) -> list[Bar]:
    """The bars; those that are relative to the float model read it from the results."""
    silero = found["rows"].get("silero_vad", {}).get("float32: as given @ onnxruntime", {}).get("value", 1.0)
    weights8 = ("weights INT8", "weight-only int8", "MatMulNBits 8")
    weights4 = ("weights INT4", "weight-only int4", "MatMulNBits 4", "weights 4 bits", "int4")
    lite0, cosine = "efficientnet_lite0", number("cosine_p5", 0.990, "{:.4f} p5")
    return [
        Bar("EfficientNet-Lite0, int8", lite0, (db(23), agreement(99), speed(2.0), megabytes(5.2))),
        Bar("the same, for CPUs without VNNI", lite0, (db(18.5), agreement(98)), words=("7-bit", "reduce_range")),
        Bar("the same, symmetric", lite0, (db(21), agreement(98.5)), "exact"),
        Bar("ResNet-8, symmetric", "resnet8_cifar10", (db(21), agreement(98.5)), "exact"),
        Bar("MiniLM, int8", "minilm_sts", (db(18.5), cosine, speed(2.2), megabytes(23))),
        Bar("MiniLM, int8 in OpenVINO", "minilm_sts", (db(18), speed(2.7)), "openvino"),
        Bar("MiniLM, weight-only int8", "minilm_sts", (db(32), megabytes(23.5)), words=weights8),
        Bar("MiniLM, weight-only int4", "minilm_sts", (db(12.7), megabytes(20)), words=weights4),
        Bar(
            "UltraFace",
            "ultraface",
            (number("value", 0.99, "{:.3f} F1"), number("mean_iou", 0.97, "{:.3f} IoU"), speed(1.2)),
        ),
        Bar("Silero VAD", "silero_vad", (number("value", silero - 0.005, "{:.4f} AUC"),)),
        Bar("ResNet-8", "resnet8_cifar10", (db(22.8), agreement(98.7), speed(1.0))),
        Bar("DS-CNN", "dscnn_kws", (db(27.4), agreement(99), speed(1.0))),
        Bar("PP-OCR direction classifier", "ppocr_cls", (agreement(99), speed(1.0))),
        Bar(
            "EfficientNet-Lite0, cost of `--effort default`",
            lite0,
            (number("cpu_s", 60, "{:.0f} CPU s", False), number("peak_mib", 954, "{:.0f} MiB", False), db(23)),
            own="default",
        ),
    ]


def table(found: dict[str, Any]) -> list[str]:
    """A line a bar, the largest memory, and the installation; figures that miss are bold."""
    lines = ["| bar | asked | edgec | best peer |", "| --- | --- | --- | --- |"]
    for bar in bars(found):
        rows = list(found["rows"].get(bar.case, {}).values())
        own = bar.best([r for r in rows if r["peer"] == "edgec"])
        other = bar.best([r for r in rows if r["peer"] not in ("edgec", "float32")])
        asked = ", ".join(d.asked() for d in bar.demands)
        lines.append(f"| {bar.title} | {asked} | {_said(bar, own)} | {_said(bar, other)} |")
    ours = [r for each in found["rows"].values() for r in each.values() if r["peer"] == "edgec" and "peak_mib" in r]
    if ours:
        most = max(ours, key=lambda r: r["peak_mib"])
        verdict = "met" if most["peak_mib"] <= 1430 else "**not met**"
        lines.append(f"| every method, every model: peak memory | ≤ 1430 MiB | {most['peak_mib']} MiB: {verdict} | |")
    sizes = {peer: made["megabytes"] for peer, made in found["environments"].items() if "megabytes" in made}
    if "edgec" in sizes:
        verdict = "met" if sizes["edgec"] <= 350 else "**not met**"
        rest = [size for peer, size in sizes.items() if peer not in ("edgec", "openvino")]
        least = f"{min(rest)} – {max(rest)} MB" if rest else ""
        lines.append(
            f"| `pip install edgec`, empty environment | ≤ 350 MB | {sizes['edgec']} MB: {verdict} | {least} |"
        )
    return lines


def _said(bar: Bar, row: Row | None) -> str:
    if row is None:
        return "–"
    verdict = "met" if all(d.met(row) for d in bar.demands) else "not met"
    tool = "" if row["peer"] == "edgec" else f"{row['peer']}, "
    figures = ", ".join(d.of(row) if d.met(row) else f"**{d.of(row)}**" for d in bar.demands)
    return f"{figures}: {verdict} ({tool}{row['recipe']})"


def printed(found: dict[str, Any]) -> str:
    """The same for a terminal."""
    return "\n".join(line for line in table(found) if not line.startswith("| ---"))
