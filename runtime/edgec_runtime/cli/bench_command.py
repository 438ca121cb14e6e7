"""`edgec-rt bench FILE|--app NAME`: how long a run takes here, a cold start; `--choose`: which payload is fastest."""

from __future__ import annotations

import argparse
import time
from typing import Any

from edgec_runtime import interpreter
from edgec_runtime.cli import source
from edgec_runtime.errors import UsageError

WARM_UP = 10
COLD_STARTS = 3


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Time runs in this process (median, p99, least, spread) and cold starts in processes of their own (least, median).

    Spread is the distance between the quartiles over the median. Without --input the inputs are zeros. A cold start is
    from the start of the process to the first output.
    """
    if options.choose:
        return _choose(options)
    if options.runs < 1:
        raise UsageError("--runs must be 1 or more", f"it is {options.runs}", "give another number", code="E205")
    cold = sorted(_cold_start(options) for _ in range(COLD_STARTS))
    with source.open_model(options) as model:
        feeds = source.read_npz(options.input) if options.input else zeros(model.inputs)
        for _ in range(WARM_UP):
            model.run(feeds)
        cpu, times = time.process_time(), []
        for _ in range(options.runs):
            start = time.perf_counter()
            model.run(feeds)
            times.append(time.perf_counter() - start)
        cpu = (time.process_time() - cpu) / options.runs
        info = model.info
    times.sort()
    median, quartiles = times[len(times) // 2], (times[len(times) // 4], times[len(times) * 3 // 4])
    return {
        "payload": info["payload"],
        "engine": f"{info['engine']} {info['engine_version']}",
        "runs": options.runs,
        "median_s": median,
        "p99_s": times[min(len(times) - 1, int(len(times) * 0.99))],
        "least_s": times[0],
        "spread": (quartiles[1] - quartiles[0]) / median,
        "cpu_s": cpu,
        "cold_start_s": cold[len(cold) // 2],
        "cold_start_least_s": cold[0],
    }


def text(result: dict[str, Any]) -> str:
    """For people."""
    if "preferred" in result:
        from edgec_runtime.cli import install_command

        return install_command.choice(result)
    cold, least = result["cold_start_s"] * 1e3, result["cold_start_least_s"] * 1e3
    return (
        f"{result['payload']} on {result['engine']}\n"
        f"  a run       median {result['median_s'] * 1e3:.3f} ms   p99 {result['p99_s'] * 1e3:.3f} ms   "
        f"spread {result['spread'] * 100:.0f} %   CPU {result['cpu_s'] * 1e3:.3f} ms   ({result['runs']} runs)\n"
        f"  cold start  median {cold:.0f} ms   least {least:.0f} ms"
    )


def _choose(options: argparse.Namespace) -> dict[str, Any]:
    """`--choose`. Raises UsageError without --app, or with what picks a payload."""
    from edgec_runtime.slots.choose import choose

    source.check(options)
    if options.app is None or options.engine or options.payload or options.threads:
        raise UsageError(
            "--choose is about all payloads of an installed app",
            "what it finds is remembered for that app, with the threads that its payloads name",
            "edgec-rt bench --choose --app NAME",
            code="E205",
        )
    feeds = [source.read_npz(options.input)] if options.input else []
    return choose(options.app, feeds=feeds)


def zeros(inputs: Any) -> dict[str, Any]:
    """A feed of zeros: free sizes are 1. Text inputs are empty strings."""
    np = source.numpy()
    from edgec_runtime import arrays

    feeds = {}
    for tensor in inputs:
        shape = [size if isinstance(size, int) else 1 for size in tensor["shape"]]
        feeds[tensor["name"]] = (
            np.full(shape, "", dtype=object) if tensor["dtype"] == "string"
            else np.zeros(shape, dtype=arrays.numpy_type(tensor["dtype"]))
        )  # fmt: skip
    return feeds


def _cold_start(options: argparse.Namespace) -> float:
    """Seconds from starting a process to its first output (on stdout, so that its end is not counted)."""
    import subprocess

    arguments = {
        name: getattr(options, name) for name in ("app", "engine", "payload", "threads", "allow_unsigned")
    } | {"path": options.file}  # fmt: skip
    code = (
        "import edgec_runtime as rt\n"
        f"model = rt.load(**{arguments!r})\n"
        "from edgec_runtime.cli import bench_command, source\n"
        f"path = {options.input!r}\n"
        "model.run(source.read_npz(path) if path else bench_command.zeros(model.inputs))\n"
        "print('done', flush=True)\n"
    )
    start = time.perf_counter()
    process = subprocess.Popen([interpreter.path(), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    seconds = time.perf_counter() - start
    _, errors = process.communicate()
    if line.strip() != b"done":
        source.open_model(options).close()  # gives the error itself, where it is one of ours
        raise UsageError("a cold start failed", errors.decode("utf-8", "replace")[-300:], "try `edgec-rt run`")
    return seconds
