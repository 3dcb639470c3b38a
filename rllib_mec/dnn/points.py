"""Partition points: where a DNN may be cut, at operator, layer or single-tensor granularity.

A partition point is a set of operators that blocks all forward flow (Section III-B). Its head, the
operators that run on the device, is closed under ancestors; head and blocking set determine each
other, so a point is stored as its head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rllib_mec.dnn.graph import OperatorGraph, bits_of
from rllib_mec.dnn.walk import walk
from rllib_mec.errors import MecError

MAX_POINTS = 200_000
"""Enumeration stops here: beyond it only the Pareto front is of use."""


class TooMany(MecError):
    """A graph has more cuts than can be listed."""


@dataclass(frozen=True)
class PartitionPoint:
    """One cut of a graph.

    Attributes:
        graph: The graph it cuts.
        head: Bit set of the nodes that run on the device, inputs included.
    """

    graph: OperatorGraph
    head: int

    @cached_property
    def operators(self) -> tuple[str, ...]:
        """The operators (or inputs) whose output is sent, each once; ``()`` for full local."""
        return tuple(self.graph.nodes[i].name for i in self.graph.crossing(self.head))

    @property
    def head_operators(self) -> tuple[str, ...]:
        """Names of the operators that run on the device, inputs not counted."""
        inside = self.head & ~self.graph.input_set
        return tuple(self.graph.nodes[i].name for i in bits_of(inside))

    @property
    def tail_operators(self) -> tuple[str, ...]:
        """Names of the operators that run on the server."""
        outside = self.graph.full_set & ~self.head
        return tuple(self.graph.nodes[i].name for i in bits_of(outside))

    @property
    def is_full_local(self) -> bool:
        """Whether everything runs on the device."""
        return self.head == self.graph.full_set

    @property
    def is_input(self) -> bool:
        """Whether nothing runs on the device: the input is sent."""
        return self.head == self.graph.input_set

    @property
    def elements(self) -> int:
        """Elements sent."""
        return sum(self.graph[name].elements for name in self.operators)

    @property
    def macs(self) -> int:
        """MACs done on the device."""
        return sum(self.graph.nodes[i].macs for i in bits_of(self.head))

    def bits(self, feature_bits: float) -> float:
        """Bits sent when floating-point elements are coded in ``feature_bits`` each.

        Args:
            feature_bits: Bits of an element; tensors of other types keep their own.
        """
        return sum(self.graph[name].bits(feature_bits) for name in self.operators)

    def __repr__(self) -> str:
        """What crosses."""
        crossing = ", ".join(self.operators) or "full local"
        return f"PartitionPoint({self.graph.name!r}: {crossing})"


def operator_points(graph: OperatorGraph, limit: int = MAX_POINTS) -> list[PartitionPoint]:
    """Every cut between operators: all ancestor-closed heads (Algorithm 1, skips counted).

    Args:
        graph: The DNN.
        limit: Most points to return.

    Returns:
        The points in no particular order, each once.

    Raises:
        TooMany: There are more than ``limit``.
    """
    members = [1 << i for i in range(len(graph.nodes))]
    heads = _heads(graph.input_set, members, graph.parent_ids, graph.child_ids)
    return [PartitionPoint(graph, head) for head in _limited(heads, limit, graph)]


def _heads(
    start: int,
    members: Sequence[int],
    parents: Sequence[Sequence[int]],
    children: Sequence[Sequence[int]],
) -> Iterator[int]:
    """All ancestor-closed unions of some units, each once: built up in topological order.

    Args:
        start: Bit set of the nodes that are in all.
        members: Of each unit, the bit set of its nodes.
        parents: Of each unit, those it depends on.
        children: Of each unit, those that depend on it.
    """
    needs = [0] * len(members)
    for unit, above in enumerate(parents):
        for parent in above:
            needs[unit] |= members[parent]
    first = [u for u, need in enumerate(needs) if need & ~start == 0 and members[u] & ~start]
    stack = [(start, first)]
    while stack:
        head, ready = stack.pop()
        yield head
        for position, unit in enumerate(ready):
            grown = head | members[unit]
            freed = [child for child in set(children[unit]) if needs[child] & ~grown == 0]
            stack.append((grown, [*ready[position + 1 :], *freed]))


def algorithm_1(graph: OperatorGraph, limit: int = MAX_POINTS) -> list[PartitionPoint]:
    """Algorithm 1 as the paper prints it: every maximal set of mutually parallel operators.

    From each operator the search removes all operators before and after it; what remains lies on
    parallel branches, of which it takes one operator each (the Cartesian product of line 11),
    again removing what is before and after every one taken. The printed algorithm would send the
    outputs of these operators only; here a tensor that skips over them is sent too. Cuts that leave
    a parallel branch untouched are not in this set, only in :func:`operator_points`.

    Args:
        graph: The DNN.
        limit: Most points to return.

    Returns:
        The points in no particular order, each once, with the input as the first.

    Raises:
        TooMany: There are more than ``limit``.
    """
    related = [graph.ancestors[i] | graph.descendants[i] | 1 << i for i in range(len(graph.nodes))]

    def antichains() -> Iterator[int]:
        yield graph.input_set
        seen: set[int] = set()
        for node in bits_of(graph.full_set & ~graph.input_set):
            stack = [(1 << node, graph.full_set & ~graph.input_set & ~related[node])]
            while stack:
                chosen, parallel = stack.pop()
                if chosen in seen:
                    continue
                seen.add(chosen)
                if parallel == 0:
                    head = graph.input_set | chosen
                    for i in bits_of(chosen):
                        head |= graph.ancestors[i]
                    yield head
                    continue
                pivot = (parallel & -parallel).bit_length() - 1
                for i in bits_of(parallel & related[pivot]):
                    stack.append((chosen | 1 << i, parallel & ~related[i]))

    return [PartitionPoint(graph, head) for head in _limited(antichains(), limit, graph)]


def vertical_points(graph: OperatorGraph) -> list[PartitionPoint]:
    """Cuts that a single tensor crosses (Neurosurgeon), with the input and full local.

    Args:
        graph: The DNN.
    """
    up_to = [graph.ancestors[i] | 1 << i | graph.input_set for i in range(len(graph.nodes))]
    single = [up_to[at] for at, _, _, crossing in walk(graph, up_to) if {at} == set(crossing)]
    heads = dict.fromkeys([graph.input_set, graph.full_set, *single])
    return [PartitionPoint(graph, head) for head in heads]


def layer_points(graph: OperatorGraph, limit: int = MAX_POINTS) -> list[PartitionPoint]:
    """Cuts between whole layers (ResNet's bottlenecks, GoogLeNet's Inception modules, ...).

    Layers that depend on each other both ways count as one.

    Args:
        graph: The DNN.
        limit: Most points to return.

    Raises:
        TooMany: There are more than ``limit``.
    """
    import networkx as nx  # not at the top: env workers need no layers and start faster

    layer_of = [node.layer or node.name for node in graph.nodes]
    quotient = nx.DiGraph()
    quotient.add_nodes_from(layer_of)
    quotient.add_edges_from(
        (layer_of[p], layer_of[i]) for i, ids in enumerate(graph.parent_ids) for p in ids
    )
    merged = nx.condensation(quotient)
    members = [0] * len(merged)
    for i, layer in enumerate(layer_of):
        members[merged.graph["mapping"][layer]] |= 1 << i
    parents = [tuple(merged.predecessors(layer)) for layer in range(len(members))]
    children = [tuple(merged.successors(layer)) for layer in range(len(members))]
    heads = _heads(graph.input_set, members, parents, children)
    return [PartitionPoint(graph, head) for head in _limited(heads, limit, graph)]


def _limited(heads: Iterator[int], limit: int, graph: OperatorGraph) -> Iterator[int]:
    for count, head in enumerate(heads):
        if count >= limit:
            raise TooMany(
                f"{graph.name!r} has more than {limit} partition points: use method 'pareto'"
            )
        yield head
