"""The hand schedule of one kernel: where loops are split, what is vectorised, unrolled, fused and spread to threads.

A convolution or matrix product (`Nest`) becomes, for a tile of rows × columns × channels:

    for each tile, in parallel:
        sums[rows, columns, channels] = 0                     in registers
        for kernel row, kernel column, input channel:
            for rows, columns (unrolled), channels (vectorised):  sums += input * weight
        output = what is fused behind (bias, residual, activation)(sums)

Everything before it (padding) is a pass of its own over the input where it does something, else inlined.
Other kernels have their last axis vectorised.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from edgec_targets.emitters.tvm.tiles import Nest, Tile, Vectors

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d", "group_conv2d")
_PRODUCTS = ("matmul",)
_UNROLL_TAPS = 5


def nest(function: Any) -> Nest | None:
    """What the tile of a kernel depends on; None where it is no convolution or matrix product."""
    found = _Kernel(function)
    return found.nest() if found.main is not None else None


def schedule(function: Any, tile: Tile | None, vectors: Vectors, *, parallel: bool) -> Any:
    """The scheduled function; `tile` for those that have a nest. Deterministic."""
    kernel = _Kernel(function)
    if kernel.main is not None and tile is not None:
        kernel.tiled(tile, vectors, parallel=parallel)
    else:
        kernel.plain(vectors, parallel=parallel)
    made = kernel.s.mod["main"]
    name = function.attrs["global_symbol"] if function.attrs and "global_symbol" in function.attrs else None
    return made.with_attr("global_symbol", name) if name else made


class _Kernel:
    """A schedule under way."""

    def __init__(self, function: Any) -> None:
        self.s = tvm.s_tir.Schedule(tvm.IRModule({"main": function}))
        self.blocks = list(self.s.get_child_blocks(self.s.get_sblock("root")))
        self.main: Any = None
        self.before: list[Any] = []
        self.after: list[Any] = []
        for place, block in enumerate(self.blocks):
            name = self.s.get(block).name_hint
            if name.startswith((*_CONVOLUTIONS, *_PRODUCTS)) and len(self._axes(block)[1]):
                self.main = block
                self.before, self.after = self.blocks[:place], self.blocks[place + 1 :]
                break
        if self.main is not None and not self._regular():
            self.main = None

    def _axes(self, block: Any) -> tuple[list[Any], list[Any]]:
        """Loops over outputs, loops of the sum."""
        loops = self.s.get_loops(block)
        kinds = [v.iter_type for v in self.s.get(block).iter_vars]
        if len(loops) != len(kinds):
            return [], []
        spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 0]
        return spatial, [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 2]

    def _extent(self, loop: Any) -> int:
        return int(self.s.get(loop).extent)

    def _regular(self) -> bool:
        spatial, sums = self._axes(self.main)
        name = self.s.get(self.main).name_hint
        if name.startswith(_CONVOLUTIONS):
            return len(spatial) == 4 and len(sums) == 3
        return len(spatial) >= 2 and len(sums) == 1

    def nest(self) -> Nest:
        spatial, sums = self._axes(self.main)
        rows, columns, channels = ([1, *(self._extent(loop) for loop in spatial)])[-3:]
        if not self.s.get(self.main).name_hint.startswith(_CONVOLUTIONS):
            rows = 1
        taps = 1
        for loop in sums[:-1]:
            taps *= self._extent(loop)
        depthwise = len(sums) == 3 and self._extent(sums[-1]) == 1 and self._reads_by_channel()
        return Nest(rows, columns, channels, taps, self._extent(sums[-1]), depthwise, self._stride())

    def _reads_by_channel(self) -> bool:
        """Whether the input's channel depends on the output's."""
        block = self.s.get(self.main)
        channel = block.iter_vars[3].var
        region = block.reads[0].region
        return _factor(region[len(region) - 1].min, channel) != 0

    def _stride(self) -> int:
        block = self.s.get(self.main)
        if len(block.iter_vars) != 7:
            return 1
        column = block.iter_vars[2].var
        index = block.reads[0].region[2].min
        return abs(_factor(index, column)) or 1

    def tiled(self, tile: Tile, vectors: Vectors, *, parallel: bool) -> None:
        s, main = self.s, self.main
        for block in self.before:
            self._prepare(block, vectors)
        for block in self.after[:-1]:
            s.compute_inline(block)
        spatial, sums = self._axes(main)
        *outer, columns, channels = spatial
        rows = None
        if s.get(main).name_hint.startswith(_CONVOLUTIONS):
            rows = outer.pop()
        inner = []
        tiles_of = list(outer)
        if rows is not None:
            outside, inside = s.split(rows, [None, tile.rows])
            tiles_of.append(outside)
            inner.append(inside)
        outside, inside = s.split(columns, [None, tile.columns])
        tiles_of.append(outside)
        inner.append(inside)
        width = vectors.width(tile.channels)
        outside, group, vector = s.split(channels, [None, tile.channels // width, width])
        tiles_of.append(outside)
        inner.append(group)
        steps = None
        *taps, last_sum = sums
        order = [*taps]
        if tile.steps > 1:
            last_sum, steps = s.split(last_sum, [None, tile.steps])
            order += [last_sum, steps]
        else:
            order.append(last_sum)
        s.reorder(*tiles_of, *order, *inner, vector)
        if parallel:
            tiles_of = [s.fuse(*tiles_of[:-1]), tiles_of[-1]]
        if steps is not None:
            lanes = s.cache_read(main, 0, "local")
            s.compute_at(lanes, last_sum)
            self._in_registers(lanes, len(s.get_loops(main)) - len(inner) - 2, tile.steps)
        if self.after:
            last = self.after[-1]
            s.reverse_compute_at(last, tiles_of[-1])
            s.set_scope(main, 0, "local")
        else:
            last = s.cache_write(main, 0, "local")
            s.reverse_compute_at(last, tiles_of[-1])
        self._in_registers(last, len(tiles_of), width)
        s.vectorize(vector)
        for loop in inner:
            s.unroll(loop)
        if steps is not None:
            s.unroll(steps)
        elif taps and self._extent(taps[-1]) <= _UNROLL_TAPS and self._extent(last_sum) == 1:
            for loop in (*taps, last_sum):
                s.unroll(loop)
        if parallel:  # before the reduction is split in two, after which TVM can't tell that tiles are independent
            s.parallel(tiles_of[0])
        first = sums[0]
        init = s.decompose_reduction(main, first if taps else last_sum)
        self._in_registers(init, len(tiles_of), width)

    def _in_registers(self, block: Any, skip: int, width: int) -> None:
        """Vectorise a block's last loop, `width` at a time, and unroll the others but for the first `skip`."""
        loops = list(self.s.get_loops(block)[skip:])
        if not loops:
            return
        last = loops.pop()
        if self._extent(last) > width:
            more, last = self.s.split(last, [None, width])
            loops.append(more)
        self.s.vectorize(last)
        for loop in loops:
            self.s.unroll(loop)

    def _prepare(self, block: Any, vectors: Vectors) -> None:
        """A block before the main one: inlined where it only copies; else its last axis vectorised."""
        s = self.s
        if _copies(s.get(block).body):
            s.compute_inline(block)
            return
        self._vectorised(block, vectors)

    def plain(self, vectors: Vectors, *, parallel: bool) -> None:
        for block in self.blocks:
            spatial, sums = self._axes(block)
            if sums and spatial and self._extent(spatial[-1]) > 1:
                self._summed(block, spatial, sums, vectors)

    def _summed(self, block: Any, spatial: list[Any], sums: list[Any], vectors: Vectors) -> None:
        """A reduction (pooling, mean over an image): the last output axis goes inside, where it is vectorised."""
        if not self._contiguous(block):
            return
        s = self.s
        extent = self._extent(spatial[-1])
        width = vectors.width(extent)
        if width < 2:
            return
        outside, vector = s.split(spatial[-1], [None, width])
        s.reorder(*spatial[:-1], outside, *sums, vector)
        s.vectorize(vector)
        init = s.decompose_reduction(block, sums[0])
        s.vectorize(s.get_loops(init)[-1])

    def _contiguous(self, block: Any) -> bool:
        """Whether the last output axis is the last axis of everything that the block reads."""
        node = self.s.get(block)
        axes = [v.var for v in node.iter_vars if v.iter_type == 0]
        for region in (*node.reads, *node.writes):
            index = region.region[len(region.region) - 1].min
            if not index.same_as(axes[-1]):
                return False
        return True

    def _vectorised(self, block: Any, vectors: Vectors) -> None:
        s = self.s
        loop = s.get_loops(block)[-1]
        extent = self._extent(loop)
        width = vectors.width(extent)
        if width > 1:
            s.vectorize(s.split(loop, [None, width])[1])


def _copies(body: Any) -> bool:
    """Whether a block only copies one value."""
    return isinstance(body, tirx.BufferStore) and isinstance(body.value, tvm.ir.TensorLoad)


def _factor(index: Any, variable: Any) -> int:
    """What a variable is multiplied by in a linear index; 0 where it is not in it."""
    if isinstance(index, tirx.Var):
        return int(index.same_as(variable))
    if isinstance(index, tirx.Add):
        return _factor(index.a, variable) + _factor(index.b, variable)
    if isinstance(index, tirx.Sub):
        return _factor(index.a, variable) - _factor(index.b, variable)
    if isinstance(index, tirx.Mul) and isinstance(index.b, tirx.IntImm):
        return _factor(index.a, variable) * int(index.b)
    if isinstance(index, tirx.FloorDiv):  # a grouped convolution's input channel
        return _factor(index.a, variable)
    return 0
