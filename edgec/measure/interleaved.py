"""Candidates measured in turn in one run, so that the machine's moods fall on all of them alike.

Each candidate is a process of its own (`edgec.measure.worker`). A round runs every candidate once, in an order that
rotates; the figures are medians over rounds, and the ratio to the first candidate is taken round by round, since a
ratio within a round is far less noisy than the two medians' quotient (Kalibera & Jones, "Rigorous Benchmarking in
Reasonable Time", ISMM 2013, on repetition at the level that varies).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgec.errors import GoldenError


@dataclass(frozen=True)
class Candidate:
    """A name for the reader and the worker's spec."""

    name: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """What was measured of one candidate. Times in seconds, memory in bytes; ratios to the first (1.0: the same)."""

    name: str
    median: float
    p99: float
    spread: tuple[float, float]
    """10th and 90th percentile of the wall times."""
    cpu: float
    """CPU seconds per call, all threads."""
    cold_start: float
    """Process start to first output, median."""
    peak_memory: int
    ratio: float
    ratio_spread: tuple[float, float]
    """10th and 90th percentile of the rounds' ratios of wall medians."""
    cpu_ratio: float
    cold_ratio: float
    calls: int


class Worker:
    """A running candidate. `seconds` is the time from its start to its first output."""

    def __init__(self, candidate: Candidate) -> None:
        start = time.perf_counter()
        self.candidate = candidate
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgec.measure.worker", json.dumps(candidate.spec)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.first = self.read()
        self.seconds = time.perf_counter() - start

    def read(self) -> dict[str, Any]:
        """The worker's next line. Raises GoldenError where it has stopped, with its last words."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            tail = self.process.stderr.read().strip().splitlines()[-1:] or ["no message"]
            raise GoldenError(f"candidate '{self.candidate.name}' stopped while it was measured", tail[0], code="E602")
        return json.loads(line)  # type: ignore[no-any-return]

    def calls(self, count: int) -> dict[str, Any]:
        """Have it run `count` times: wall seconds of each, CPU seconds of all, peak memory."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def percentile(values: Sequence[float], q: float) -> float:
    """The q-quantile (0..1) by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(q * (len(ordered) - 1))))]


def compare(
    candidates: Sequence[Candidate],
    *,
    rounds: int = 20,
    seconds_per_turn: float = 0.05,
    cold_starts: int = 5,
    progress: Callable[[int], None] = lambda n: None,
) -> list[Figure]:
    """Measure the candidates in turn; ratios are to the first. Raises GoldenError where one stops."""
    cold: list[list[float]] = [[] for _ in candidates]
    peaks = [0] * len(candidates)
    for turn in range(cold_starts):
        for n in rotated(len(candidates), turn):
            worker = Worker(candidates[n])
            cold[n].append(worker.seconds)
            peaks[n] = max(peaks[n], worker.first["peak"])
            worker.close()
        progress(1)
    workers = [Worker(c) for c in candidates]
    try:
        counts = []
        for worker in workers:
            once = statistics.median(worker.calls(5)["wall"])  # also the warm-up
            counts.append(max(1, min(2000, int(seconds_per_turn / max(once, 1e-6)))))
        walls: list[list[float]] = [[] for _ in candidates]
        medians: list[list[float]] = [[] for _ in candidates]
        cpus: list[list[float]] = [[] for _ in candidates]
        for turn in range(rounds):
            for n in rotated(len(candidates), turn):
                answer = workers[n].calls(counts[n])
                walls[n] += answer["wall"]
                medians[n].append(statistics.median(answer["wall"]))
                cpus[n].append(answer["cpu"] / counts[n])
                peaks[n] = max(peaks[n], answer["peak"])
            progress(1)
    finally:
        for worker in workers:
            worker.close()
    figures = []
    for n, candidate in enumerate(candidates):
        ratios = [a / b for a, b in zip(medians[n], medians[0], strict=True)]
        cpu_ratios = [a / b for a, b in zip(cpus[n], cpus[0], strict=True) if b]
        figures.append(
            Figure(
                name=candidate.name,
                median=statistics.median(walls[n]),
                p99=percentile(walls[n], 0.99),
                spread=(percentile(walls[n], 0.1), percentile(walls[n], 0.9)),
                cpu=statistics.median(cpus[n]),
                cold_start=statistics.median(cold[n]) if cold[n] else 0.0,
                peak_memory=peaks[n],
                ratio=statistics.median(ratios),
                ratio_spread=(percentile(ratios, 0.1), percentile(ratios, 0.9)),
                cpu_ratio=statistics.median(cpu_ratios) if cpu_ratios else 1.0,
                cold_ratio=statistics.median(a / b for a, b in zip(cold[n], cold[0], strict=True)) if cold[n] else 1.0,
                calls=len(walls[n]),
            )
        )
    return figures


def rotated(count: int, turn: int) -> list[int]:
    """0..count-1, starting elsewhere each turn, so that nobody always follows the same neighbour."""
    return [(n + turn) % count for n in range(count)]
