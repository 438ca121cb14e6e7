"""ONNX's C++ (checker, shape inference, converter, inliner) in a child process with bounded memory and time.

On a malformed model that code can loop for ever (an Einsum equation of four dots), allocate what a dimension says
(Split into 10^9 outputs; ConstantOfShape of a shape with 10^9 entries) or crash. One child serves the whole process;
it is started when first needed, and again after it died.
"""

from __future__ import annotations

import atexit
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import onnx

from edgec.frontends.onnx import worker

CPU_SECONDS = 30
"""For one request; the largest models of the zoo take under one."""

WALL_SECONDS = 600.0
"""For one request, on top of the child's own limit of CPU time: a machine may be busy."""


class CppError(Exception):
    """What ONNX's C++ said of the model, or how it died on it."""


class _Child:
    """The running worker, or none; `lock` lets one request through at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, operation: int, argument: int, model: bytes) -> bytes:
        with self.lock:
            process = self._running()
            try:
                assert process.stdin is not None
                process.stdin.write(worker.REQUEST.pack(operation, argument, len(model)))
                process.stdin.write(model)
                process.stdin.flush()
                status, length = worker.ANSWER.unpack(self._read(process, worker.ANSWER.size))
                data = self._read(process, length)
            except (OSError, EOFError, TimeoutError) as error:
                raise CppError(self._died(process, error)) from error
            except BaseException:  # interrupted half-way: the next answer would be this one's
                self.close()
                raise
        if status:
            raise CppError(data.decode("utf-8", "replace"))
        return data

    def close(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(Path(worker.__file__)), str(CPU_SECONDS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        return self.process

    def _read(self, process: subprocess.Popen[bytes], length: int) -> bytes:
        assert process.stdout is not None
        parts, left = [], length
        while left:
            if os.name == "posix" and not select.select([process.stdout], [], [], WALL_SECONDS)[0]:
                raise TimeoutError(f"no answer within {WALL_SECONDS:.0f} s")
            part = os.read(process.stdout.fileno(), min(left, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _died(self, process: subprocess.Popen[bytes], error: BaseException) -> str:
        if not isinstance(error, TimeoutError):
            process.wait()
        code = process.returncode
        self.close()
        if isinstance(error, TimeoutError):
            return f"onnx's C++ code gave {error}"
        if code == -24:  # SIGXCPU
            return f"onnx's C++ code did not end on this model (stopped after {CPU_SECONDS} s of CPU time)"
        return f"onnx's C++ code died on this model (exit status {code}), or took more memory than it may"


_CHILD = _Child()
atexit.register(_CHILD.close)
if hasattr(os, "register_at_fork"):

    def _forget() -> None:
        """A forked process must not share the child's pipes."""
        _CHILD.lock, _CHILD.process = threading.Lock(), None

    os.register_at_fork(after_in_child=_forget)


def check(proto: onnx.ModelProto) -> None:
    """onnx.checker.check_model. Raises CppError."""
    _CHILD.ask(worker.CHECK, 0, proto.SerializeToString())


def infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    """onnx.shape_inference.infer_shapes: types checked, not strict, values propagated. Raises CppError."""
    return _parsed(_CHILD.ask(worker.INFER, 0, proto.SerializeToString()))


def convert(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """onnx.version_converter.convert_version. Raises CppError."""
    return _parsed(_CHILD.ask(worker.CONVERT, opset, proto.SerializeToString()))


def inline(proto: onnx.ModelProto) -> onnx.ModelProto:
    """onnx.inliner.inline_local_functions, with conversion of the functions' opsets. Raises CppError."""
    return _parsed(_CHILD.ask(worker.INLINE, 0, proto.SerializeToString()))


def _parsed(data: bytes) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.ParseFromString(data)
    return proto
