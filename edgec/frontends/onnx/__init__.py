"""The ONNX front end: the order of its steps.

read → repair → structure (names, SSA, order, operators, tensors) → external data → shapes given by the user
→ onnx_ir → functions inlined → constants lifted → checker → opset conversion → shape inference → names → checker

Everything that Python can check is checked before ONNX's C++ sees the file: that code trusts sizes and recursion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from edgec.errors import BadInputError
from edgec.frontends.imported import Imported
from edgec.frontends.onnx import convert, external, functions, infer, names, ports, read, repair, structure, user_shapes


def load(
    source: str | Path | bytes | onnx.ModelProto, *, shapes: Mapping[str, Sequence[int | str]] | None = None
) -> Imported:
    """See `edgec.frontends.load`."""
    file = read.read(source)
    proto = file.proto
    opset, ir_version = read.default_opset(proto), proto.ir_version
    notes = repair.repair(proto)
    notes += structure.check(proto)
    ports.check(proto)
    data_files = external.check(proto, file.folder)
    sha256, size = read.digest(file, data_files)
    original = _original(file, shapes, bool(data_files))
    if shapes:
        user_shapes.apply(proto, shapes)

    with _naming("the model can't be read"):
        model = ir.from_proto(proto)
    with _naming("the model can't be brought into edgec's form"):
        model.graph.sort()  # stable: a sorted graph stays as it is
        model, more = functions.inline(model)
        notes += more
        if file.folder is not None:
            ir.external_data.set_base_dir(model.graph, file.folder)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        notes += names.lone_initializers(model)
    notes += names.complete(model)
    infer.check(model)
    if shapes:
        infer.forget_intermediate(model)
    notes += infer.correct_outputs(model)
    infer.infer(model)
    notes += convert.to_at_least(model, convert.WANTED)
    names.complete(model)  # nodes that the conversion made
    notes += infer.infer(model)
    infer.check(model)
    return Imported(model, "onnx", sha256, size, opset, ir_version, tuple(dict.fromkeys(notes)), original)


def _original(file: read.Source, shapes: Mapping[str, Sequence[int | str]] | None, has_external: bool) -> bytes | Path:
    """What `Imported.original` says. Made before onnx_ir takes the proto."""
    if file.path is not None and (has_external or not shapes):
        return file.path
    if not shapes and file.data is not None:
        return file.data
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    if shapes:
        user_shapes.apply(proto, shapes)
    return bytes(proto.SerializeToString(deterministic=True))


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Turns what onnx_ir or onnx raise on a model they can't take into one BadInputError that keeps their words."""
    try:
        yield
    except BadInputError:
        raise
    except Exception as error:
        raise infer.bad(what, error) from error
