"""Verifying a signed bundle of 20 MB in Python alone, beside hashing its bytes: here, and counted on a Cortex-A53.

    python -m benchmarks.verify_cost [here | counts]     (nothing: both)

here    each round starts a process for each candidate in turn, in an order that rotates: hashing the file; verifying
        it with one trusted key; with root metadata of 2-of-3 root keys and 2-of-3 release keys. Times are those of the
        first verification in its process, without starting Python and importing; imports stand beside it. One thread
        works and waits for nothing, so CPU time is what counts: wall time has the machine's other work in it too.
counts  instructions of the same on an emulated Cortex-A53 (EDGEC_AARCH64)

The bar is hashing + 15 ms. Figures go to results/verify_cost.json with this machine's CPU and its flags.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.arm_start import copied
from edgec.measure.interleaved import percentile, rotated

GUEST = Path(__file__).with_name("verify_guest.py")
SIZE = 20_000_000  # bytes of the bundle's payload
MEMBERS = 8
ROUNDS = 41
BAR = 15.0  # milliseconds over hashing
CANDIDATES = {
    "hashing": ("hash", "one"),
    "one key": ("verify", "one"),
    "2-of-3 root, 2-of-3 release": ("verify", "root"),
}


def prepare(folder: Path) -> Path:
    """A bundle of 20 MB that two release keys signed; device roots `one` (a key alone) and `root` beside it."""
    os.environ["EDGEC_CONFIG"], os.environ["EDGEC_ROOT"] = str(folder / "config"), str(folder / "one")
    from edgec.bundle import keys, writer
    from edgec.trust import chain
    from edgec_runtime.trust import rotate

    for name in ("r1", "r2", "r3", "s1", "s2", "s3"):
        keys.new(name)
    keys.trust("s1")
    made = chain.next_version(
        now=1_790_000_000, root_keys=["r1", "r2", "r3"], root_threshold=2, release_keys=["s1", "s2", "s3"],
        release_threshold=2, expires="2099-01-01T00:00:00Z",
    )  # fmt: skip
    rotate.pin(made.data, root=folder / "root")
    noise = os.urandom(SIZE // MEMBERS)
    files = {f"payloads/onnxruntime/{n}.bin": bytes([n]) + noise[1:] for n in range(MEMBERS)}
    path = folder / "big.edge"
    writer.write(path, manifest(files), files, [keys.load("s1"), keys.load("s2")])
    return path


def manifest(files: dict[str, bytes]) -> dict[str, Any]:
    """A manifest of format 1 with a payload that has these files."""
    tensor = {"name": "x", "dtype": "float32", "shape": [1], "layout": None}
    payload = {
        "id": "a", "engine": "onnxruntime", "engine_version": ">=1.18", "proven_with": None,
        "files": {str(n): name for n, name in enumerate(files)}, "board": "host", "arch": "x86_64", "isa": [],
        "portable": True, "native_code": False, "precision": "float32", "opset": None, "memory": None, "options": {},
        "accuracy": None, "golden": None,
    }  # fmt: skip
    return {
        "format": 1, "app": {"name": "big", "version": "1", "sequence": 1}, "inputs": [tensor], "outputs": [tensor],
        "preprocessing": [], "postprocessing": [], "payloads": [payload],
        "golden": {"kind": "none", "samples": 0, "inputs": None, "reference": None, "seed": None, "notes": []},
        "recipe": None, "report": None, "sbom": None, "compiled_for": ["host"], "checked_by": [], "run_on": [],
    }  # fmt: skip


def here(path: Path) -> dict[str, Any]:
    """Milliseconds by candidate: median and 10th and 90th percentile; over hashing, round by round."""
    folder = path.parent
    site = copied(folder)
    environment = {**record.compiled_python(), "PYTHONPATH": str(site)}
    taken: dict[str, list[list[float]]] = {name: [] for name in CANDIDATES}
    names = list(CANDIDATES)
    for turn in range(-2, ROUNDS):  # the first rounds write the bytecode and read the file
        for n in rotated(len(names), turn):
            what, trust = CANDIDATES[names[n]]
            command = [sys.executable, "-S", str(GUEST), what, str(path), str(folder / trust)]
            ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            if turn >= 0:
                taken[names[n]].append([1000 * float(word) for word in ran.stdout.split()])
    figures: dict[str, Any] = {}
    floor = taken["hashing"]
    for name, rounds in taken.items():
        wall, cpu = [r[2] for r in rounds], [r[3] for r in rounds]
        figures[name] = {
            "wall": spread(wall), "cpu": spread(cpu), "importing": spread([r[0] for r in rounds]),
            "over hashing": spread([r[2] - f[2] for r, f in zip(rounds, floor, strict=True)]),
            "over hashing, cpu": spread([r[3] - f[3] for r, f in zip(rounds, floor, strict=True)]),
        }  # fmt: skip
    return figures


def spread(values: list[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile."""
    return {
        "median": round(statistics.median(values), 3),
        "p10": round(percentile(values, 0.1), 3),
        "p90": round(percentile(values, 0.9), 3),
    }


def counts(path: Path) -> dict[str, Any]:
    """Millions of instructions on an emulated Cortex-A53: of the work, and of importing what it needs."""
    from edgec_runtime.trust.store import load_trusted
    from edgec_toolchains import aarch64

    core = aarch64.core("cortex-a53")
    folder = path.parent
    site = copied(folder) if not (folder / "site").exists() else folder / "site"
    key = next(iter(load_trusted(str(folder / "one" / "trust")).values())).hex()
    found: dict[str, Any] = {}
    jobs = {name: (what, str(folder / trust)) for name, (what, trust) in CANDIDATES.items()}
    for name, (what, trust) in {**jobs, "one signature": ("signature", key)}.items():
        for _ in range(2):  # the first writes the bytecode
            ran = core.python([GUEST, what, path, trust], paths=[site], timeout=600)
        found[name] = {
            "work": round(ran.region(3).instructions / 1e6, 2), "importing": round(ran.region(2).instructions / 1e6, 2),
        }  # fmt: skip
    return found


def main() -> None:
    """Measure, print, write."""
    wanted = sys.argv[1:] or ["here", "counts"]
    file = record.RESULTS / "verify_cost.json"
    figures = json.loads(file.read_text())["figures"] if file.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        path = prepare(Path(name))
        if "here" in wanted:
            figures["here, ms"] = here(path)
            for candidate, found in figures["here, ms"].items():
                over, wall = found["over hashing, cpu"], found["over hashing"]["median"]
                said = f"{over['median']:.2f} ms ({over['p10']:.2f} to {over['p90']:.2f}), wall {wall:.2f} ms"
                print(f"{candidate:30} {found['cpu']['median']:6.2f} ms of CPU, over hashing {said}")
        if "counts" in wanted:
            figures["cortex-a53, millions of instructions"] = counts(path)
            for candidate, number in figures["cortex-a53, millions of instructions"].items():
                print(f"{candidate:30} {number['work']:9.2f} M instructions, importing {number['importing']:.1f} M")
    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    record.save(
        "verify_cost", figures, bytes=SIZE, rounds=ROUNDS, bar_ms=BAR, cpu_flags=flags.partition(":")[2].split()
    )
    worst = max(f["over hashing, cpu"]["median"] for f in figures["here, ms"].values())
    if worst > BAR:
        sys.exit(f"verifying takes {worst:.1f} ms more than hashing; the bar is {BAR:g}")


if __name__ == "__main__":
    main()
