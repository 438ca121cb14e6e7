"""Instructions of the float payloads on emulated Arm cores, beside ONNX Runtime's float32: counts, never a time.

    python -m benchmarks.float_payloads_arm [CASE …]

The payloads are those of `float_payloads`, made for a Raspberry Pi 5, each run by the device's own adapter on a
Cortex-A53 and a Cortex-A76: one inference, and what importing the engine and loading the model takes. Answers are
compared with ONNX Runtime's on the same core. Goes to results/float_payloads_arm.json; MiniLM is left out (an hour).
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from benchmarks import record, zoo
from benchmarks.float_payloads import BASE, emitted, float_model, samples, versions
from edgec.errors import Error
from edgec_targets import registry
from edgec_targets.types import Board
from edgec_toolchains import aarch64

CASES = tuple(case for case in zoo.CASES if case != "minilm_sts")
CORES = ("cortex-a53", "cortex-a76")
ENGINES = (BASE, "litert", "ncnn")
RUNTIME = Path(__file__).parents[1] / "runtime"
CALLS = 3  # of which the median counts: now and then Python collects garbage in one


def board() -> Board:
    """A Raspberry Pi 5 with one thread and every engine."""
    found = registry.board("rpi5")
    return replace(found, threads=1, engines={**found.engines, **dict.fromkeys(ENGINES, ">=0")})


def measure(case: str, model: ir.Model, core_name: str) -> dict[str, Any]:
    """One case on one core: by engine, millions of instructions and their ratio to ONNX Runtime's."""
    core = aarch64.core(core_name)
    feeds = samples(case, model, 1) * CALLS
    row: dict[str, Any] = {"engines": {}, "left_out": {}}
    theirs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for engine in ENGINES:
            try:
                built = emitted(engine, model, board())
                files = {role: Path(folder) / f"{engine}-{name}" for role, (name, _) in built.files.items()}
                for role, (_, content) in built.files.items():
                    files[role].write_bytes(content)
                entry = {"id": engine, "engine": engine, "engine_version": built.engine_version,
                         "files": {role: path.name for role, path in files.items()}}  # fmt: skip
                ran = aarch64.infer(core, next(iter(files.values())), feeds, engine="edgec", entry=entry,
                                    paths=[RUNTIME], files=files, timeout=3000)  # fmt: skip
            except (Error, ImportError) as e:
                row["left_out"][engine] = " ".join(str(e).split())[:300]
                continue
            theirs = theirs or dict(ran.answers[-1])
            apart = max(float(np.abs(answer - theirs[name]).max()) for name, answer in ran.answers[-1].items())
            row["engines"][engine] = {
                "instructions_m": round(ran.call.instructions / 1e6, 3),
                "load_m": round(ran.load.instructions / 1e6, 1),
                "max_difference": float(f"{apart:.3g}"),
            }
    base = row["engines"].get(BASE, {}).get("instructions_m")
    for figures in row["engines"].values():
        figures["ratio"] = round(figures["instructions_m"] / base, 3) if base else None
    return row


def main() -> None:
    """Print a line a case and core; save where all were measured."""
    figures: dict[str, Any] = {}
    for case in sys.argv[1:] or CASES:
        model = float_model(case)
        figures[case] = {}
        for core in CORES:
            row = figures[case][core] = measure(case, model, core)
            cells = [
                f"{engine} {found['instructions_m']:.2f} M (× {found['ratio']}), load {found['load_m']:.0f} M"
                for engine, found in row["engines"].items()
            ]
            print(f"{case:20s} {core:12s} {' | '.join(cells)}", flush=True)
            for engine, why in row["left_out"].items():
                print(f"{'':33s} without {engine}: {why}", flush=True)
    if not sys.argv[1:]:
        bed = aarch64.prepare()
        how = {"unit": "instructions, 1 thread", "engines": versions(), "qemu": bed.qemu}
        record.save("float_payloads_arm", figures, **how)


if __name__ == "__main__":
    main()
