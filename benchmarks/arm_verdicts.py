"""Each bar of the ARM figures with what was measured: met, missed, or not measured and why. Computed, nothing else.

`rows(figures)` takes the figures of results/arm.json. A bar that has no figures, or only a part of them, is no bar met.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks import zoo

MET, MISSED, UNKNOWN = "met", "missed", "not measured"
# The fewest instructions known of int8 files before edgec's emitter, from measurements with this emulator that no tool
# here makes again: MLPerf's .tflite (DS-CNN), onnxruntime's u8s8 (A53), and a prototype of our own writer for the A76's
# EfficientNet-Lite0 and ResNet-8, which no other tool came near. They are the bars and stand as they are.
BEST_KNOWN = {
    "cortex-a76": {"efficientnet_lite0": 63.1e6, "resnet8_cifar10": 1.51e6, "dscnn_kws": 0.734e6},
    "cortex-a53": {"efficientnet_lite0": 146e6, "resnet8_cifar10": 5.03e6, "dscnn_kws": 1.36e6},
}
CONVNETS = ("dscnn_kws", "resnet8_cifar10", "ppocr_cls", "efficientnet_lite0", "ultraface")
NOISE = 1.02  # of a ratio of CPU times on a busy machine: two runs of the same file differ by as much


class Row(NamedTuple):
    """A bar: what is measured, the bar, the value, the verdict, and what it rests on."""

    measure: str
    bar: str
    value: str
    verdict: str
    note: str = ""


def rows(figures: Mapping[str, Any]) -> list[Row]:
    """All bars, in the table's order."""
    found: list[Row] = []
    for make in (inferences, starting, calling, same, floats, kernels, coverage, host, sharing):
        try:
            found += make(figures)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            found.append(Row(make.__name__, "", "", UNKNOWN, f"figures are missing: {error!r}"))
    return found


def judged(measure: str, bar: str, value: str, holds: bool, note: str = "", *, unmeasured: Sequence[str] = ()) -> Row:
    """A row; a bar that holds where it was measured, but was not measured for all, is not called met."""
    if unmeasured:
        note = "; ".join([*([note] if note else []), f"not measured: {', '.join(unmeasured)}"])
    verdict = MISSED if not holds else UNKNOWN if unmeasured else MET
    return Row(measure, bar, value, verdict, note)


def count(entry: Any) -> float | None:
    return entry["instructions"] if isinstance(entry, Mapping) and "instructions" in entry else None


def inferences(figures: Mapping[str, Any]) -> Iterator[Row]:
    """The chosen payload over the packages, on A76 and A53, in int8."""
    for core in ("cortex-a76", "cortex-a53"):
        for whose in ("other tools'", "edgec's own"):
            ratios, alone, unmeasured = {}, [], []
            for case in zoo.CASES:
                row = figures.get("models", {}).get(case, {}).get(core, {}).get("int8", {})
                ours = count(row.get(f"{row.get('chosen')} edgec"))
                others = [n for key in row if "package" in key and (n := count(row[key])) is not None
                          and ("quantizer" in key) == (whose == "other tools'")]  # fmt: skip
                if whose == "other tools'" and case in BEST_KNOWN[core]:
                    others.append(BEST_KNOWN[core][case])
                if ours is None:
                    unmeasured.append(case)
                elif not others:
                    alone.append(case)
                else:
                    ratios[case] = (ours / min(others), row["chosen"])
            shown = ", ".join(f"{case} {ratio:.3f} ({engine})" for case, (ratio, engine) in ratios.items())
            note = f"no file within the accuracy budget to compare with: {', '.join(alone)}" if alone else ""
            yield judged(
                f"instructions, int8, chosen payload, {core}, over the packages' best on {whose} files",
                "each ≤ 1.00, to two decimals", shown,
                bool(ratios) and all(round(r, 2) <= 1.0 for r, _ in ratios.values()), note,
                unmeasured=unmeasured,
            )  # fmt: skip
            if whose == "other tools'":
                good = [case for case, (ratio, _) in ratios.items() if ratio <= 0.9]
                yield judged(
                    f"the same, {core}: goal", "≤ 0.90 on three", ", ".join(good) or "none", len(good) >= 3,
                )  # fmt: skip


