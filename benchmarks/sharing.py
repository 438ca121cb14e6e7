"""What several models in one process, and several processes with one model, share: threads and memory.

    python -m benchmarks.sharing

Each row is measured in processes of its own (/proc: task, smaps). Models: EfficientNet-Lite0, as edgec writes it in
float32 and int8, in both engines; two threads. Goes to results/sharing.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import arm_payloads, record

CASE, THREADS, SEVERAL = "efficientnet_lite0", 2, 4
PROGRAM = """
import json, os, sys
from edgec_runtime import engines
from edgec_runtime.payload import StoredPayload
engine, file, count, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def memory():
    found, name = {"private": 0, "pss": 0, "file": 0, "file_pss": 0}, ""
    for line in open("/proc/self/smaps"):
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            name = words[-1]
        elif words[0] == "Private_Dirty:":
            found["private"] += int(words[1]) * 1024 * (name != os.path.realpath(file))
        elif words[0] in ("Pss:", "Rss:"):
            key = {"Pss:": "file_pss", "Rss:": "file"}[words[0]]
            found["pss"] += int(words[1]) * 1024 * (words[0] == "Pss:")
            found[key] += int(words[1]) * 1024 * (name == os.path.realpath(file))
    return found

def tasks():
    return len(os.listdir("/proc/self/task"))

adapter = engines.find(engine)
adapter.version()
before, threads_before, models = memory(), tasks(), []
for _ in range(count):
    entry = {"id": "p", "engine": engine, "engine_version": ">=0", "files": {"model": "m"}}
    payload = StoredPayload(entry, {"model": file})
    payload.proven = adapter.library().stamp()
    model = adapter.load(payload, {"threads": threads, "spinning": False})
    names = [tensor.name for tensor in model.outputs]
    feeds = {t.name: memoryview(bytearray(4 * 3 * 224 * 224)).cast("f", tuple(t.shape)) for t in model.inputs}
    for _ in range(3):
        model.run(names, feeds)
    models.append(model)
print("ready", flush=True)
sys.stdin.readline()
after = memory()
print(json.dumps({**{key: after[key] - before[key] for key in before}, "threads": tasks() - threads_before}))
"""


def measured(engine: str, file: Path, models: int, processes: int) -> list[dict[str, int]]:
    """What `models` models add to each of `processes` processes that hold them at the same time."""
    environment = {**os.environ, "PYTHONPATH": str(arm_payloads.RUNTIME)}
    command = [sys.executable, "-c", PROGRAM, engine, str(file), str(models), str(THREADS)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    found = []
    for process in started:  # all hold their models until the last was asked
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        found.append(json.loads(process.stdout.readline()))
    for process in started:
        process.communicate()
    return found


def sharing() -> dict[str, Any]:
    """{engine precision: {"one model": …, "four models": …, "each of two processes": …}}, bytes and threads."""
    found: dict[str, Any] = {}
    for precision in ("float32", "int8"):
        from edgec_toolchains import aarch64

        model = aarch64.CORES["cortex-a76"]
        for entry, files in arm_payloads.payloads(arm_payloads.bundle(CASE, precision), model):
            if list(files) != ["model"]:
                continue
            engine, file = entry["engine"], files["model"]
            row = {
                "file": file.stat().st_size,
                "one model": measured(engine, file, 1, 1)[0],
                "four models": measured(engine, file, SEVERAL, 1)[0],
                "each of two processes": measured(engine, file, 1, 2)[0],
            }
            found[f"{engine} {precision}"] = row
            print(f"  {engine} {precision} {row}", flush=True)
    return found


if __name__ == "__main__":
    record.save("sharing", sharing(), case=CASE, threads=THREADS)
