"""A file made from an older one and a patch: copies, additions, new bytes; standard library alone, bounded memory.

`edgec.flash.delta` writes patches. Whatever a patch says, the digest of what it makes decides, so this module need not
trust it: it must only never take more memory or disk than it was told, and never read past its base.

A patch, format 1: MAGIC, then for each of three streams its coding (0: xz, 1: raw deflate) in a byte and its length in
four (little-endian), then the streams: the instructions, the terms of additions, new bytes. The instructions are
numbers, seven bits a byte, least first, the eighth bit set where more follow: the size of the base, that of the result,
then

    length << 3 | kind [, how far the base's next byte is from the last one's end, zigzag]

kind 0 is new bytes; 1 is a copy from the base; 2, 3, 4, 5 are additions to the base in integers of 1, 2, 4, 8 bytes.
An addition goes by chunks of CHUNK bytes, the last may be shorter; its terms are zigzag (0, -1, 1, -2 … are 0, 1, 2, 3
…) and stand in planes: all lowest bytes of a chunk, then all second ones. Kind 6 is an addition in single bytes whose
terms stand two in a byte, the first one low (the last byte may hold one): 15 says that the term is 15 or more, and
stands in a byte of its own after the chunk's others.
"""

from __future__ import annotations

import lzma
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Callable

MAGIC = b"edgec\x00d1"
CHUNK = 1 << 16
MEMORY = 4 << 20  # bytes that one xz decoder may take: streams are written with a dictionary of at most 1 MiB
MAX_INSTRUCTIONS = 8 << 20  # bytes of them
NEW, COPY, HALVES = 0, 1, 6
WIDTHS = {2: 1, 3: 2, 4: 4, 5: 8, HALVES: 1}
ESCAPE = 15
XZ, DEFLATE = 0, 1
_LOW = bytes(n & 15 for n in range(256))
_HIGH = bytes(n >> 4 for n in range(256))


class PatchError(ValueError):
    """A patch that is none, or not for this base."""


def apply(patch: IO[bytes], base: IO[bytes], write: Callable[[bytes], object], *, size: int) -> None:
    """Make the new file.

    Args:
        patch: seekable.
        base: the file that the patch was made for; seekable.
        write: takes the result's bytes, in order, at most CHUNK at a time.
        size: of the result, as the signed manifest has it.

    Raises PatchError where the patch is damaged or for other files; what was written until then is of no use.
    """
    try:
        _apply(patch, base, write, size)
    except (lzma.LZMAError, zlib.error, EOFError, MemoryError) as error:
        raise PatchError(f"the patch is damaged: {error}") from None


def _apply(patch: IO[bytes], base: IO[bytes], write: Callable[[bytes], object], size: int) -> None:
    if patch.read(len(MAGIC)) != MAGIC:
        raise PatchError("this is no patch of format 1")
    heads = [(_exactly(patch, 1)[0], int.from_bytes(_exactly(patch, 4), "little")) for _ in range(3)]
    places = [len(MAGIC) + 15 + sum(length for _, length in heads[:n]) for n in range(3)]
    orders, terms, fresh = (_Stream(patch, coding, at, length) for at, (coding, length) in zip(places, heads))
    numbers = _numbers(orders)
    known, total = next(numbers, -1), next(numbers, -1)
    base.seek(0, 2)
    if known != base.tell():
        raise PatchError("the patch is for another base")
    if total != size:
        raise PatchError(f"the patch makes {total} bytes, {size} are wanted")
    left, at = size, 0
    for number in numbers:
        length, kind = number >> 3, number & 7
        if not 0 < length <= left:
            raise PatchError("the patch makes more bytes than it says")
        left -= length
        if kind == NEW:
            for part in _parts(length):
                write(fresh.read(part))
            continue
        width = WIDTHS.get(kind, 1)
        if (kind != COPY and kind not in WIDTHS) or length % width:
            raise PatchError("the patch has an instruction that format 1 does not know")
        at += _signed(next(numbers, 0))
        if not 0 <= at <= known - length:
            raise PatchError("the patch reads past its base")
        base.seek(at)
        at += length
        for part in _parts(length):
            old = _exactly(base, part)
            if kind == COPY:
                write(old)
            else:
                write(added(old, _halves(terms, part) if kind == HALVES else terms.read(part), width))
    if left:
        raise PatchError("the patch ends early")


