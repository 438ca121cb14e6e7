"""The line to the host: two file descriptors, with a limit on silence, so that a dead link does not hold a lock."""

from __future__ import annotations

import os
import select
import time

from edgec_runtime.agent import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE = 30.0  # seconds without a byte from the host (it pings while it thinks), or to it
NOTE = 1 << 17  # bytes after which the host is told how much has come


class GoneError(Exception):
    """The host has left: its end of the line is closed, or nothing was heard of it for `IDLE` seconds."""


class Line:
    """Frames in and out. Memory: one frame at a time."""

    def __init__(self, incoming: int, outgoing: int, *, idle: float = IDLE) -> None:
        self._in, self._out, self._idle = incoming, outgoing, idle
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(incoming, select.POLLIN)
        self._writable.register(outgoing, select.POLLOUT)

    def read(self) -> tuple[bytes, bytes]:
        """The next frame. Raises GoneError at the end, also in the middle of one, and FrameError where it is none."""
        return frames.read(self._exactly)

    def send(self, data: bytes) -> None:
        """Write all of it. Raises GoneError where nobody takes it."""
        rest = memoryview(data)
        deadline = time.monotonic() + self._idle
        while rest:
            if not self._writable.poll(self._idle * 1000) or time.monotonic() > deadline:
                raise GoneError
            try:
                rest = rest[os.write(self._out, rest[:4096]) :]  # PIPE_BUF: a pipe that is writable takes so much
            except OSError:
                raise GoneError from None

    def pieces(self, size: int) -> Iterator[bytes]:
        """The bodies of D frames until the empty one; at most `size` bytes. Tells the host what has come.

        Raises FrameError where there are more, or another kind of frame comes in between.
        """
        come = told = 0
        last = time.monotonic()
        while True:
            kind, body = self.read()
            if kind != frames.DATA:
                raise frames.FrameError("a request came where data were due")
            if not body:
                return
            come += len(body)
            if come > size:
                raise frames.FrameError(f"more data came than the {size} bytes that were announced")
            yield body
            if come - told >= NOTE or come == size or time.monotonic() - last > 1:
                told, last = come, time.monotonic()
                self.send(frames.message({"at": come}))

    def _exactly(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            if not self._readable.poll(self._idle * 1000):
                raise GoneError
            try:
                data = os.read(self._in, min(1 << 16, count - len(found)))
            except OSError:
                raise GoneError from None
            if not data:
                raise GoneError
            found += data
        return bytes(found)
