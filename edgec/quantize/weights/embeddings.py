"""Embedding tables in integers, in standard operators that every runtime has (opset 13 on).

    Gather(table, ids)  ->  Mul(Cast(Gather(integers, ids)), Gather(scales, ids))

Only the rows that are asked for are ever made float, so the table stays small in memory too, not just in the file; with
`DequantizeLinear` before the Gather a runtime would make the whole table float.

1. Eight bits: int8, one scale a row (Zafrir et al. 2019, "Q8BERT", arXiv:1910.06188, has one a table).
2. Four, five or six bits: packed into bytes (see `rows`), one scale a group of a row.
3. A table that other nodes read too (a tied output layer, also through a Transpose) has eight bits, and those nodes a
   DequantizeLinear of the same integers.
4. Left alone: tables read inside If, Loop or Scan, tables of short rows (< 16: boxes, anchors), small ones, those with
   NaN or infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from edgec.errors import UsageError
from edgec.quantize import layers
from edgec.quantize.weights.edit import Editor, in_main_graph
from edgec.quantize.weights.groups import Format, Grouped, quantize
from edgec.quantize.weights.rows import PLANES, Rows
from edgec.quantize.weights.scales import best

# Smaller tables don't pay for the nodes that integers need.
SMALLEST = 8192
# Shorter rows are seldom embeddings, and their scales would weigh too much.
SHORTEST_ROW = 16
# Features that share a (float16) scale, by the bits of a table.
GROUPS = {4: 16, 5: 32, 6: 32}
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)

Log = Callable[[str, str], None]


@dataclass(frozen=True)
class Table:
    """An embedding table.

    Attributes:
        value: the constant.
        array: float32 (entries, features).
        gathers: the nodes that take rows of it.
        others: whether other nodes read it as well.
    """

    value: ir.Value
    array: np.ndarray
    gathers: tuple[ir.Node, ...]
    others: bool

    @property
    def name(self) -> str:
        """The constant's name."""
        return str(self.value.name)


@dataclass(frozen=True)
class EmbeddingsQuantized:
    """What became of the embedding tables.

    Attributes:
        model: with integer tables.
        formats: table's name → format.
        skipped: table's name → why it stays float.
        bytes_before: of the tables in `formats`.
        bytes_after: of their integers and scales.
    """

    model: ir.Model
    formats: dict[str, str]
    skipped: dict[str, str]
    bytes_before: int
    bytes_after: int


def quantize_embeddings(
    model: ir.Model, *, bits: Literal[8, 6, 5, 4] = 8, group: int | None = None, exclude: Collection[str] = ()
) -> EmbeddingsQuantized:
    """A copy whose embedding tables are integers; everything else is as it was. Deterministic, needs no data.

    Args:
        model: float32 or float16, opset ≥ 13; not changed.
        bits: 8, or fewer in groups.
        group: features that share a scale; None: the whole row (8 bits), `GROUPS` (fewer).
        exclude: tables (names of constants) or Gather nodes (names) that stay float.

    Raises:
        UsageError: another number of bits, or a group that is not positive.
    """
    if bits not in (8, *PLANES):
        raise UsageError(f"{bits} bits for embeddings", "tables have 4, 5, 6 or 8", "ask for one of these", code="E215")
    if group is not None and group < 1:
        raise UsageError(f"a group of {group} features", "a group has at least one", "leave it out", code="E215")
    copy = model.clone()
    LiftConstantsToInitializersPass()(copy)
    skipped: dict[str, str] = {}
    found = tables(copy, exclude, lambda name, why: skipped.update({name: why}))
    editor = Editor(copy.graph)
    formats: dict[str, str] = {}
    before = after = 0
    for table in found:
        format = table_format(table, bits, group)
        formats[table.name] = format.name()
        before += table.value.const_value.nbytes if table.value.const_value is not None else table.array.nbytes
        after += table_bytes(table, format)
        rewrite(editor, table, round_table(table, format))
    return EmbeddingsQuantized(copy, formats, skipped, before, after)


