"""Where a model file has its tensors' bytes: ONNX by the wire format, TFLite by its tables; other files have none.

Only places are read, so a reader of 100 lines serves here where the formats' own libraries would copy the tensors and
not say where they lie (protobuf.dev/programming-guides/encoding; flatbuffers.dev/internals).
A file that is damaged has no spans: it is aligned by content then.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

LEAST = 64  # bytes: what is shorter is found by content
_GRAPH, _INITIALIZER, _NODE, _ATTRIBUTE, _TENSOR = 7, 5, 1, 5, 5  # ModelProto.graph, GraphProto.…, AttributeProto.t
_NAME, _RAW, _TYPE = 8, 9, 2  # of TensorProto
_ONNX_WIDTHS = {2: 1, 3: 1, 4: 2, 5: 2, 10: 2, 16: 2, 1: 4, 6: 4, 12: 4, 7: 8, 11: 8, 13: 8}  # TensorProto.DataType
_TFLITE_WIDTHS = {0: 4, 1: 2, 2: 4, 4: 8, 7: 2, 10: 8, 12: 8, 15: 4, 16: 2}  # TensorType; others are of one byte


@dataclass(frozen=True)
class Span:
    """A tensor's bytes in a file: `length` of them at `at`; integers or floats of `width` bytes."""

    name: str
    at: int
    length: int
    width: int


def spans(data: bytes) -> list[Span]:
    """The tensors of a model file in the order of their places, without overlaps; names are unique."""
    try:
        found = list(_tflite(data) if data[4:8] == b"TFL3" else _onnx(data))
    except (struct.error, IndexError, ValueError, UnicodeDecodeError):
        return []
    kept: dict[str, Span] = {}
    end = 0
    for span in sorted(found, key=lambda span: span.at):
        if span.at >= end and span.length >= LEAST and span.at + span.length <= len(data) and span.name not in kept:
            kept[span.name] = span
            end = span.at + span.length
    return list(kept.values())


def _onnx(data: bytes) -> Iterator[Span]:
    for number, at, end in _fields(data, 0, len(data)):
        if number == _GRAPH:
            for inner, a, b in _fields(data, at, end):
                if inner == _INITIALIZER:
                    yield from _tensor(data, a, b)


def _tensor(data: bytes, at: int, end: int) -> Iterator[Span]:
    name, raw, width = "", (0, 0), 1
    for number, a, b in _fields(data, at, end):
        if number == _NAME:
            name = data[a:b].decode()
        elif number == _RAW:
            raw = (a, b)
        elif number == _TYPE:
            width = _ONNX_WIDTHS.get(_varint(data, a)[0], 1)
    if name:
        yield Span(name, raw[0], raw[1] - raw[0], width if (raw[1] - raw[0]) % width == 0 else 1)


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, begin, end) of each field of a message; a varint's begin is where it stands."""
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 2:
            length, at = _varint(data, at)
            begin, at = at, at + length
        else:
            begin = at
            at = _varint(data, at)[1] if kind == 0 else at + {1: 8, 5: 4}.get(kind, end)
        if at > end:
            raise ValueError("a field is longer than its message")
        yield key >> 3, begin, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _tflite(data: bytes) -> Iterator[Span]:
    model = _u32(data, 0)
    buffers = list(_vector(data, _field(data, model, 4)))
    for graph in _vector(data, _field(data, model, 2)):
        for tensor in _vector(data, _field(data, graph, 0)):
            name, index, kind = (_field(data, tensor, n) for n in (3, 2, 1))
            if not name or not index:
                continue
            content = _field(data, buffers[_u32(data, index)], 0)
            if content:
                at = content + _u32(data, content)
                text = name + _u32(data, name)
                width = _TFLITE_WIDTHS.get(data[kind] if kind else 0, 1)
                length = _u32(data, at)
                word = data[text + 4 : text + 4 + _u32(data, text)].decode()
                yield Span(word, at + 4, length, width if length % width == 0 else 1)


def _field(data: bytes, table: int, number: int) -> int:
    """Where a table's field stands; 0 where it is not there."""
    layout = table - int(struct.unpack_from("<i", data, table)[0])
    size = int(struct.unpack_from("<H", data, layout)[0])
    if 4 + 2 * number >= size:
        return 0
    offset = int(struct.unpack_from("<H", data, layout + 4 + 2 * number)[0])
    return table + offset if offset else 0


def _vector(data: bytes, at: int) -> Iterator[int]:
    """The tables that a vector refers to."""
    if not at:
        return
    at += _u32(data, at)
    for place in range(at + 4, at + 4 + 4 * _u32(data, at), 4):
        yield place + _u32(data, place)


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])
