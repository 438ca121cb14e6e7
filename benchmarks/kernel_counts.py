"""The profiles of `edgec_targets.profiles`: kernels counted on emulated cores, timed on this machine, and fitted.

    python -m benchmarks.kernel_counts [count | time | show] [CORE …]     (nothing: count and show)

count   every probe (kernel_probes.py) by both engines on each emulated core; writes targets/edgec_targets/profiles/data
time    the same for LiteRT on this x86-64 machine, in nanoseconds of CPU time
show    what the profiles predict for the zoo's models beside what is counted, and who wins

Counts are exact; a whole run takes about ten minutes. The table of `show` goes to results/kernel_counts.json.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import arm_files, kernel_files, kernel_guest, record, zoo
from benchmarks.kernel_files import Probe
from edgec.measure.machine import this_machine
from edgec_targets import profiles
from edgec_targets.profiles import onnx_file, tflite
from edgec_targets.profiles.fit import Fitted, fit
from edgec_targets.profiles.work import Work
from edgec_toolchains import aarch64

GUEST = Path(__file__).with_name("kernel_guest.py")
CORES = {"armv8.0": "cortex-a53", "armv8.0-a72": "cortex-a72", "dotprod": "cortex-a76", "i8mm": "i8mm"}
"""Class of cores -> the emulated one that stands for it."""
ENGINES = ("onnxruntime", "litert")
PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert"}
TOO_LONG = ("minilm_sts",)  # in floating point, which QEMU emulates in software: an hour
APART = 0.05  # engines whose counts differ by less are not told apart


def counted(core: aarch64.Core, engine: str, probes: Sequence[Probe], folder: Path) -> dict[str, int]:
    """File's name -> instructions of a call; without those that the engine refuses."""
    jobs = [str(p.path) for p in probes if p.engine == engine]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    ran = core.python([GUEST, engine, folder], wheels=aarch64.inference.WHEELS[engine], timeout=3000)
    marks = iter(r for r in ran.regions if r.tag in (kernel_guest.BEHIND, kernel_guest.FAILED))
    empty = [next(marks).counts for _ in range(kernel_guest.MARKS)][-1]
    found = {}
    for job in jobs:
        first = next(marks)
        if first.tag == kernel_guest.FAILED:
            continue
        calls = [next(marks).counts - empty for _ in range(kernel_guest.CALLS - 1)]
        found[Path(job).name] = min(c.instructions for c in calls)
    return found


def timed(probes: Sequence[Probe], rounds: int = 7) -> dict[str, int]:
    """File's name -> nanoseconds of CPU time of a call by LiteRT on this machine, the least of several rounds."""
    found: dict[str, float] = {}
    several = [p for p in probes if p.engine == "litert"]
    for begin in range(0, len(several), 100):
        part = {p.path.name: kernel_guest.litert(str(p.path)) for p in several[begin : begin + 100]}
        for _ in range(rounds):
            for name, run in part.items():
                run()
                count, start = 0, time.process_time_ns()
                while count < 5 or time.process_time_ns() - start < 2_000_000:
                    run()
                    count += 1
                taken = (time.process_time_ns() - start) / count
                found[name] = min(taken, found.get(name, taken))
    return {name: round(ns) for name, ns in found.items()}


def works(probes: Sequence[Probe], engine: str) -> dict[str, list[Work]]:
    """File's name -> what its kernels do."""
    reader = tflite.work if engine == "litert" else onnx_file.work
    return {p.path.name: reader(p.path.read_bytes()) for p in probes if p.engine == engine}


def write(
    engine: str, core: str, unit: str, amounts: dict[str, int], work: dict[str, list[Work]], **about: str
) -> Fitted:
    """Fit, and write the profile's file."""
    names = [name for name in amounts if name in work]
    found = fit([(work[name], float(amounts[name])) for name in names])
    kernels: dict[str, dict[str, float]] = {
        one.name: {} for name in names for one in work[name]
    }  # a kernel that costs nothing is known, too
    for feature, amount in found.coefficients.items():
        kind, numbers, rest = feature.split(" ", 2)
        kernels[f"{kind} {numbers}"][rest] = float(f"{amount:.6g}")
    made = {
        "engine": engine, "core": core, "unit": unit, "error": round(float(np.quantile(np.abs(found.errors), 0.9)), 4),
        "versions": {PACKAGES[engine]: version(PACKAGES[engine]), "probes": str(len(names)), **about},
        "tiles": {name: list(tile) for name, tile in sorted(found.tiles.items())},
        "kernels": dict(sorted(kernels.items())),
    }  # fmt: skip
    (profiles.DATA / f"{engine}-{core}.json").write_text(json.dumps(made, indent=1) + "\n")
    worst = sorted(zip(found.errors, names, strict=True), key=lambda pair: -abs(pair[0]))[:6]
    print(f"{engine} {core}: {len(names)} files, 90th percentile {made['error']:.1%}; worst:", flush=True)
    print("  " + ", ".join(f"{name} {error:+.0%}" for error, name in worst), flush=True)
    return found


