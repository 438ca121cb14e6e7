"""Weights and embedding tables as one list: what may become integers, in which formats, and how it is rounded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec.quantize.weights import embeddings, targets
from edgec.quantize.weights.edit import Editor
from edgec.quantize.weights.groups import Format, Grouped, quantize
from edgec.quantize.weights.scales import best

# Groups along the input axis, by the bits. Eight bits gain little from smaller ones.
GROUPS = {4: 32, 8: 64}
# What a weight's nodes take in the file besides integers and scales, bytes: at most, and for each letter of its name.
OVERHEAD, PER_LETTER = 500, 16
# Elements that the error of a format is taken on.
SAMPLE = 1 << 18
# Rows shorter than this make groups of four bits of nothing (depthwise convolutions).
SHORT = 32


@dataclass(frozen=True)
class Item:
    """A constant that may become integers.

    Attributes:
        what: the weight or the table.
    """

    what: targets.Target | embeddings.Table

    @property
    def name(self) -> str:
        """The constant's name."""
        return self.what.name

    @property
    def kind(self) -> str:
        """The operator that reads it."""
        return "Gather" if isinstance(self.what, embeddings.Table) else self.what.node.op_type

    @property
    def nbytes(self) -> int:
        """Bytes of the constant as it is."""
        rows, features = self.size
        return rows * features * (2 if self.what.value.dtype == ir.DataType.FLOAT16 else 4)

    @property
    def size(self) -> tuple[int, int]:
        """(rows, features)."""
        if isinstance(self.what, embeddings.Table):
            rows, features = self.what.array.shape
            return rows, features
        return self.what.size

    def matrix(self) -> np.ndarray:
        """float32 (rows, features)."""
        return self.what.array if isinstance(self.what, embeddings.Table) else self.what.matrix()

    def default(self, bits: int, group: int | None) -> Format:
        """The format for so many bits; convolutions and recurrences have eight, four harm them too much."""
        if isinstance(self.what, embeddings.Table):
            return embeddings.table_format(self.what, bits, None if bits == 8 else group)
        return self._format(bits if self.kind in ("Gemm", "MatMul") else 8, group)

    def _format(self, bits: int, group: int | None) -> Format:
        features = self.size[1]
        bits = 8 if features < SHORT else bits
        width = GROUPS[bits] if group is None else group
        return Format(bits, width if width < features else 0, symmetric=bits == 8)

    def choices(self, bits: int) -> list[Format]:
        """Formats that may be mixed where so many bits were asked for."""
        if isinstance(self.what, embeddings.Table):
            table = self.what
            made = [embeddings.table_format(table, b, None) for b in ((4, 5, 6, 8) if bits == 4 else (8,))]
            made.append(embeddings.table_format(table, 8, 64))
        else:
            made = [self._format(8, g) for g in (0, 128, 64, 32, 16)]
            made += [self._format(4, g) for g in (64, 32, 16)] if bits == 4 else []
        return list(dict.fromkeys(made))

    def bytes_in(self, format: Format) -> int:
        """Bytes of the file in a format, its nodes included; a little more than needed rather than less."""
        extra = OVERHEAD + PER_LETTER * len(self.name)
        if isinstance(self.what, embeddings.Table):
            return 2 * extra + embeddings.table_bytes(self.what, format)
        return extra + format.nbytes(*self.size)

    def rounded(self, format: Format) -> Grouped:
        """To nearest, with the scales of the least squared error."""
        if isinstance(self.what, embeddings.Table):
            return embeddings.round_table(self.what, format)
        matrix = self.what.matrix()
        return quantize(matrix, *best(matrix, format), format)

    def errors(self, formats: Collection[Format]) -> tuple[float, dict[Format, float]]:
        """The energy of evenly spaced rows, and the squared error of rounding them in each format."""
        matrix = self.matrix()
        sample = matrix[:: max(1, matrix.size // SAMPLE)]
        errors = {}
        for format in formats:
            parameters = best(sample, format, half_scales=self.kind == "Gather" and format.bits < 8)
            made = quantize(sample, *parameters, format).dequantized()
            errors[format] = float(np.square(made - sample, dtype=np.float64).sum())
        return float(np.square(sample, dtype=np.float64).sum()) or 1.0, errors

    def array(self, made: Grouped) -> np.ndarray:
        """What the integers stand for, in the constant's shape."""
        matrix = made.dequantized()
        return matrix if isinstance(self.what, embeddings.Table) else self.what.array(matrix)


def items(model: ir.Model, exclude: Collection[str]) -> tuple[list[Item], dict[str, str]]:
    """All that may become integers, tables first, and why others can't. The model is settled on the way."""
    targets.settle(Editor(model.graph))
    skipped: dict[str, str] = {}
    tables = embeddings.tables(model, exclude, lambda name, why: skipped.update({name: why}))
    found, others = targets.find(model, exclude, [t.value for t in tables])
    skipped |= {name: why for name, why in others.items() if name not in skipped}
    every: Sequence[targets.Target | embeddings.Table] = [*tables, *found]
    return [Item(what) for what in every], skipped
