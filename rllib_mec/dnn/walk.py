"""Many heads of a graph, one after another, each told by how it differs from the one before.

What is summed over heads then takes time with the nodes that change, not with all of them: on a
chain of ``n`` operators, two sums a head rather than ``n``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from rllib_mec.dnn.graph import OperatorGraph, bits_of


class Stop(NamedTuple):
    """A head on the walk.

    Attributes:
        at: Its position among the heads given.
        joined: Nodes that the head before did not have.
        left: Nodes that only the head before had.
        crossing: Nodes whose output is sent, as :meth:`.OperatorGraph.crossing` has them, in no
            order.
    """

    at: int
    joined: Sequence[int]
    left: Sequence[int]
    crossing: Collection[int]


def walk(graph: OperatorGraph, heads: Sequence[int]) -> Iterator[Stop]:
    """Visit heads in an order in which neighbours have most nodes in common.

    Args:
        graph: The DNN.
        heads: Ancestor-closed bit sets of nodes.

    Yields:
        Each head once, from no nodes at all on; ``crossing`` is only valid until the next.
    """
    is_output = [node.name in set(graph.outputs) for node in graph.nodes]
    readers_outside = [len(ids) for ids in graph.child_ids]
    crossing: set[int] = set()
    before = 0
    for at in sorted(range(len(heads)), key=heads.__getitem__):
        head = heads[at]
        left = list(bits_of(before & ~head))
        joined = list(bits_of(head & ~before))
        for node in reversed(left):
            crossing.discard(node)
            for parent in graph.parent_ids[node]:
                readers_outside[parent] += 1
                crossing.add(parent)
        for node in joined:
            for parent in graph.parent_ids[node]:
                readers_outside[parent] -= 1
                if not readers_outside[parent] and not is_output[parent]:
                    crossing.discard(parent)
            if readers_outside[node] or is_output[node]:
                crossing.add(node)
        before = head
        yield Stop(at, joined, left, () if head == graph.full_set else crossing)


def exact(values: Sequence[float]) -> tuple[list[int], int]:
    """Numbers as whole multiples of one over a power of two, whose sums have no rounding.

    Args:
        values: Finite numbers.

    Returns:
        The multiples, and the power of two.
    """
    ratios = [value.as_integer_ratio() for value in values]
    unit = math.lcm(*(denominator for _, denominator in ratios))
    return [numerator * (unit // denominator) for numerator, denominator in ratios], unit
