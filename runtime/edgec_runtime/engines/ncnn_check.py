"""Does the package ncnn work on this machine? Asked in a child process, so that one which crashes does no harm.

A wheel made for another core dies of SIGILL as it is imported. A forked child imports it, runs a net of one layer
(y = relu(x), four floats) and compares. The child is ended where it takes too long.
"""

from __future__ import annotations

import sys

from edgec_runtime.engines import child

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
    problem = cut_short(library.path) or child.asked(_computes, library.path, TIMEOUT)
    if problem:
        raise CallError(f"{library.path} does not work on this machine: {problem}")
    _passed.add(stamp)


def _computes(path: str) -> str:
    from struct import pack

    from edgec_runtime.engines import ncnn
    from edgec_runtime.engines.ncnn_files import Interface, Port

    try:
        ncnn.module(path)
        interface = Interface([Port("x", (1, 4), "x", (4,))], [Port("y", (1, 4), "y", (4,))], 0)
        model = ncnn.Executable((child.file(PARAM), child.file(b"")), interface, 1)
        answer = model.run(["y"], {"x": memoryview(pack("4f", *GIVEN)).cast("f", (1, 4))})[0]
        found = answer.tolist()[0]
    except Exception as error:
        return str(error) or type(error).__name__
    return "" if found == EXPECTED else f"relu{list(GIVEN)} came out as {found}"
