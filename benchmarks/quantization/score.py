"""Scores and times the files of one case in this process: `python -m benchmarks.quantization.score JOB.json`.

Runs in the environment that has onnxruntime and OpenVINO. JOB names the case's folder, the files with the engine that
runs each, how many samples and rounds, and where the answers go. Files to be scored go through the case's evaluation
one by one; files to be timed take turns, round by round, in CPU time.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.quantization import engines, figures
from benchmarks.quantization.recipe import Case

INPUTS = 8
"""Inputs of a turn, spread over the evaluation set."""
TURN = 0.02
"""At least this many CPU seconds a turn."""


def answers(case: Case, engine: str, file: str, limit: int | None) -> tuple[dict[str, Any], list[list[Any]]]:
    """What eval.py says of a file, and its outputs before a final softmax, call by call."""
    module = case.module()
    run, seen = engines.opened_before_softmax(engine, file, dict(next(iter(module.feeds("eval")))))
    kept: list[list[Any]] = []

    def watched(feed: dict[str, Any]) -> list[Any]:
        outputs = run(feed)
        kept.append(seen(feed))
        return outputs

    return dict(module.evaluate(watched, limit)), kept


def score(case: Case, files: list[dict[str, Any]], limit: int | None) -> None:
    """Writes each file's figures to where its job says. Files that fail are figures with the error."""
    if not files:
        return
    reference, expected = answers(case, "onnxruntime", case.model, limit)
    for job in files:
        try:
            own = job["file"] == case.model and job["engine"] == "onnxruntime"
            found, got = (reference, expected) if own else answers(case, job["engine"], job["file"], limit)
            row = figures.compared(case.name, found, expected, got)
        except Exception as error:  # a file that an engine refuses is a result, not an end
            row = {"error": " ".join(str(error).split())[:300] or type(error).__name__}
        Path(job["kept"]).write_text(json.dumps(row))
        print(f"  {case.name}: {job['id']}: {row}", flush=True)


def some_feeds(case: Case) -> list[dict[str, Any]]:
    """INPUTS feeds of the evaluation set, evenly spread."""
    count = sum(1 for _ in case.module().feeds("eval"))
    wanted = {round(i * (count - 1) / (INPUTS - 1)) for i in range(INPUTS)}
    return [dict(feed) for i, feed in enumerate(case.module().feeds("eval")) if i in wanted]


def timed(case: Case, files: list[dict[str, Any]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of an inference, round by round; each round's order is the last one's reversed."""
    feeds = some_feeds(case)
    runs: dict[str, engines.Run] = {}
    for job in files:
        try:
            runs[job["id"]] = engines.opened(job["engine"], job["file"], feeds[0])
            runs[job["id"]](feeds[0])
        except Exception as error:  # scoring has said why
            runs.pop(job["id"], None)
            print(f"  {case.name}: {job['id']} is not timed: {str(error)[:200]}", flush=True)
    repeats = {}
    for name, run in runs.items():
        repeats[name] = max(1, round(TURN / max(turn(run, feeds, 1) * len(feeds), 1e-6)))
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs)[:: -1 if i % 2 else 1]:
            spent[name].append(turn(runs[name], feeds, repeats[name]))
    return spent


def turn(run: engines.Run, feeds: list[dict[str, Any]], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        for feed in feeds:
            run(feed)
    return (time.process_time() - start) / (repeats * len(feeds))


def main(path: str) -> None:
    engines.fix_threads()
    job = json.loads(Path(path).read_text())
    case = Case(Path(job["case"]))
    score(case, job["score"], job["limit"])
    if job["time"]:
        Path(job["times"]).write_text(json.dumps(timed(case, job["time"], job["rounds"])))


if __name__ == "__main__":
    main(*sys.argv[1:])
