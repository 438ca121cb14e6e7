"""How long the command line and the runtime take to start, in fresh processes, interleaved.

    python benchmarks/start_up.py [--rounds 21]

`edgec --help` against `python -c pass`; `import numpy, edgec_runtime` against `import numpy`. Wall time of whole
processes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from benchmarks.record import compiled_python, save

COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "edgec --help": [sys.executable, "-m", "edgec", "--help"],
    "numpy": [sys.executable, "-c", "import numpy"],
    "numpy and edgec_runtime": [sys.executable, "-c", "import numpy, edgec_runtime; edgec_runtime.load"],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    environment = compiled_python()
    for turn in range(rounds + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
            if turn:  # the first warms the file cache
                seconds[name].append(time.perf_counter() - start)
    added = [a - b for a, b in zip(seconds["numpy and edgec_runtime"], seconds["numpy"], strict=True)]
    seconds["added by edgec_runtime"] = added
    figures = {
        name: {
            "median_ms": round(statistics.median(s) * 1e3, 1),
            "min_ms": round(min(s) * 1e3, 1),
            "max_ms": round(max(s) * 1e3, 1),
        }
        for name, s in seconds.items()
    }
    for name, f in figures.items():
        print(f"{name:28} {f['median_ms']:7.1f} ms   ({f['min_ms']:.1f}–{f['max_ms']:.1f})")
    print("bars: edgec --help ≤ 300 ms, added by edgec_runtime ≤ 15 ms")
    print(save("start_up", figures, rounds=rounds))


if __name__ == "__main__":
    main()
