"""Bytes to `onnx.ModelProto`: what can be told before any graph is looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgec.errors import BadInputError

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes; protobuf refuses more in one message (https://protobuf.dev/programming-guides/proto-limits/)."""

_CHUNK = 1 << 20

_OTHERS = (
    (0, b"PK\x03\x04", "a ZIP archive (a PyTorch or Keras file, or an edgec bundle)"),
    (4, b"TFL3", "a TFLite model"),
    (0, b"\x89HDF", "an HDF5 file (Keras)"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"version https://git-lfs", "a Git LFS pointer: the real file was not fetched"),
    (4, b"ORTM", "an .ort file, which ONNX Runtime made from the model"),
    (0, b"<", "a text or HTML file"),
)


@dataclass(frozen=True)
class Source:
    """A file as read: `folder` is where its external data may lie, `data` the bytes when they were given."""

    proto: onnx.ModelProto
    path: Path | None
    folder: Path | None
    data: bytes | None
    sha256: str
    size: int


def read(source: str | Path | bytes | onnx.ModelProto) -> Source:
    """Parse `source`.

    Raises:
        BadInputError: not there, empty, truncated, over 2 GB, or not an ONNX protobuf.
    """
    if isinstance(source, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(source)
        data = proto.SerializeToString(deterministic=True)
        return Source(proto, None, None, None, hashlib.sha256(data).hexdigest(), len(data))
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return Source(_parse(data, "the given bytes"), None, None, data, hashlib.sha256(data).hexdigest(), len(data))
    path = Path(source)
    data = _read_file(path)
    proto = _parse(data, path.name)
    return Source(proto, path, path.parent.absolute(), None, hashlib.sha256(data).hexdigest(), len(data))


def default_opset(proto: onnx.ModelProto) -> int:
    """The default domain's version, 0 when the model imports none."""
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)


def digest(file: Source, data_files: Sequence[Path]) -> tuple[str, int]:
    """SHA-256 (hex) and size in bytes of the model and its external data files.

    Without external data it is the file's own digest. With it: SHA-256 over one line `<sha256> <name>\\n` for
    the model and then each data file in order of its name relative to the model's folder.
    """
    if not data_files or file.folder is None:
        return file.sha256, file.size
    whole, size = hashlib.sha256(f"{file.sha256} model\n".encode()), file.size
    for path in sorted(data_files):
        one = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                one.update(chunk)
                size += len(chunk)
        whole.update(f"{one.hexdigest()} {path.relative_to(file.folder).as_posix()}\n".encode())
    return whole.hexdigest(), size


def _read_file(path: Path) -> bytes:
    if not path.exists():
        raise BadInputError(f"{path} is not there", "no such file", "check the path of the model", code="E901")
    if not path.is_file():
        raise BadInputError(
            f"{path} is not a file", "it is a folder or a device", "give the .onnx file itself", code="E901"
        )
    size = path.stat().st_size
    if size > PROTOBUF_LIMIT:
        raise BadInputError(
            f"{path.name} has {size} bytes, more than one protobuf message can hold (2 GB)",
            "models this large keep their weights in external data files",
            "save it again with onnx.save(model, path, save_as_external_data=True)",
            code="E902",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path} can't be read", str(error), "check its permissions", code="E901") from error


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    if not data:
        raise BadInputError(f"{name} is empty", "", "export or copy the model again", code="E902")
    for at, magic, words in _OTHERS:
        if data[at : at + len(magic)] == magic:
            raise BadInputError(
                f"{name} is not an ONNX model", f"it looks like {words}", "export it to ONNX first", code="E902"
            )
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise BadInputError(
            f"{name} is not an ONNX model, or is damaged",
            f"protobuf: {error}",
            "is the file whole? Compare its size or checksum with where it came from",
            code="E902",
        ) from error
    if not proto.HasField("graph") or not proto.ir_version:
        missing = "graph" if not proto.HasField("graph") else "IR version"
        raise BadInputError(
            f"{name} is not an ONNX model, or is cut short",
            f"it parses as a protobuf, but has no {missing}",
            "is the file whole? Compare its size or checksum with where it came from",
            code="E902",
        )
    _text(proto, name)
    return proto


def _text(proto: onnx.ModelProto, name: str) -> None:
    """Refuse strings that are no UTF-8: protobuf's parser lets them through, as bytes."""
    pending: list[Any] = [proto]
    while pending:
        message = pending.pop()
        if isinstance(message, onnx.TensorProto):  # not field by field: reading raw_data copies the weights
            strings: list[Any] = [message.name, message.doc_string]
            pending += message.external_data
        else:
            strings = []
            for field, value in message.ListFields():
                if field.message_type is not None:
                    pending += value if field.is_repeated else [value]
                elif field.type == field.TYPE_STRING:
                    strings += value if field.is_repeated else [value]
        for text in strings:
            if isinstance(text, bytes):
                raise BadInputError(
                    f"{name} has a name that is no text: {text!r}",
                    f"in a {type(message).__name__}; names in ONNX are UTF-8",
                    "the file is damaged: copy or export it again",
                    code="E902",
                )
