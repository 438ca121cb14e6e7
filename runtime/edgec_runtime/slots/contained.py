"""A child process that may hang, crash, flood or leave children behind: a deadline, and its whole group is killed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

KEEP = 4096  # bytes of its output


class Ended(NamedTuple):
    """How a process ended: its exit code (negative: the signal), whether the deadline did it, what it wrote."""

    code: int
    timed_out: bool
    output: bytes
    seconds: float

    def said(self) -> str:
        """The end of its output as one line."""
        return " ".join(self.output.decode("utf-8", "replace").split())[-200:]

    def why(self) -> str:
        """What went wrong, as a clause; empty where nothing did."""
        if self.timed_out:
            return f"it did not end in {self.seconds:.0f} seconds"
        if self.code < 0:
            return died(-self.code)
        return f"it ended with {self.code}" if self.code else ""


def died(number: int) -> str:
    """What a signal says of a process that it ended."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    meaning: dict[int, str] = {
        signal.SIGILL: ": an instruction that this CPU lacks",
        signal.SIGKILL: ": it was killed, as the system does where memory runs out",
        signal.SIGSEGV: ": it crashed",
        signal.SIGABRT: ": it gave up by itself",
        signal.SIGBUS: ": a file under it is gone, or damaged on the disk",
    }
    return f"it died of {name}{meaning.get(number, '')}"


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float,
    keep: int = KEEP,
    cwd: str = "/",
    stderr: bool = True,
    each: Callable[[bytes], None] | None = None,
) -> Ended:
    """Run a program, without a shell, in a session of its own with an empty stdin.

    The last `keep` bytes of what it writes are kept; the rest is read and dropped. When it has ended, or at the
    deadline, its process group is killed. `each` sees what it writes as it comes. Raises OSError where it can't start.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        list(argv), env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if stderr else subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    pipe, output, timed_out = process.stdout.fileno(), b"", False
    os.set_blocking(pipe, False)
    try:
        is_open = True
        while True:
            left = start + timeout - time.monotonic()
            if process.poll() is not None:
                break
            if left <= 0:
                timed_out = True
                break
            if is_open and select.select([pipe], [], [], min(left, 0.1))[0]:
                is_open, output = _read(pipe, output, keep, each)
            elif not is_open:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(left, 0.1))
    finally:
        _kill(process.pid)
        process.wait()
    for _ in range(64):  # what is in the pipe still; a child that left the group may write on for ever
        more, output = _read(pipe, output, keep, each)
        if not more or not select.select([pipe], [], [], 0)[0]:
            break
    process.stdout.close()
    return Ended(process.returncode, timed_out, output, time.monotonic() - start)


def _read(pipe: int, output: bytes, keep: int, each: Callable[[bytes], None] | None) -> tuple[bool, bytes]:
    """(whether the pipe is open still, the output so far)."""
    try:
        data = os.read(pipe, 65536)
    except BlockingIOError:
        return True, output
    if each is not None and data:
        each(data)
    return bool(data), (output + data)[-keep:]


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
