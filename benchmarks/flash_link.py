"""`edgec flash` over a link of 1 MB/s: a first bundle, the same model with other calibration data, and back again.

    python -m benchmarks.flash_link [--repeat 5] [--engine litert] [--alone]

The device is a local board (tier 0): a real sshd behind a proxy that passes 1 MB/s, its runtime and engine put there by
`edgec devices setup`. Times are of the whole command, from the start of its process to its end. The bundle is int8
EfficientNet-Lite0 for this machine; where the zoo is absent, a made-up model of the same size in float32.
--alone runs it with real-time priority (as root), so that others on the machine don't count; without, they do.
Bars: what is sent at the link's rate + 2 s; a rollback within the health check's deadline + 1 s (60 + 1).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import board_user, record, zoo
from edgec.devices import Address
from edgec.devices.setup import setup
from edgec_toolchains.boards import Link, LocalBoard, prepare

RATE = 1_000_000  # bytes a second
SPARE = 2.0  # seconds beside the transfer
DEADLINE = 60.0
CASE = "efficientnet_lite0"
FEEDS = """
import importlib.util, itertools
spec = importlib.util.spec_from_file_location("case", {path!r})
case = importlib.util.module_from_spec(spec)
spec.loader.exec_module(case)
def feeds():
    return itertools.islice(case.feeds("calib"), {begin}, {end})
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--engine", default="litert")
    parser.add_argument("--alone", action="store_true", help="with real-time priority (root)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgec-link-") as name, board_user.user(Path(name)):
        folder = Path(name)
        real = (zoo.ZOO / CASE / "model.onnx").is_file()
        made = [(_recalibrated if real else _synthetic)(folder, n) for n in (1, 2)]
        if given.alone:  # not while compiling: all that is started from here on inherits it
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        figures = measure(folder, made, given.repeat, given.engine)
    for what, value in figures.items():
        print(f"{what:24} {value}")
    print(
        record.save(
            "flash_link",
            figures,
            model=CASE if real else "synthetic",
            engine=given.engine,
            rate=RATE,
            alone=given.alone,
        )
    )


def measure(folder: Path, bundles: list[Path], repeat: int, engine: str) -> dict[str, Any]:
    server = prepare(Path(os.environ.get("EDGEC_BOARDS") or Path(__file__).parents[1] / "build" / "boards"))
    where = folder / "board"
    with LocalBoard(server, where, environment={"EDGEC_ROOT": f"{where}/home/edgec"}) as board:
        board_user.reach(folder, {"pi": (board, board.port)})
        asyncio.run(setup(Address.parse("pi"), key=board_user.key(), engine=engine))
        link = Link(board.port, bytes_per_second=RATE)
        try:
            board_user.reach(folder, {"pi": (board, link.port)})
            runs = [_round(board, bundles) for _ in range(repeat + 1)][1:]  # the first one warms the caches
        finally:
            link.close()
    first, update, back = ([run[n] for run in runs] for n in range(3))
    over = [round(run["command_s"] - run["sent"] / RATE, 2) for run in first]
    rollbacks = [run["command_s"] for run in back]
    return {
        "bundle_bytes": bundles[0].stat().st_size,
        "repeat": repeat,
        "first_sent": first[0]["sent"],
        "first_s": _spread([run["command_s"] for run in first]),
        "transfer_s": _spread([round(run["transfer"], 2) for run in first]),
        "beside_transfer_s": _spread(over),
        "within_bar": max(over) <= SPARE,
        "update_needed": update[0]["needed"],
        "update_sent": update[0]["sent"],
        "update_patches": update[0]["patches"],
        "update_percent": round(100 * update[0]["sent"] / update[0]["needed"], 2),
        "update_wire": update[0]["wire"],
        "update_s": _spread([run["command_s"] for run in update]),
        "trial_s": _spread([round(run["trial"], 2) for run in (*first, *update)]),
        "rollback_s": _spread(rollbacks),
        "rollback_within_bar": max(rollbacks) <= DEADLINE + 1,
        "load_average": os.getloadavg()[0],
    }


def _round(board: LocalBoard, bundles: list[Path]) -> list[dict[str, Any]]:
    """On a board that has the runtime and nothing else: the first version, the second, and back."""
    for name in ("apps", "store", "stage"):
        shutil.rmtree(board.home / "edgec" / name, ignore_errors=True)
    runs = [_edgec("flash", str(bundle), "--on", "pi") for bundle in bundles]
    return [*runs, _edgec("rollback", "--on", "pi")]


def _edgec(*arguments: str) -> dict[str, Any]:
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "edgec", *arguments, "--json"], capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stdout + done.stderr
    return {**json.loads(done.stdout), "command_s": round(seconds, 2)}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "least": min(values), "most": max(values)}


def _recalibrated(folder: Path, number: int) -> Path:
    """The model, calibrated on another half of its data each time."""
    from edgec.compiler import compile

    source = zoo.folder(CASE)
    data = folder / f"feeds{number}.py"
    data.write_text(FEEDS.format(path=str(source / "eval.py"), begin=24 * (number - 1), end=24 * number))
    path = folder / f"{number}.edge"
    compile(
        source / "model.onnx", "host", output=path, calib=f"{data}:feeds", precision="int8", effort="plain",
        name="lite0", version=f"{number}.0.0", sequence=number,
    )  # fmt: skip
    return path


def _synthetic(folder: Path, number: int) -> Path:
    """A float32 model of 5 MB; in its second version one weight in a hundred has moved."""
    from onnx import helper, numpy_helper

    from edgec.compiler import compile

    rng = np.random.default_rng(1)
    weights = rng.standard_normal((1118, 1118)).astype(np.float32)
    if number == 2:
        weights[::10, ::10] *= np.float32(1.001)
    info = [helper.make_tensor_value_info(name, 1, [1, 1118]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "made", info[:1], info[1:],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    path = folder / f"{number}.edge"
    compile(
        model, "host", output=path, name="lite0", precision="float32", golden="synthetic", version=f"{number}.0.0",
        sequence=number,
    )  # fmt: skip
    return path


if __name__ == "__main__":
    main()
