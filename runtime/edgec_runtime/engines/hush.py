"""LiteRT writes a line to standard error whenever it loads a model and has no switch for it: the line is dropped.

Only that line: anything else that was written meanwhile, by any thread, is passed on.
"""

from __future__ import annotations

import _thread
import os

LINE = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
STDERR = 2
_LOCK = _thread.allocate_lock()  # of two at once, one would put the other's file back


class Hush:
    """`with Hush():` around the call that writes. Without standard error, or room for a file, it does nothing."""

    __slots__ = ("_file", "_own")

    def __enter__(self) -> None:
        _LOCK.acquire()
        self._own = self._file = -1
        try:
            self._file = os.memfd_create("stderr")
            self._own = os.dup(STDERR)
            os.dup2(self._file, STDERR)
        except (AttributeError, OSError):
            self._close()

    def __exit__(self, *_: object) -> None:
        try:
            if self._own >= 0:
                os.dup2(self._own, STDERR)
                rest = b"".join(line for line in self._lines() if line.rstrip() != LINE)
                if rest:
                    os.write(STDERR, rest)
        finally:
            self._close()
            _LOCK.release()

    def _lines(self) -> list[bytes]:
        return os.pread(self._file, 1 << 20, 0).splitlines(keepends=True)

    def _close(self) -> None:
        for file in (self._own, self._file):
            if file >= 0:
                os.close(file)
        self._own = self._file = -1