def starting(figures: Mapping[str, Any]) -> Iterator[Row]:
    """Import and load, memory, installed size."""
    start = figures["start"]
    app, first = start["installed app"], start["bundle, verified"]
    million = app["instructions"] / 1e6
    yield judged("import + load of an installed app, A76", "≤ 30 M instructions", f"{million:.1f} M", million <= 30)
    yield judged("the same: goal", "≤ 20 M", f"{million:.2f} M", million <= 20)
    yield judged(
        "its memory over bare Python", "≤ 12 MB", f"{app['memory'] / 1e6:.1f} MB", app["memory"] <= 12e6,
    )  # fmt: skip
    parts = [start[name]["instructions"] for name in ("of that, its signature", "of that, hashing")]
    rest = (first["instructions"] - sum(parts)) / 1e6
    yield judged("the first, verifying load without signature and hashing", "≤ 70 M", f"{rest:.1f} M", rest <= 70)
    size = start["installed size, bytes"]["together"] / 1e6
    yield judged("installed size of the runtime with LiteRT", "≤ 8 MB", f"{size:.2f} MB", size <= 8)


def calling(figures: Mapping[str, Any]) -> Iterator[Row]:
    """The overhead of a call."""
    calls = figures["calls"]
    for way in ("memoryviews", "numpy arrays"):
        number = calls[f"edgec_runtime, {way}"]
        yield judged(
            f"a call of a tiny model, {way}, A76", "≤ 24 K instructions", f"{number / 1e3:.1f} K", number <= 24_000,
            f"package ai-edge-litert {calls['package ai-edge-litert'] / 1e3:.1f} K",
        )  # fmt: skip
        over = calls["this machine"][f"{way}, over the C call"]
        yield judged(f"the same on this x86 over the C call, {way}", "≤ 2 µs", f"{over:.2f} µs", over <= 2)


def same(figures: Mapping[str, Any]) -> Iterator[Row]:
    """The same integers on all machines, from both engines."""
    found = figures["same"]
    differ = [case for case in found if not all(
        found[case].get(engine, {}).get("the same", False) for engine in ("onnxruntime", "litert"))
        or not found[case].get("all the same")]  # fmt: skip
    equal = [case for case in found if case not in differ]
    notes = [
        f"{case}: "
        + ", ".join(
            ["ONNX Runtime differs between machines"] * (not found[case].get("onnxruntime", {}).get("the same"))
            + ["LiteRT differs between machines"] * (not found[case].get("litert", {}).get("the same"))
            + ["the engines differ"] * (not found[case].get("all the same"))
        )
        + "".join(f"; first at {where} ({which})" for which, where in found[case].get("first apart", {}).items())
        for case in differ
    ]
    missing = [case for case in zoo.CASES if case not in found]
    notes += [f"not measured: {', '.join(missing)}"] * bool(missing)
    yield judged(
        "int8 answers: A53 = A76 = i8mm = x86 (VNNI), ORT = LiteRT", "bit-identical; else the operator named",
        f"identical: {', '.join(equal) or 'none'}", not differ and not missing, "; ".join(notes),
    )  # fmt: skip


def floats(figures: Mapping[str, Any]) -> Iterator[Row]:
    """Float payloads on A53 and on x86."""
    bars = {"dscnn_kws": 0.5, "resnet8_cifar10": 0.75}
    for case, bar in bars.items():
        row = figures.get("floats", {}).get(case, {})
        base = count(row.get("onnxruntime package"))
        ratios = {key.split()[0]: n / base for key in row if key.endswith(" edgec") and base
                  and (n := count(row[key])) is not None}  # fmt: skip
        tvm = ratios.get("tvm")
        refused = row.get("tvm edgec", {}).get("refused", "no figure")
        if tvm is None:
            yield Row(f"float32, {case}, TVM over ORT, A53", f"≤ {bar}", "", UNKNOWN, f"TVM: {refused}")
        else:
            yield judged(f"float32, {case}, TVM over ORT, A53", f"≤ {bar}", f"{tvm:.3f}", tvm <= bar)
        if ratios:
            best = min(ratios, key=ratios.__getitem__)
            yield judged(
                f"float32, {case}, best float payload over ORT, A53", f"≤ {bar}", f"{ratios[best]:.3f} ({best})",
                ratios[best] <= bar, ", ".join(f"{key} {value:.3f}" for key, value in ratios.items()),
            )  # fmt: skip
    times = {}
    for case, row in figures.get("x86", {}).items():
        if row.get("best"):
            times[case] = (row["engines"][row["best"]]["time"]["median"], row["best"])
    if not times:
        yield Row("float32, best float payload over ORT's time, x86", "each ≤ 1.0", "", UNKNOWN)
        return
    yield judged(
        "float32, best float payload over ORT's time, x86", "each zoo convnet ≤ 1.0",
        ", ".join(f"{case} {value:.2f} ({engine})" for case, (value, engine) in times.items()),
        all(value <= 1.0 for value, _ in times.values()),
        unmeasured=[case for case in CONVNETS if case not in times],
    )  # fmt: skip


