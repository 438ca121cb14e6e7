"""A disk that is one file and logs all it is told: a server of the kernel's FUSE protocol, mounted over that file.

    python -m edgec_toolchains.crashlab.disk IMAGE LOG

mounts over IMAGE itself, so that whoever opens IMAGE from then on (a loop device) talks to this process. It answers one
request at a time: what was written before a flush is in the log before it. Setting the file's extended attribute
`user.mark` puts a mark into the log. No libfuse: eight requests of one file need none, and nothing is to be installed.
It ends when it is unmounted. Source of the numbers and layouts: the kernel's include/uapi/linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from edgec_toolchains.crashlab import log, mounts

_IN = struct.Struct("<IIQQIIII")  # len, opcode, unique, nodeid, uid, gid, pid, padding
_OUT = struct.Struct("<IiQ")  # len, error, unique
_RANGE = struct.Struct("<QQI")  # fh, offset, size: how reads and writes begin
_WRITE_HEAD = 40  # bytes before a write's data
_FALLOCATE = struct.Struct("<QQQI")  # fh, offset, length, mode
_MAX_WRITE = 1 << 20  # bytes
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22  # of FUSE_INIT's flags
_DIRECT_IO = 1  # of FUSE_OPEN's: no page cache between the loop device and this process
_SILENT = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET: the kernel wants no answer
_PUNCHES = 0x02 | 0x10  # FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE
_DESTROY = 38


class Disk:
    """The answers. `image` is the descriptor of the real file beneath, `record` takes the log."""

    def __init__(self, image: int, record: Callable[[bytes], object]) -> None:
        self.image = image
        self.size = os.fstat(image).st_size
        self._record = record
        self._answers: dict[int, Callable[[bytes], bytes]] = {
            3: self._attributes, 4: self._attributes, 14: self._open, 15: self._read, 16: self._write,
            18: self._nothing, 20: self._flush, 21: self._mark, 25: self._nothing, 26: self._start,
            43: self._zero,
        }  # fmt: skip

    def answer(self, request: bytes) -> bytes | None:
        """The reply to a request; None where the kernel expects none."""
        _, opcode, unique, *_ = _IN.unpack_from(request)
        if opcode in _SILENT:
            return None
        try:
            if opcode not in self._answers:
                raise OSError(errno.ENOSYS, "")
            body, error = self._answers[opcode](request[_IN.size :]), 0
        except OSError as failed:
            body, error = b"", -(failed.errno or errno.EIO)
        return _OUT.pack(_OUT.size + len(body), error, unique) + body

    def _note(self, kind: int, offset: int = 0, size: int = 0, data: bytes = b"") -> None:
        self._record(log.HEAD.pack(kind, offset, size) + data)

    def _start(self, body: bytes) -> bytes:
        _, _, readahead, _ = struct.unpack_from("<IIII", body)
        flags = _BIG_WRITES | _MAX_PAGES
        return struct.pack(
            "<IIIIHHIIHHII24x", 7, 31, readahead, flags, 16, 12, _MAX_WRITE, 1, _MAX_WRITE >> 12, 0, 0, 0
        )

    def _attributes(self, body: bytes) -> bytes:
        times = (0,) * 6
        return struct.pack(
            "<QII6Q10I", 3600, 0, 0, 1, self.size, self.size >> 9, *times[:3], *times[:3], 0o100600, 1, 0, 0, 0, 4096, 0
        )

    def _open(self, body: bytes) -> bytes:
        return struct.pack("<QII", 1, _DIRECT_IO, 0)

    def _read(self, body: bytes) -> bytes:
        _, offset, size = _RANGE.unpack_from(body)
        return os.pread(self.image, size, offset)

    def _write(self, body: bytes) -> bytes:
        _, offset, size = _RANGE.unpack_from(body)
        data = body[_WRITE_HEAD : _WRITE_HEAD + size]
        self._note(log.WRITE, offset, size, data)
        return struct.pack("<II", os.pwrite(self.image, data, offset), 0)

    def _flush(self, body: bytes) -> bytes:
        self._note(log.FLUSH)
        return b""

    def _zero(self, body: bytes) -> bytes:
        _, offset, size, mode = _FALLOCATE.unpack_from(body)
        if not mode & _PUNCHES:
            raise OSError(errno.EOPNOTSUPP, "")
        self._note(log.ZERO, offset, size)
        os.pwrite(self.image, bytes(size), offset)
        return b""

    def _mark(self, body: bytes) -> bytes:
        (size,) = struct.unpack_from("<I", body)
        name, _, rest = body[8:].partition(b"\0")
        if name != b"user.mark":
            raise OSError(errno.ENOTSUP, "")
        self._note(log.MARK, 0, size, rest[:size])
        return b""

    def _nothing(self, body: bytes) -> bytes:
        return b""


def serve(image: Path, log_file: Path) -> None:
    """Mount over `image` and answer until it is unmounted. Raises OSError where this process may not mount."""
    beneath = os.open(image, os.O_RDWR)
    with log_file.open("ab") as record:
        disk = Disk(beneath, record.write)
        channel = mounts.mount_fuse(image)
        while True:
            try:
                request = os.read(channel, _MAX_WRITE + (1 << 16))
            except OSError as stopped:
                if stopped.errno == errno.ENODEV:  # unmounted
                    return
                if stopped.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):  # the request was taken back
                    continue
                raise
            reply = disk.answer(request)
            if reply is not None:
                try:
                    os.write(channel, reply)
                except OSError as gone:
                    if gone.errno != errno.ENOENT:
                        raise


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
