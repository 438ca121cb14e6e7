"""One quantization by one tool in this process: `python -m benchmarks.quantization.make PEER RECIPE FOLDER OUT`.

Runs in the tool's own environment, on a copy of the case: some tools write to the model that they are given. The
last line it prints is what it cost: CPU seconds of the process and its children, imports included; its peak memory.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks.quantization.peers import recipe_of
from benchmarks.quantization.recipe import Case


def peak_mib() -> int:
    """Most resident memory of this process or of a child, MiB. (`ru_maxrss` alone would start at the parent's.)"""
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return max(int(own.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1024


def cpu_s() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in both)


def main(peer: str, name: str, folder: str, out: str) -> None:
    recipe = recipe_of(peer, name)
    with tempfile.TemporaryDirectory() as scratch:
        recipe.make(Case(Path(folder)).copied(scratch), Path(out), **recipe.arguments)
    print("\n" + json.dumps({"cpu_s": round(cpu_s(), 2), "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
