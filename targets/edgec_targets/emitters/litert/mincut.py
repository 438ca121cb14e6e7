"""Maximum flow and minimum cut on a small directed graph (Dinic 1970)."""

from __future__ import annotations

from collections import deque

INFINITE = 1 << 60


class Cut:
    """Nodes are numbers; `source` and `sink` are there from the start. Capacities are integers."""

    source, sink = 0, 1

    def __init__(self) -> None:
        self._edges: list[list[int]] = [[], []]  # node -> numbers of its edges
        self._to: list[int] = []
        self._room: list[int] = []

    def node(self) -> int:
        """A new node."""
        self._edges.append([])
        return len(self._edges) - 1

    def edge(self, start: int, end: int, capacity: int) -> None:
        """Cutting `start` (source's side) from `end` (sink's side) costs `capacity`."""
        for a, b, room in ((start, end, capacity), (end, start, 0)):
            self._edges[a].append(len(self._to))
            self._to.append(b)
            self._room.append(room)

    def sink_side(self) -> set[int]:
        """The nodes on the sink's side of the smallest cut; of several such cuts, the one nearest the source."""
        while (level := self._levels())[self.sink] >= 0:
            position = [0] * len(self._edges)
            while self._push(level, position):
                pass
        return {n for n, depth in enumerate(self._levels()) if depth < 0}

    def _levels(self) -> list[int]:
        level = [-1] * len(self._edges)
        level[self.source] = 0
        queue = deque([self.source])
        while queue:
            node = queue.popleft()
            for e in self._edges[node]:
                if self._room[e] and level[self._to[e]] < 0:
                    level[self._to[e]] = level[node] + 1
                    queue.append(self._to[e])
        return level

    def _push(self, level: list[int], position: list[int]) -> int:
        """Send flow along one shortest path; no recursion: chains of a thousand operators are common."""
        path: list[int] = []
        node = self.source
        while node != self.sink:
            edges = self._edges[node]
            while position[node] < len(edges):
                e = edges[position[node]]
                if self._room[e] and level[self._to[e]] == level[node] + 1:
                    break
                position[node] += 1
            if position[node] < len(edges):
                path.append(edges[position[node]])
                node = self._to[path[-1]]
            elif path:
                node = self._to[path.pop() ^ 1]
                position[node] += 1
            else:
                return 0
        amount = min(self._room[e] for e in path)
        for e in path:
            self._room[e] -= amount
            self._room[e ^ 1] += amount
        return amount
