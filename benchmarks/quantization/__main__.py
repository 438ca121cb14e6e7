"""Quantization side by side with peers: same calibration data, one scoring of every file in onnxruntime.

    python -m benchmarks.quantization [--models CASE …] [--peers PEER …] [--limit N] [--rounds N] [--fresh]

Each recipe runs in a process of its own; NNCF in its own environment under build/peers. Files and their cost are kept
in build/peers/out. A recipe that fails is a row with its error. Writes benchmarks/results/quantization.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnxruntime as ort

from benchmarks import record, zoo
from benchmarks.quantization import recipes, table
from edgec.data import agreement, sqnr_db

PEERS = Path(__file__).parents[2] / "build" / "peers"
PINS = {"nncf": ["nncf==3.4.0", "openvino==2026.4.1", "onnxruntime==1.32.0", "onnx==1.23.2"]}


def python_of(peer: str) -> str:
    """The interpreter of a peer's environment, made when it is missing."""
    if peer not in PINS:
        return sys.executable
    python, ready = PEERS / peer / "bin" / "python", PEERS / peer / ".ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS / peer)], check=True, capture_output=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", *PINS[peer]], check=True, capture_output=True, text=True
        )
        ready.touch()
    return str(python)


def made(case: str, name: str, fresh: bool) -> dict[str, Any]:
    """The file of one recipe and what it cost, or its error."""
    out = PEERS / "out" / case / f"{name.replace(' ', '_').replace(',', '')}.onnx"
    kept = out.with_suffix(".json")
    if kept.exists() and not fresh:
        return dict(json.loads(kept.read_text()))
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        command = [python_of(recipes.RECIPES[name][0]), recipes.__file__, name, str(zoo.folder(case)), str(out)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    except subprocess.CalledProcessError as error:
        return {"error": (error.stderr or str(error)).strip().splitlines()[-1][:300]}
    except subprocess.TimeoutExpired:
        return {"error": "took more than 900 s"}
    row = {"file": str(out), "bytes": out.stat().st_size, **json.loads(done.stdout.strip().splitlines()[-1])}
    kept.write_text(json.dumps(row))
    return row


def session(path: str | Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers(case: str, opened: ort.InferenceSession, limit: int | None) -> tuple[dict[str, Any], list[Any]]:
    outputs: list[Any] = []

    def run(feed: dict[str, Any]) -> list[Any]:
        outputs.append(opened.run(None, feed))
        return list(outputs[-1])

    score = zoo.module(case).evaluate(run, limit)
    return {k: v for k, v in score.items() if k != "per_sample"}, outputs


def times(case: str, opened: dict[str, ort.InferenceSession], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of an inference, round by round, the sessions taking turns."""
    feed, spent = zoo.first_feed(case), {name: [] for name in opened}
    for each in opened.values():
        each.run(None, feed)
    for i in range(rounds):
        for name in sorted(opened, reverse=bool(i % 2)):
            start = time.process_time()
            for _ in range(3):
                opened[name].run(None, feed)
            spent[name].append((time.process_time() - start) / 3)
    return spent


def compare(case: str, names: list[str], limit: int | None, rounds: int, fresh: bool) -> dict[str, Any]:
    opened = {"float32": session(zoo.folder(case) / "model.onnx")}
    score, expected = answers(case, opened["float32"], limit)
    rows: dict[str, Any] = {"float32": score | {"bytes": (zoo.folder(case) / "model.onnx").stat().st_size}}
    for name in names:
        rows[name] = made(case, name, fresh)
        if "error" not in rows[name]:
            try:
                opened[name] = session(rows[name].pop("file"))
                score, got = answers(case, opened[name], limit)
                rows[name] |= score | {
                    "sqnr_db": round(sqnr_db([o[0] for o in expected], [o[0] for o in got]), 2),
                    "agreement": round(agreement(expected, got).value, 4),
                }
            except Exception as error:  # a file that the engine refuses is a result, not an end
                opened.pop(name, None)
                rows[name] |= {"error": str(error)[:300]}
        print(f"{case}: {name}: {rows[name]}", flush=True)
    spent = times(case, opened, rounds)
    for name in opened:
        rows[name]["float_over_it"] = record.ratio(spent["float32"], spent[name])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=list(zoo.CASES), choices=zoo.CASES)
    parser.add_argument("--peers", nargs="+", default=["edgec", "onnxruntime", "nncf"])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--fresh", action="store_true", help="quantize again what is kept in build/peers/out")
    given = parser.parse_args()
    names = [name for name, (peer, _) in recipes.RECIPES.items() if peer in given.peers]
    figures = {c: compare(c, names, given.limit, given.rounds, given.fresh) for c in given.models}
    table.write(figures)
    print(record.save("quantization", figures, limit=given.limit, rounds=given.rounds, peers=PINS))


if __name__ == "__main__":
    main()
