"""Issue-sized figures of ARM boards and of this machine: instructions on emulated cores, sizes, times, and verdicts.

    python -m benchmarks.arm [--part NAME]… [--verdicts] [CASE …]      (nothing: all parts, all cases)

Ours beside the Python packages onnxruntime and ai-edge-litert, in one run. Counts are exact to the digit or nearly so,
need no quiet machine, and are no time. They go to results/arm.json, each part as it is there; a part can be measured
again alone. At the end each bar is printed with what was measured and *met* or *missed*, computed from these figures;
`python -m benchmarks.arm_tables` writes them into docs/arm.md.

start    importing the runtime and loading an installed app, from Python's own start on, with bytecode cached
calls    one call of a model that does next to nothing
models   one inference in int8 of each payload that edgec ships, by class of instruction, on each core
floats   one in float32 on a Cortex-A53, by each float engine
same     int8 answers on each core and on this machine, over the first evaluation inputs, up to the first operator in
         floating point
coverage what goes into TFLite's format: the figures of benchmarks/litert_coverage.py
host     CPU time on this machine, one thread, in turn: what `edgec compile -t host` ships beside onnxruntime's best
x86      CPU time of the float engines on this machine: the figures of benchmarks/float_payloads.py, measured here
sharing  threads and memory of several models in a process, and of several processes
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import arm_host, arm_payloads, arm_same, arm_start, arm_verdicts, float_payloads, record, zoo
from benchmarks import sharing as sharing_
from benchmarks.arm_same import apart, digest, inference, on_host
from benchmarks.arm_start import GUEST, RUNTIME, TENSORS, copied
from edgec_toolchains import aarch64

__all__ = ["CORES", "GUEST", "RUNTIME", "TENSORS", "apart", "copied", "digest", "inference", "on_host"]
CORES = ("cortex-a53", "cortex-a76", "i8mm")


def coverage() -> dict[str, Any]:
    """Of the committed run of benchmarks/litert_coverage.py: {model precision: wholly, dB, share of equal answers}."""
    run = json.loads((record.RESULTS / "litert_coverage.json").read_text())
    rows = run["figures"]
    return {"date": run["date"], "models": {
        f"{row['model']} {row['precision']}": {key: row.get(key) for key in ("wholly", "db", "equal", "inputs")}
        for row in rows
    }}  # fmt: skip


WHOLE: dict[str, Callable[[], dict[str, Any]]] = {
    "start": arm_start.start, "calls": arm_start.call, "coverage": coverage, "sharing": sharing_.sharing,
}  # fmt: skip
BY_CASE: dict[str, tuple[tuple[str, ...], Callable[[str], dict[str, Any]]]] = {
    "models": (zoo.CASES, arm_payloads.models), "floats": (arm_payloads.FLOATS, arm_payloads.floats),
    "same": (zoo.CASES, arm_same.same), "host": (zoo.CASES, arm_host.host),
    "x86": (arm_verdicts.CONVNETS, float_payloads.measure),
}  # fmt: skip


def main() -> None:
    """Measure what was asked for; parts and cases that were not keep their last figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", action="append", choices=[*WHOLE, *BY_CASE])
    parser.add_argument("--verdicts", action="store_true", help="measure nothing")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    asked = parser.parse_args()
    os.environ.setdefault(aarch64.VARIABLE, str(Path(__file__).parents[1] / "build" / "aarch64"))
    if not asked.verdicts:
        bed = aarch64.prepare(progress=print)
        for part in asked.part or [*WHOLE, *BY_CASE]:
            print(part, flush=True)
            if part in WHOLE:
                keep(bed, part, WHOLE[part]())
                continue
            cases, measure = BY_CASE[part]
            for case in [one for one in cases if not asked.cases or one in asked.cases]:
                keep(bed, part, measure(case), case)
    figures = known()
    for row in arm_verdicts.rows(figures):
        print(f"{row.verdict:12s} {row.measure}: {row.value}; bar {row.bar}" + (f" ({row.note})" if row.note else ""))


def known() -> dict[str, Any]:
    """The figures as they are kept."""
    path = record.RESULTS / "arm.json"
    return dict(json.loads(path.read_text())["figures"]) if path.exists() else {}


def keep(bed: aarch64.Bed, part: str, found: dict[str, Any], case: str = "") -> None:
    """Put a part's figures, or those of its case, beside what others have measured meanwhile, with all verdicts."""
    figures = known()
    if case:
        figures.setdefault(part, {})[case] = found
    else:
        figures[part] = found
    figures = {name: figures[name] for name in (*WHOLE, *BY_CASE) if name in figures}
    verdicts = [row._asdict() for row in arm_verdicts.rows(figures)]
    record.save(
        "arm", figures, emulator=f"qemu-user {bed.qemu}", wheels=bed.versions["wheels"], verdicts=verdicts,
    )  # fmt: skip


if __name__ == "__main__":
    main()