def count(cores: Sequence[str], folder: Path) -> None:
    """Count and fit all profiles of emulated cores."""
    bed = aarch64.prepare(progress=print)
    probes = kernel_files.write(folder / "probes")
    work = {engine: works(probes, engine) for engine in ENGINES}
    for core in cores:
        emulated = aarch64.core(CORES[core])
        for engine in ENGINES:
            amounts = counted(emulated, engine, probes, folder)
            write(engine, core, "instructions", amounts, work[engine], emulator=f"qemu-user {bed.qemu}", on=CORES[core])


def measure(folder: Path) -> None:
    """Time LiteRT on this machine and fit."""
    probes = kernel_files.write(folder / "probes")
    write("litert", "vnni", "ns", timed(probes), works(probes, "litert"), on=this_machine().cpu)


def show(folder: Path, cores: Sequence[str]) -> list[dict[str, Any]]:
    """Predicted against counted, for each zoo model, precision, core and engine; and whether the winner is the same."""
    cases = [arm_files.case(name, folder, 1) for name in zoo.CASES]
    rows = []
    for core in cores:
        emulated = aarch64.core(CORES[core])
        files = [
            Probe(case.name, precision, engine, path)
            for case in cases
            for (precision, engine), path in case.files.items()
            if precision != "integers" and (precision == "int8" or case.name not in TOO_LONG)
        ]
        amounts = {engine: counted(emulated, engine, files, folder) for engine in ENGINES}
        for case in cases:
            for precision in ("float32", "int8"):
                several = [f for f in files if f.name == case.name and f.precision == precision]
                row: dict[str, Any] = {"model": case.name, "precision": precision, "core": emulated.model.name}
                for file in several:
                    profile: Any = profiles.load(file.engine, core)
                    found, real = profile.payload(file.path.read_bytes()), amounts[file.engine][file.path.name]
                    row[file.engine] = {
                        "predicted": round(found.amount), "counted": real, "ratio": round(found.amount / real, 3),
                        "guessed": list(found.guessed),
                    }  # fmt: skip
                if len(several) == len(ENGINES):
                    rows.append(row)
                    print(_line(row), flush=True)
    return rows


def _line(row: dict[str, Any]) -> str:
    ort, lite = row["onnxruntime"], row["litert"]
    actual, told = ort["counted"] / lite["counted"], ort["predicted"] / lite["predicted"]
    near = abs(np.log(actual)) < np.log(1 + APART)
    row["winner"] = "near" if near else "right" if (actual > 1) == (told > 1) else "WRONG"
    return (
        f"{row['model']:20} {row['precision']:8} {row['core']:11} onnxruntime {ort['predicted'] / 1e6:8.3f} M "
        f"({ort['ratio']:.3f})  litert {lite['predicted'] / 1e6:8.3f} M ({lite['ratio']:.3f})  {row['winner']}"
    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as docs/arm.md has them."""
    lines = ["| model | core | ONNX Runtime | | LiteRT | | fewer |", "| --- | --- | ---: | ---: | ---: | ---: | --- |"]
    for row in rows:
        cells = [f"{row['model']} {row['precision']}", row["core"]]
        for engine in ENGINES:
            figures = row[engine]
            cells += [f"{figures['predicted'] / 1e6:.3g} / {figures['counted'] / 1e6:.3g}", f"{figures['ratio']:.2f}"]
        fewer = "ONNX Runtime" if row["onnxruntime"]["counted"] < row["litert"]["counted"] else "LiteRT"
        cells.append({"near": "either", "right": fewer, "WRONG": f"{fewer}, not foreseen"}[row["winner"]])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def keep(rows: Sequence[dict[str, Any]]) -> None:
    """Put a core's rows into the results, in place of its former ones, and all of them into docs/arm.md."""
    path = record.RESULTS / "kernel_counts.json"
    before = json.loads(path.read_text())["figures"] if path.is_file() else []
    new = {row["core"] for row in rows}
    several = [row for row in before if row["core"] not in new] + list(rows)
    order = list(zoo.CASES)
    several.sort(key=lambda row: (order.index(row["model"]), row["precision"], list(CORES.values()).index(row["core"])))
    record.save("kernel_counts", several)
    into_docs(table(several))


def into_docs(text: str) -> None:
    """Put the table where docs/arm.md has its marks."""
    path = Path(__file__).parents[1] / "docs" / "arm.md"
    before, _, rest = path.read_text().partition("<!-- profiles: begin -->")
    _, _, behind = rest.partition("<!-- profiles: end -->")
    path.write_text(f"{before}<!-- profiles: begin -->\n{text}\n<!-- profiles: end -->{behind}")


def main(arguments: Sequence[str]) -> None:
    """Do what was asked for."""
    wanted = [a for a in arguments if a in ("count", "time", "show")] or ["count", "show"]
    cores = [a for a in arguments if a in CORES] or list(CORES)
    os.environ.setdefault(aarch64.VARIABLE, str(Path(__file__).parents[1] / "build" / "aarch64"))
    with tempfile.TemporaryDirectory(prefix="edgec-") as name:
        folder = Path(name)
        if "count" in wanted:
            count(cores, folder)
        if "time" in wanted:
            measure(folder)
        if "show" in wanted:
            profiles.load.cache_clear()
            for core in cores:
                keep(show(folder, [core]))


if __name__ == "__main__":
    main(sys.argv[1:])
