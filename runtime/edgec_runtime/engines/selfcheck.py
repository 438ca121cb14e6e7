"""Does a LiteRT library work as this package calls it? Asked in a child process, so that a wrong one can do no harm.

A C library has no types: called with the wrong arguments it crashes. A forked child loads it, runs a model of one
operator (y = relu(x), four floats) and compares. The child is ended where it takes too long.
"""

from __future__ import annotations

from edgec_runtime.engines import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TIMEOUT = 20.0  # seconds
# Made with the schema of ai-edge-litert 2.3: one RELU of float32[1, 4], input "x", output "y".
MODEL = (
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA2AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAMABQAEAAM"
    "AAgABAAMAAAAEAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAAAAEAAAABAAAAAAAAAAEA"
    "AAABAAAAAQAAAAAAAAACAAAANAAAAAQAAADg////CAAAAAwAAAABAAAAeQAAAAIAAAABAAAABAAAAAwADAAIAAAAAAAEAAwAAAAI"
    "AAAADAAAAAEAAAB4AAAAAgAAAAEAAAAEAAAAAQAAABAAAAAMAAwACwAAAAAABAAMAAAAEwAAAAAAABM="
)
GIVEN, EXPECTED = (1.0, -2.0, 3.0, -4.0), [1.0, 0.0, 3.0, 0.0]

_passed: set[str] = set()


def check(path: str) -> None:
    """Raise `native.CallError` where the library at `path` does not compute. Once in a process for each path."""
    from edgec_runtime.engines.library import Library, cut_short
    from edgec_runtime.engines.native import CallError

    stamp = Library(path, "").stamp()
    if stamp in _passed:
        return

    problem = cut_short(path) or child.asked(_computes, path, TIMEOUT)
    if problem:
        raise CallError(f"{path} does not work as a LiteRT from 2.1.6 on should: {problem}")
    _passed.add(stamp)


def _computes(path: str) -> str:
    from binascii import a2b_base64
    from struct import pack

    from edgec_runtime.engines import litert_capi

    try:
        file = child.file(a2b_base64(MODEL))
        model = litert_capi.Executable(litert_capi.load(path), file, 1)
        answer: Any = model.run(["y"], {"x": memoryview(pack("4f", *GIVEN)).cast("f", (1, 4))})[0]
        found = answer.tolist()[0]
    except Exception as error:
        return str(error) or type(error).__name__
    return "" if found == EXPECTED else f"relu{list(GIVEN)} came out as {found}"
