"""Front ends: a trained model in, an `onnx_ir.Model` out, checked and with its shapes inferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.frontends.imported import Imported

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["Imported", "load", "save_bytes"]


def load(
    source: str | Path | bytes | onnx.ModelProto, *, shapes: Mapping[str, Sequence[int | str]] | None = None
) -> Imported:
    """Read a model of any format edgec knows (today: ONNX).

    Args:
        source: a path, the bytes of a model file, or an `onnx.ModelProto`. External data is only looked for
            beside a path: bytes and protos must have their weights inside.
        shapes: input name -> its whole shape; a number fixes a dimension, a string keeps it symbolic under that name.

    Raises:
        BadInputError: the model is broken, or `shapes` doesn't fit it; names the node or the value.
    """
    from edgec.frontends import onnx as onnx_format

    return onnx_format.load(source, shapes=shapes)


def save_bytes(model: ir.Model) -> bytes:
    """The model as ONNX, weights inside; the same model always gives the same bytes.

    Raises:
        BadInputError: it would be over 2 GB, more than one protobuf message can hold.
    """
    from edgec.frontends.onnx import save

    return save.save_bytes(model)
