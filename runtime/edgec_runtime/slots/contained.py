"""A child process that may hang, crash, flood or leave children behind: a deadline, and its whole group is killed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NamedTuple

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


def no_core() -> None:
    """This process, and those that it starts, leave no core file: it would hold models, also those that are sealed."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float,
    keep: int = KEEP,
    cwd: str = "/",
    stderr: bool = True,
    each: Callable[[bytes], None] | None = None,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
) -> Ended:
    """Run a program, without a shell, in a session of its own; its stdin is empty where no file is given.

    The last `keep` bytes of what it writes are kept; the rest is read and dropped. When it has ended, or at the
    deadline, its process group is killed. `each` sees what it writes as it comes. Where a file is given as `stdout`,
    what is kept is its stderr alone. Raises OSError where it can't start.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        list(argv), env=env, cwd=cwd, stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE if stdout is None else stdout, start_new_session=True,
        stderr=subprocess.PIPE if stdout is not None else subprocess.STDOUT if stderr else subprocess.DEVNULL,
    )  # fmt: skip
    said = process.stdout if stdout is None else process.stderr
    assert said is not None
    pipe, output, timed_out = said.fileno(), b"", False
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
            if is_open and _readable(pipe, min(left, 0.1)):
                is_open, output = _read(pipe, output, keep, each)
            elif not is_open:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(left, 0.1))
    finally:
        _kill(process.pid)
        process.wait()
    for _ in range(64):  # what is in the pipe still; a child that left the group may write on for ever
        more, output = _read(pipe, output, keep, each)
        if not more or not _readable(pipe, 0):
            break
    said.close()
    return Ended(process.returncode, timed_out, output, time.monotonic() - start)


def _readable(pipe: int, seconds: float) -> bool:
    """Whether there is something to read, or the end. Not by `select`: who installs may have a thousand files open."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


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
