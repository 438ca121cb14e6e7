"""Values whose layouts belong together, and how each one's axes map to the region's: union-find with permutations."""

from __future__ import annotations

import onnx_ir as ir

from edgec_targets.emitters.litert.registry import Perm, identity
from edgec_targets.emitters.litert.values import shape


def compose(outer: Perm, inner: Perm) -> Perm:
    """k → outer[inner[k]]."""
    return tuple(outer[i] for i in inner)


def invert(perm: Perm) -> Perm:
    """The permutation that undoes `perm`."""
    result = [0] * len(perm)
    for k, axis in enumerate(perm):
        result[axis] = k
    return tuple(result)


class Regions:
    """Each value has a root and a map: axis a of the root's value is axis map[a] of the value's own."""

    def __init__(self) -> None:
        self._parents: dict[ir.Value, tuple[ir.Value, Perm]] = {}

    def _find(self, value: ir.Value) -> tuple[ir.Value, Perm]:
        parent = self._parents.get(value)
        if parent is None:
            return value, identity(len(shape(value)))
        root, above = self._find(parent[0])
        found = (root, compose(parent[1], above))
        self._parents[value] = found
        return found

    def unite(self, a: ir.Value, b: ir.Value, mapping: Perm) -> bool:
        """Say that axis k of `a` is axis mapping[k] of `b`. False, and nothing done, where that contradicts."""
        root_a, from_a = self._find(a)
        root_b, from_b = self._find(b)
        to_b = compose(mapping, from_a)  # axis of root_a → axis of b
        if root_a is root_b:
            return to_b == from_b
        self._parents[root_b] = (root_a, compose(invert(from_b), to_b))  # root_a's axis → b's → root_b's
        return True

    def root(self, value: ir.Value) -> ir.Value:
        """The value that stands for the region."""
        return self._find(value)[0]

    def label(self, value: ir.Value, perm: Perm) -> Perm:
        """A layout of `value`, told in the region's axes."""
        return compose(invert(self._find(value)[1]), perm)

    def local(self, value: ir.Value | None, label: Perm) -> Perm:
        """A layout of the region, told in `value`'s own axes."""
        assert value is not None
        return compose(self._find(value)[1], label)