def added(old: bytes, terms: bytes, width: int) -> bytes:
    """Integers of `width` bytes (little-endian, wrapping) plus terms in zigzag and planes; both of one length.

    All lanes at once, in integers as long as the chunk: that is what Python's own speed allows.
    """
    count = len(old) // width
    if width > 1:
        laid = bytearray(len(terms))
        for plane in range(width):
            laid[plane::width] = terms[plane * count : (plane + 1) * count]
        terms = bytes(laid)
    bits = 8 * width
    ones = int.from_bytes((b"\x01" + bytes(width - 1)) * count, "little")  # 1 in each lane
    tops = ones << (bits - 1)
    zigzag = int.from_bytes(terms, "little")
    negative = zigzag & ones
    term = ((zigzag ^ negative) >> 1) ^ ((negative << bits) - negative)
    before = int.from_bytes(old, "little")
    # Without the top bits no lane carries into the next one; they are added by exclusive or.
    total = ((before & ~tops) + (term & ~tops)) ^ ((before ^ term) & tops)
    return total.to_bytes(len(old), "little")


def _halves(stream: _Stream, count: int) -> bytes:
    packed = stream.read(count - count // 2)
    terms = bytearray(2 * len(packed))
    terms[0::2] = packed.translate(_LOW)
    terms[1::2] = packed.translate(_HIGH)
    del terms[count:]
    escaped = terms.count(ESCAPE)
    at = -1
    for value in stream.read(escaped) if escaped else b"":
        at = terms.index(ESCAPE, at + 1)
        terms[at] = value
    return bytes(terms)


class _Deflate:
    """zlib's decoder of raw deflate with the face of lzma's."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(-15)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, most)


class _Stream:
    """One stream of the patch, decoded as it is read."""

    def __init__(self, file: IO[bytes], coding: int, at: int, length: int) -> None:
        self._file, self._at, self._left = file, at, length
        if coding not in (XZ, DEFLATE):
            raise PatchError("the patch has a coding that format 1 does not know")
        self._decoder = _Deflate() if coding else lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)

    def some(self, most: int) -> bytes:
        """Up to `most` bytes; nothing at the end."""
        while not self._decoder.eof:
            given = b""
            if self._decoder.needs_input:
                self._file.seek(self._at)
                given = _exactly(self._file, min(CHUNK, self._left))
                self._at += len(given)
                self._left -= len(given)
            made = self._decoder.decompress(given, most)
            if made:
                return made
            # Only now: inflate takes all of its input and may still owe output that did not fit into `most`.
            if not given and self._decoder.needs_input and not self._decoder.eof:
                raise EOFError("a stream is cut off")
        return b""

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        found = self.some(count)
        while len(found) < count:
            more = self.some(count - len(found))
            if not more:
                raise EOFError("a stream is too short")
            found += more
        return found


def _numbers(stream: _Stream) -> Iterator[int]:
    value = shift = taken = 0
    while True:
        chunk = stream.some(CHUNK)
        taken += len(chunk)
        if taken > MAX_INSTRUCTIONS:
            raise PatchError("the patch has too many instructions")
        if not chunk:
            if shift:
                raise PatchError("the last instruction is cut off")
            return
        for byte in chunk:
            value |= (byte & 127) << shift
            if byte < 128:
                yield value
                value = shift = 0
            else:
                shift += 7
                if shift > 63:
                    raise PatchError("the patch has a number that is too large")


def _signed(zigzag: int) -> int:
    return (zigzag >> 1) ^ -(zigzag & 1)


def _parts(length: int) -> Iterator[int]:
    for begin in range(0, length, CHUNK):
        yield min(CHUNK, length - begin)


def _exactly(file: IO[bytes], count: int) -> bytes:
    found = file.read(count)
    if len(found) != count:
        raise EOFError("a file is cut off")
    return found
