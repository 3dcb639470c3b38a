"""Where to draw each operator: levels from left to right, wrapped into rows like text."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rllib_mec.dnn.graph import OperatorGraph

LEVELS_PER_ROW = 26
MAX_ROWS = 12


@dataclass(frozen=True)
class Layout:
    """Positions of a graph's nodes.

    Attributes:
        x: For each node, its level within its row, from 0.
        y: For each node, its height above its row's middle.
        row: For each node, its row, from the top.
        row_middle: For each row, the height of its middle; lower rows have lower ones.
        columns: Levels in a row.
    """

    x: tuple[int, ...]
    y: tuple[float, ...]
    row: tuple[int, ...]
    row_middle: tuple[float, ...]
    columns: int

    def position(self, node: int) -> tuple[float, float]:
        """A node's place in the drawing.

        Args:
            node: Its index in the graph's ``nodes``.
        """
        return self.x[node], self.row_middle[self.row[node]] + self.y[node]


def lay_out(graph: OperatorGraph) -> Layout:
    """Give each node the level after its last parent, and within it a lane near its parents.

    Args:
        graph: The DNN.
    """
    level = [0] * len(graph.nodes)
    members: dict[int, list[int]] = {}
    for i, parents in enumerate(graph.parent_ids):
        level[i] = max((level[p] + 1 for p in parents), default=0)
        members.setdefault(level[i], []).append(i)
    y = [0.0] * len(graph.nodes)
    for _, nodes in sorted(members.items()):
        # Follow parents of one child closely; a parent of many says little about the lane.
        wanted = {
            i: sum(y[p] for p in graph.parent_ids[i]) / max(1, len(graph.parent_ids[i]))
            for i in nodes
        }
        nodes.sort(key=lambda i: (wanted[i], -i))
        middle = sum(wanted.values()) / len(nodes)
        for lane, i in enumerate(nodes):
            y[i] = 0.8 * middle + lane - (len(nodes) - 1) / 2
    levels = len(members)
    columns = max(min(levels, LEVELS_PER_ROW), math.ceil(levels / MAX_ROWS))
    row = tuple(depth // columns for depth in level)
    middles: list[float] = []
    floor = 0.0
    for r in range(max(row) + 1):
        heights = [y[i] for i in range(len(y)) if row[i] == r]
        middles.append(floor - max(heights) - 1.1)
        floor = middles[-1] + min(heights) - 1.1
    return Layout(
        x=tuple(depth % columns for depth in level),
        y=tuple(y),
        row=row,
        row_middle=tuple(middles),
        columns=columns,
    )
