"""A question that may crash or hang, asked in a child process: a wrong library does no harm there."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable


def asked(computes: Callable[[str], str], path: str, timeout: float) -> str:
    """What `computes(path)` says is wrong, or that it died or took over `timeout` seconds; nothing where all is well.

    A forked child asks; where there is no fork, this process does.
    """
    if not hasattr(os, "fork"):
        return computes(path)
    import time

    out, into = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of the parent's is touched here, and nothing of its clean-up runs
        status = 1
        try:
            os.close(out)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what a wrong library says is nobody's concern
            if "faulthandler" in sys.modules:
                sys.modules["faulthandler"].disable()  # nor where it dies
            os.write(into, (computes(path) or "fine").encode()[:4000])
            status = 0
        finally:
            os._exit(status)
    os.close(into)
    try:
        deadline, pause = time.monotonic() + timeout, 0.001
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > deadline:
                os.kill(child, 9)
                os.waitpid(child, 0)
                return f"it did not answer in {timeout:.0f} seconds"
            time.sleep(pause)
            pause = min(0.05, pause * 2)
        said = os.read(out, 4096).decode("utf-8", "replace")
    finally:
        os.close(out)
    if os.WIFSIGNALED(status):
        return f"it died of signal {os.WTERMSIG(status)}"
    return "" if said == "fine" else said or "it ended without a word"


def file(data: bytes) -> int:
    """A descriptor of a file with these bytes and no name."""
    if hasattr(os, "memfd_create"):
        made = os.memfd_create("edgec", os.MFD_CLOEXEC)
        os.write(made, data)
        return made
    from tempfile import TemporaryFile

    with TemporaryFile() as holder:
        holder.write(data)
        holder.flush()
        return os.dup(holder.fileno())
