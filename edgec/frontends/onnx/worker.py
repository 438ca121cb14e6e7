"""The child process in which ONNX's C++ runs: started by `isolated`, imports onnx and nothing of edgec.

A request is `<operation: u8> <argument: u32> <length: u64> <model>`, an answer `<0 or 1: u8> <length: u64> <bytes>`:
the model that came out, or the error's words. All little-endian. The process limits its own memory and CPU time
for each request; what exceeds them, or crashes, ends the process, which the parent sees.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Any

CHECK, INFER, CONVERT, INLINE = range(4)
REQUEST, ANSWER = struct.Struct("<BIQ"), struct.Struct("<BQ")

MEMORY, MEMORY_EACH = 2 << 30, 8
"""Bytes for any request, and for each byte of the model on top."""


def serve(cpu_seconds: int) -> None:
    """Answer requests from standard input until it ends; each has `cpu_seconds`, and a second a megabyte."""
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # ONNX's C++ prints warnings, which are no answers
    while head := sys.stdin.buffer.read(REQUEST.size):
        operation, argument, length = REQUEST.unpack(head)
        _limit(length, cpu_seconds + (length >> 20))
        try:
            status, data = 0, _do(operation, argument, sys.stdin.buffer.read(length))
        except Exception as error:
            status, data = 1, (str(error) or type(error).__name__).encode("utf-8", "replace")
        answers.write(ANSWER.pack(status, len(data)) + data)
        answers.flush()


def _do(operation: int, argument: int, model: bytes) -> bytes:
    # The C++ functions under onnx.checker and the rest: those would parse and serialise the model once more.
    import onnx.onnx_cpp2py_export

    cpp: Any = onnx.onnx_cpp2py_export  # its stubs lack the inliner

    if operation == CHECK:
        cpp.checker.check_model(model, False, False, False)
        return b""
    if operation == INFER:
        return bytes(cpp.shape_inference.infer_shapes(model, True, False, True))  # check types, not strict, data
    if operation == CONVERT:
        return bytes(cpp.version_converter.convert_version(model, argument))
    return bytes(cpp.inliner.inline_local_functions(model, True))


def _limit(length: int, cpu_seconds: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows: there only the parent's timeout holds
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_below(MEMORY + MEMORY_EACH * length, most), most))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + cpu_seconds
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_below(seconds, most), most))


def _below(wanted: int, most: int) -> int:
    return wanted if most < 0 else min(wanted, most)


if __name__ == "__main__":
    import onnx  # noqa: F401  (ahead of the first limit)

    serve(int(sys.argv[1]))