def kernels(figures: Mapping[str, Any]) -> Iterator[Row]:
    """Which int8 kernels ran in the chosen payloads."""
    for core, kind in (("cortex-a76", "dot"), ("i8mm", "mmla")):
        counts = {}
        for case in zoo.CASES:
            row = figures["models"].get(case, {}).get(core, {}).get("int8", {})
            chosen = row.get(f"{row.get('chosen')} edgec", {})
            counts[case] = chosen.get(kind, 0) if count(chosen) is not None else None
        none = [case for case, number in counts.items() if number == 0]
        yield judged(
            f"kernels: {kind} in every int8 model on {core}", "> 0",
            ", ".join(f"{case} {number:,}" for case, number in counts.items() if number),
            not none, f"none in {', '.join(none)}" if none else "",
            unmeasured=[case for case, number in counts.items() if number is None],
        )  # fmt: skip


def coverage(figures: Mapping[str, Any]) -> Iterator[Row]:
    """What LiteRT's writer can write."""
    found = figures["coverage"]["models"]
    zoo_rows = {key: row for key, row in found.items() if key.split()[0] in zoo.CASES}
    forms = {case: [row for key, row in zoo_rows.items() if key in (f"{case} float32", f"{case} int8")]
             for case in zoo.CASES}  # fmt: skip
    whole = {case for case, form in forms.items() if form and all(row["wholly"] for row in form)}
    yield judged("TFLite: zoo models wholly", "≥ 6 of 7", f"{len(whole)} of {len(zoo.CASES)}", len(whole) >= 6)
    others = {key: row for key, row in found.items() if key not in zoo_rows}
    good = [key for key, row in others.items() if row["wholly"] and (row["db"] is None or row["db"] >= 60)]
    bad = [f"{key} ({row['db']} dB)" if row["wholly"] else key for key, row in others.items() if key not in good]
    yield judged(
        "TFLite: models of pip packages, outputs equal (to rounding: ≥ 60 dB)", "all but 2",
        f"{len(good)} of {len(others)}", len(others) - len(good) <= 2, ", ".join(bad),
    )  # fmt: skip


def host(figures: Mapping[str, Any]) -> Iterator[Row]:
    """Times on this machine."""
    found = figures.get("host", {})
    ratio = found.get("resnet8_cifar10", {}).get("litert int8 over onnxruntime int8")
    if ratio is None:
        yield Row("x86, ResNet-8 int8, LiteRT over ORT int8", "≤ 0.6", "", UNKNOWN)
    else:
        yield judged(
            "x86, ResNet-8 int8, LiteRT over ORT int8", "≤ 0.6",
            "{median:.3f} ({p10:.3f}–{p90:.3f})".format(**ratio), ratio["median"] <= 0.6,
        )  # fmt: skip
    missing = [case for case in zoo.CASES if case not in found]
    over = {case: row["over the best"]["median"] for case, row in found.items()}
    slower = [case for case, value in over.items() if value > NOISE]
    yield judged(
        "x86, what `edgec compile -t host` ships over ORT's best", f"each ≤ 1.00 (to {NOISE})",
        ", ".join(f"{case} {value:.2f} ({found[case]['ships']})" for case, value in over.items()),
        not slower, f"slower: {', '.join(slower)}" if slower else "", unmeasured=missing,
    )  # fmt: skip


def sharing(figures: Mapping[str, Any]) -> Iterator[Row]:
    """Threads of several models; pages of several processes."""
    found = figures["sharing"]
    for key, row in found.items():
        one, four = row["one model"]["threads"], row["four models"]["threads"]
        if key.startswith("onnxruntime"):
            yield judged(f"threads of four models, {key}", "those of one", f"{four} for {one}", four <= one)
        else:
            each = row["each of two processes"]
            yield judged(
                f"pages of the model's file in two processes, {key}", "each counts half",
                f"{each['file_pss'] / max(1, each['file']):.2f}", each["file_pss"] <= 0.6 * each["file"],
                f"LiteRT's C interface shares no threads: {four} for four models, {one} for one",
            )  # fmt: skip
