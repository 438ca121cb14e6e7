"""External data: which files a model's weights lie in, and that they are there, whole, and inside its folder.

Only relative paths below the model's folder, no symbolic links (nor hard links: onnx_ir refuses to map them,
since both can bring a file from elsewhere into a model). The weights are not read: onnx_ir maps them when asked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from edgec.errors import BadInputError
from edgec.frontends.onnx import repair, tensors

KEEP_BYTES = 1024
"""Tensors up to this size are read at once: shapes and axes, whose values shape inference needs."""


def check(proto: onnx.ModelProto, folder: Path | None) -> list[Path]:
    """The external data files of the model, each once.

    Fills in offset and length where the model left them out; small tensors, and those of subgraphs and attributes,
    are read into the proto.

    Raises:
        BadInputError: naming the tensor and the file.
    """
    sizes: dict[Path, int] = {}
    for tensor, lazy in _tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        where = f"the external data of tensor {tensor.name!r}"
        info = {entry.key: entry.value for entry in tensor.external_data}
        location = info.get("location", "")
        if folder is None:
            raise BadInputError(
                f"{where} can't be found",
                "the model was given as bytes, which have no folder to look in",
                "give the path of the model",
                code="E905",
            )
        path = _inside(folder, location, where)
        if path not in sizes:
            sizes[path] = _size(path, folder, where)
        want = tensors.byte_length(tensor, f"tensor {tensor.name!r}")
        offset, length = _number(info, "offset", 0, where), _number(info, "length", want, where)
        if length != want:
            raise BadInputError(
                f"{where} says {length} bytes, but its shape {list(tensor.dims)} needs {want}",
                "",
                "the model file and its data file don't belong together",
                code="E905",
            )
        if offset + length > sizes[path]:
            raise BadInputError(
                f"{where} ends at byte {offset + length}, but {location} has {sizes[path]}",
                "the data file is cut short, or belongs to another model",
                "copy or download it again",
                code="E905",
            )
        if length <= KEEP_BYTES or not lazy:
            _embed(tensor, path, offset, length)
        elif "offset" not in info or "length" not in info:
            del tensor.external_data[:]
            for key, value in {**info, "offset": str(offset), "length": str(length)}.items():
                tensor.external_data.add(key=key, value=value)
    return sorted(sizes)


def _inside(folder: Path, location: str, where: str) -> Path:
    parts = PurePosixPath(location)
    windows = PureWindowsPath(location)
    if (
        not location
        or "\0" in location
        or parts.is_absolute()
        or windows.drive
        or windows.root
        or ".." in parts.parts
        or ".." in windows.parts
    ):
        raise BadInputError(
            f"{where} points outside the model's folder: {location!r}",
            "a model may only name files in its own folder",
            "put the data file beside the model and save the model again",
            code="E905",
        )
    return folder / parts


def _size(path: Path, folder: Path, where: str) -> int:
    """Bytes of the file; every step from the folder down must be a plain folder, the last a plain file."""
    step = folder
    try:
        for part in path.relative_to(folder).parts:
            step = step / part
            status = os.lstat(step)
            if stat.S_ISLNK(status.st_mode):
                raise BadInputError(
                    f"{where}: {step.relative_to(folder)} is a symbolic link",
                    "links can bring any file of this machine into a model",
                    "copy the real file there",
                    code="E905",
                )
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"{where} is missing: {path.relative_to(folder)}",
            f"{getattr(error, 'strerror', None) or error}",
            "copy the data file beside the model, under this very name",
            code="E905",
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise BadInputError(f"{where}: {path.relative_to(folder)} is not a file", "", "", code="E905")
    if status.st_nlink > 1:
        raise BadInputError(
            f"{where}: {path.relative_to(folder)} has {status.st_nlink} hard links",
            "links can bring any file of this machine into a model",
            "copy the file to a new one",
            code="E905",
        )
    return status.st_size


def _number(info: dict[str, str], key: str, otherwise: int, where: str) -> int:
    text = info.get(key)
    if text is None or text == "":
        return otherwise
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadInputError(f"{where} has the {key} {text!r}", "it must be a number", "", code="E905")
    return int(text)


def _embed(tensor: onnx.TensorProto, path: Path, offset: int, length: int) -> None:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(length)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = data


def _tensors(proto: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, bool]]:
    """All tensors, and whether onnx_ir maps them lazily: initializers of the main graph and its Constant nodes."""
    for i, graph in enumerate(repair.all_graphs(proto)):
        yield from ((tensor, i == 0) for tensor in graph.initializer)
        for sparse in graph.sparse_initializer:
            yield sparse.values, False
            yield sparse.indices, False
    for i, node in enumerate(repair.all_nodes(proto)):
        mapped = node.op_type == "Constant" and i < len(proto.graph.node)
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t, mapped
            yield from ((tensor, False) for tensor in attribute.tensors)
