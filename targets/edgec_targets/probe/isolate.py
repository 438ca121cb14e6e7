"""Ask an engine about a model in a process of its own; a crash or a hang is an answer too.

The protocol on the child's pipes: a request is one byte (L: load, R: load and run), a 4-byte little-endian length
and the model; an answer is one line of JSON, `["loads"|"refused"|"unclear", words]`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

Ask = Callable[[bytes, bool], tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """`verdict`: loads | refused (the engine says it has no such kernel) | unclear (anything else) | crash | hang."""

    verdict: str
    words: str = ""


class Prober:
    """A child process that answers for one engine, started again whenever it dies. Use as a context manager."""

    def __init__(self, engine: str, *, timeout: float = 30.0, python: str = sys.executable) -> None:
        self._command = [python, "-m", "edgec_targets.probe", "worker", engine]
        self._timeout = timeout
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def ask(self, model: bytes, *, run: bool = False) -> Answer:
        """Load (and run) `model` there. Never raises for what the engine does."""
        child = self._started()
        assert child.stdin and child.stdout
        try:
            child.stdin.write((b"R" if run else b"L") + struct.pack("<I", len(model)) + model)
            child.stdin.flush()
        except BrokenPipeError:
            return self._died()
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([child.stdout], [], [], self._timeout)
            if not ready:
                self._stop()
                return Answer("hang", f"no answer in {self._timeout:.0f} s")
            chunk = os.read(child.stdout.fileno(), 65536)
            if not chunk:
                return self._died()
            line += chunk
        verdict, words = json.loads(line)
        return Answer(verdict, words)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        return self._child

    def _died(self) -> Answer:
        assert self._child
        code = self._child.wait()
        self._stop()
        return Answer("crash", f"the engine's process ended with {code}")

    def _stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe:
                    with contextlib.suppress(BrokenPipeError):  # what was still to be written has no reader
                        pipe.close()
            self._child = None


def serve(ask: Ask) -> None:
    """The child's side: answer until the parent closes the pipe. The engine's own prints go nowhere."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    source: BinaryIO = sys.stdin.buffer
    while len(head := source.read(5)) == 5:
        (length,) = struct.unpack("<I", head[1:])
        answers.write(json.dumps(ask(source.read(length), head[:1] == b"R")) + "\n")