def tables(model: ir.Model, exclude: Collection[str] = (), skip: Log = lambda name, why: None) -> list[Table]:
    """The embedding tables of the main graph that can be integers, in graph order; `skip` hears why others can't."""
    gathers: dict[ir.Value, list[ir.Node]] = {}
    for node in model.graph:
        source = node.inputs[0] if node.inputs else None
        if source is None or not layers.is_onnx(node) or node.op_type != "Gather" or _axis(node, source) != 0:
            continue
        tensor = layers.constant_tensor(source)
        if tensor is not None and tensor.dtype in FLOATS and len(tensor.shape) == 2:
            gathers.setdefault(source, []).append(node)
    result = []
    for value, nodes in gathers.items():
        made = _table(model, value, nodes, exclude)
        if isinstance(made, Table):
            result.append(made)
        else:
            skip(str(value.name), made)
    return result


def table_format(table: Table, bits: int, group: int | None) -> Format:
    """The format that a table can have: fewer than eight bits need groups of whole bytes and no other reader."""
    features = table.array.shape[1]
    if bits < 8 and not table.others:
        step = 8 // min(PLANES[bits])
        wanted = min(group or GROUPS[bits], features)
        fitting = [g for g in range(step, wanted + 1, step) if features % g == 0]
        if fitting and fitting[-1] >= min(8, wanted):
            return Format(bits, fitting[-1])
    if bits == 8 and group and group < features and features % group == 0 and not table.others:
        return Format(8, group)
    return Format(8)


def table_bytes(table: Table, format: Format) -> int:
    """Bytes that the integers and scales take in the file."""
    return format.nbytes(*table.array.shape, scale_bytes=2 if format.bits < 8 else 4)


def round_table(table: Table, format: Format, importance: np.ndarray | None = None) -> Grouped:
    """The integers of a table. `importance` (features,): how much an error of each feature counts."""
    parameters = best(table.array, format, importance, half_scales=format.bits < 8)
    return quantize(table.array, *parameters, format)


def rewrite(editor: Editor, table: Table, made: Grouped) -> None:
    """Put the integers where the float table was."""
    rows = Rows(editor, table.name, made)
    for gather in table.gathers:
        editor.replace(gather, rows.nodes(gather))
    if table.others:
        _others(editor, table, rows.stored[0], made.scale)
    editor.drop(table.value)


def _others(editor: Editor, table: Table, integers: ir.Value, scale: np.ndarray) -> None:
    """A DequantizeLinear for the readers that are no Gather."""
    dtype = table.value.dtype
    axis = editor.constant(f"{table.name}_row_scale", scale[:, 0])
    node = editor.node("DequantizeLinear", [integers, axis], f"{table.name}_dequantized", {"axis": 0})
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), table.value.shape
    nodes = [node]
    if dtype == ir.DataType.FLOAT16:
        nodes.append(editor.node("Cast", [node.outputs[0]], f"{table.name}_half", {"to": int(dtype)}, kind=dtype))
    first = next(iter(editor.graph))
    editor.graph.insert_before(first, nodes)
    ir.convenience.replace_all_uses_with(table.value, nodes[-1].outputs[0])


def _table(model: ir.Model, value: ir.Value, gathers: list[ir.Node], exclude: Collection[str]) -> Table | str:
    """The table, or why it stays float."""
    tensor = layers.constant_tensor(value)
    assert tensor is not None
    rows, features = (int(d) for d in tensor.shape)  # type: ignore[arg-type]
    if str(value.name) in exclude or any(node.name in exclude or "Gather" in exclude for node in gathers):
        return "excluded"
    if rows * features < SMALLEST:
        return f"small ({rows} × {features})"
    if features < SHORTEST_ROW:
        return f"its rows are short ({features})"
    if value.is_graph_output() or not in_main_graph(model, value):
        return "an output of the graph, or read inside If, Loop or Scan"
    others = len({use.node for use in value.uses()} - set(gathers)) > 0
    if others and model.graph.opset_imports.get("", 0) < 13:
        return "other nodes read it, and opset < 13 has no DequantizeLinear by row"
    array = tensor.numpy().astype(np.float32)
    if not np.isfinite(array).all():
        return "it holds NaN or infinity"
    return Table(value, array, tuple(gathers), others)


def _axis(node: ir.Node, source: ir.Value) -> int:
    attribute = node.attributes.get("axis")
    axis = 0 if attribute is None else attribute.as_int()
    rank = source.shape.rank() if source.shape is not None else 0
    return axis + rank if axis < 0 else axis
