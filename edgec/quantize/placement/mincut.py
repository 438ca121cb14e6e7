"""The cheapest two-way split of a graph's nodes: a minimum s-t cut, by Dinic's algorithm (Dinic 1970)."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from math import inf


class Network:
    """A directed network; nodes are any hashable values, parallel edges add up."""

    def __init__(self) -> None:
        self._index: dict[Hashable, int] = {}
        self._edges: list[list[int]] = []  # per node: indices into _to and _room; an edge and its reverse are i, i ^ 1
        self._to: list[int] = []
        self._room: list[float] = []

    def edge(self, start: Hashable, end: Hashable, capacity: float) -> None:
        """Add an edge that costs `capacity` ≥ 0 (may be infinite) when `start` is on the source's side, `end` is not.

        Raises:
            ValueError: the capacity is negative or not a number.
        """
        if not capacity >= 0:
            raise ValueError(f"capacity {capacity}")
        a, b = self._node(start), self._node(end)
        for node, to, room in ((a, b, capacity), (b, a, 0.0)):
            self._edges[node].append(len(self._to))
            self._to.append(to)
            self._room.append(room)

    def source_side(self, source: Hashable, sink: Hashable) -> set[Hashable]:
        """The nodes on the source's side of a minimum cut, the fewest where several cuts cost the same.

        Raises:
            ValueError: every cut is infinite.
        """
        s, t = self._node(source), self._node(sink)
        while True:
            level = self._levels(s)
            if level[t] < 0:
                break
            position = [0] * len(self._edges)
            while True:
                pushed = self._push(s, t, level, position)
                if pushed == inf:
                    raise ValueError("every cut is infinite")
                if not pushed:
                    break
        level = self._levels(s)
        return {name for name, i in self._index.items() if level[i] >= 0}

    def _node(self, name: Hashable) -> int:
        if name not in self._index:
            self._index[name] = len(self._edges)
            self._edges.append([])
        return self._index[name]

    def _levels(self, s: int) -> list[int]:
        level = [-1] * len(self._edges)
        level[s] = 0
        queue = deque([s])
        while queue:
            node = queue.popleft()
            for i in self._edges[node]:
                if self._room[i] > 1e-9 and level[self._to[i]] < 0:
                    level[self._to[i]] = level[node] + 1
                    queue.append(self._to[i])
        return level

    def _push(self, s: int, t: int, level: list[int], position: list[int]) -> float:
        """Push along one path of the level graph; returns how much, 0 without one. No recursion: models are deep."""
        path: list[int] = []
        node = s
        while node != t:
            edges = self._edges[node]
            while position[node] < len(edges):
                i = edges[position[node]]
                if self._room[i] > 1e-9 and level[self._to[i]] == level[node] + 1:
                    break
                position[node] += 1
            else:
                if not path:
                    return 0.0
                node = self._to[path.pop() ^ 1]
                position[node] += 1
                continue
            path.append(i)
            node = self._to[i]
        amount = min(self._room[i] for i in path)
        if amount != inf:
            for i in path:
                self._room[i] -= amount
                self._room[i ^ 1] += amount
        return amount
