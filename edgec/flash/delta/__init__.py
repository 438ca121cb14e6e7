"""A patch that makes a new model file from the one that a device has: aligned by tensor names, then by content.

`edgec_runtime.delta` has the format and applies patches. What is sent is small because the terms of an addition are: a
weight that moved by a step is a 1, in a stream where nearly all is 0 or 1; a general differ finds no equal bytes there.
"""

from __future__ import annotations

import io
import lzma
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from edgec.flash.delta.align import NEW, Piece, align
from edgec.flash.delta.spans import spans
from edgec.flash.delta.terms import halved, subtract
from edgec_runtime import delta as format_

_DICTIONARY = 1 << 20  # what the device's decoder must hold
_KINDS = {width: kind for kind, width in format_.WIDTHS.items() if kind != format_.HALVES}
_SAMPLE = 1 << 18  # bytes that choose among the tunings where there are many more
_PIECES, _CAUTION = 64, 0.85  # of a sample that estimates a stream's size; what a mixture may be off by
_WORTH = 4096  # bytes from which on trying more than one tuning saves more than a few
_TUNINGS = tuple(t for t in product((0, 1, 3), (0, 2), (0, 2)) if t[0] + t[1] <= 4)  # lc, lp, pb: see the xz manual


class TooLargeError(ValueError):
    """A patch that would be larger than is wanted."""


def encode(old: bytes, new: bytes, *, most: int | None = None) -> bytes:
    """A patch from `old` to `new`. It is proven: what it makes is compared with `new` before it is given out.

    Any two files: ONNX and TFLite models are aligned by their tensors' names, others by equal content.

    Raises TooLargeError where a sample says that the patch will have more than `most` bytes: compressing what has
    nothing in common takes longer than sending it.
    """
    orders = [len(old), len(new)]
    terms, fresh = bytearray(), bytearray()
    at = 0
    for piece in align(old, new, spans(old), spans(new)):
        orders.append(piece.length << 3 | _kind(piece))
        if piece.old == NEW:
            fresh += new[piece.new : piece.new + piece.length]
            continue
        away = piece.old - at
        orders.append(away << 1 if away >= 0 else ~(away << 1))
        at = piece.old + piece.length
        if piece.width:
            for begin in range(0, piece.length, format_.CHUNK):
                length = min(format_.CHUNK, piece.length - begin)
                a, b = piece.old + begin, piece.new + begin
                found = subtract(new[b : b + length], old[a : a + length], piece.width)
                terms += halved(found) if piece.halves else found
    if most is not None and _estimate(terms) + _estimate(fresh) > most:
        raise TooLargeError
    patch = assemble(_varints(orders), bytes(terms), bytes(fresh))
    _prove(patch, old, new)
    return patch


def assemble(*streams: bytes) -> bytes:
    """A patch of its three streams: instructions, terms, new bytes."""
    coded = [_compressed(data) for data in streams]
    heads = b"".join(bytes([coding]) + len(data).to_bytes(4, "little") for coding, data in coded)
    return format_.MAGIC + heads + b"".join(data for _, data in coded)


def _estimate(data: bytes | bytearray) -> float:
    """About how many bytes a stream takes, from pieces all over it, and rather too few; 0 for short ones."""
    if len(data) <= 2 * _SAMPLE:
        return 0.0
    step = len(data) // _PIECES
    sample = b"".join(data[n * step : n * step + _SAMPLE // _PIECES] for n in range(_PIECES))
    return _CAUTION * len(data) * len(lzma.compress(sample, preset=6)) / len(sample)


def _kind(piece: Piece) -> int:
    if piece.old == NEW:
        return format_.NEW
    if piece.halves:
        return format_.HALVES
    return _KINDS[piece.width] if piece.width else format_.COPY


def _varints(numbers: list[int]) -> bytes:
    made = bytearray()
    for number in numbers:
        while number > 127:
            made.append(number & 127 | 128)
            number >>= 7
        made.append(number)
    return bytes(made)


def _compressed(data: bytes) -> tuple[int, bytes]:
    """The coding and the bytes of the smallest of several; which it is depends on the data, and trying is cheap here.

    Terms of weights that all moved are noise without repetitions: Huffman's codes alone fit those better than LZMA.
    """

    def tuned(data: bytes, lc: int, lp: int, pb: int) -> bytes:
        lzma2 = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": _DICTIONARY}
        filters = [{**lzma2, "lc": lc, "lp": lp, "pb": pb}]
        return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)

    huffman = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # liblzma works without Python's lock
        tunings = _TUNINGS[: None if len(data) > _WORTH else 1]
        if len(data) > 2 * _SAMPLE:  # parts of it tell which tunings are worth the time
            step = len(data) // 4
            sample = b"".join(data[n * step : n * step + _SAMPLE // 4] for n in range(4))
            sizes = list(threads.map(lambda tuning: len(tuned(sample, *tuning)), tunings))
            tunings = tuple(tunings[n] for n in sorted(range(len(tunings)), key=sizes.__getitem__)[:2])
        best = min(threads.map(lambda tuning: tuned(data, *tuning), tunings), key=len)
    return min(((format_.XZ, best), (format_.DEFLATE, huffman.compress(data) + huffman.flush())), key=_size)


def _size(coded: tuple[int, bytes]) -> int:
    return len(coded[1])


def _prove(patch: bytes, old: bytes, new: bytes) -> None:
    made = bytearray()
    format_.apply(io.BytesIO(patch), io.BytesIO(old), made.extend, size=len(new))
    assert made == new, "a patch must make the file that it was made for"


__all__ = ["TooLargeError", "encode"]
