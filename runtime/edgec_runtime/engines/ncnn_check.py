"""Does the package ncnn work on this machine? Asked in a child process, so that one which crashes does no harm.

A wheel made for another core dies of SIGILL as it is imported. A forked child imports it, runs a net of one layer
(y = relu(x), four floats) and compares. The child is ended where it takes too long.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgec_runtime.engines.library import Library

TIMEOUT = 30.0  # seconds: the module has 12 to 26 MB
PARAM = b"7767517\n2 2\nInput x 0 1 x 0=4\nReLU y 1 1 x y\n"
GIVEN, EXPECTED = (1.0, -2.0, 3.0, -4.0), [1.0, 0.0, 3.0, 0.0]

_passed: set[str] = set()


def check(library: Library) -> None:
    """Raise `native.CallError` where the package does not compute. Once in a process for each file."""
    from edgec_runtime.engines.library import cut_short
    from edgec_runtime.engines.native import CallError

    stamp = library.stamp()
    if stamp in _passed or "ncnn" in sys.modules:
        return
    problem = cut_short(library.path) or (_in_a_child(library.path) if hasattr(os, "fork") else _computes(library.path))
    if problem:
        raise CallError(f"{library.path} does not work on this machine: {problem}")
    _passed.add(stamp)


def _in_a_child(path: str) -> str:
    """What is wrong, or nothing."""
    import time

    out, into = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of the parent's is touched here, and nothing of its clean-up runs
        status = 1
        try:
            os.close(out)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            if "faulthandler" in sys.modules:
                sys.modules["faulthandler"].disable()
            os.write(into, (_computes(path) or "fine").encode()[:4000])
            status = 0
        finally:
            os._exit(status)
    os.close(into)
    try:
        deadline, pause = time.monotonic() + TIMEOUT, 0.001
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > deadline:
                os.kill(child, 9)
                os.waitpid(child, 0)
                return f"it did not answer in {TIMEOUT:.0f} seconds"
            time.sleep(pause)
            pause = min(0.05, pause * 2)
        said = os.read(out, 4096).decode("utf-8", "replace")
    finally:
        os.close(out)
    if os.WIFSIGNALED(status):
        return f"it died of signal {os.WTERMSIG(status)}"
    return "" if said == "fine" else said or "it ended without a word"


def _computes(path: str) -> str:
    from struct import pack

    from edgec_runtime.engines import ncnn
    from edgec_runtime.engines.ncnn_files import Interface, Port

    try:
        ncnn.module(path)
        interface = Interface([Port("x", (1, 4), "x", (4,))], [Port("y", (1, 4), "y", (4,))], 0)
        model = ncnn.Executable((_file(PARAM), _file(b"")), interface, 1)
        answer = model.run(["y"], {"x": memoryview(pack("4f", *GIVEN)).cast("f", (1, 4))})[0]
        found = answer.tolist()[0]
    except Exception as error:
        return str(error) or type(error).__name__
    return "" if found == EXPECTED else f"relu{list(GIVEN)} came out as {found}"


def _file(data: bytes) -> int:
    from tempfile import TemporaryFile

    with TemporaryFile() as holder:
        holder.write(data)
        holder.flush()
        return os.dup(holder.fileno())
