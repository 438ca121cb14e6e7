"""Inputs and outputs that no tensor program can take or give: maps, as scikit-learn's converters make them."""

from __future__ import annotations

import onnx

from edgec.errors import BadInputError


def check(proto: onnx.ModelProto) -> None:
    """Raise BadInputError naming the first input or output that is a map, or holds maps.

    skl2onnx ends classifiers with ZipMap, which turns a matrix of probabilities into one dictionary a sample. onnx_ir
    has no type for it, and no device wants it.
    """
    for what, infos in (("input", proto.graph.input), ("output", proto.graph.output)):
        for info in infos:
            if _holds_map(info.type):
                raise BadInputError(
                    f"the {what} {info.name!r} is a map",
                    "edgec runs tensors: a map has no shape, and only onnxruntime's Python makes something of it",
                    "export without it (skl2onnx: options={'zipmap': False})",
                    code="E908",
                )


def _holds_map(kind: onnx.TypeProto) -> bool:
    which = kind.WhichOneof("value")
    if which == "sequence_type":
        return _holds_map(kind.sequence_type.elem_type)
    if which == "optional_type":
        return _holds_map(kind.optional_type.elem_type)
    return bool(which == "map_type")
