"""Partition points: where a DNN may be cut, at operator, layer or single-tensor granularity.

A partition point is a set of operators that blocks all forward flow (Section III-B). Its head, the
operators that run on the device, is closed under ancestors; head and blocking set determine each
other, so a point is stored as its head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from rllib_mec.dnn.graph import OperatorGraph, bits_of
from rllib_mec.errors import MecError

MAX_POINTS = 200_000
"""Enumeration stops here: beyond it only the Pareto front is of use."""


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
        MecError: There are more than ``limit``.
    """
    return [PartitionPoint(graph, head) for head in _limited(_heads(graph), limit, graph)]


def _heads(graph: OperatorGraph) -> Iterator[int]:
    """All ancestor-closed sets, each once: built up in topological order."""
    parents = [sum(1 << p for p in ids) for ids in graph.parent_ids]
    first = [
        i
        for i, needed in enumerate(parents)
        if needed & ~graph.input_set == 0 and not graph.input_set >> i & 1
    ]
    stack = [(graph.input_set, first)]
    while stack:
        head, ready = stack.pop()
        yield head
        for position, node in enumerate(ready):
            grown = head | 1 << node
            freed = [c for c in set(graph.child_ids[node]) if parents[c] & ~grown == 0]
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
        MecError: There are more than ``limit``.
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
    heads = {graph.input_set, graph.full_set}
    for i in range(len(graph.nodes)):
        head = graph.ancestors[i] | 1 << i | graph.input_set
        if graph.crossing(head) == (i,):
            heads.add(head)
    return [PartitionPoint(graph, head) for head in heads]


def layer_points(graph: OperatorGraph, limit: int = MAX_POINTS) -> list[PartitionPoint]:
    """Cuts between whole layers (ResNet's bottlenecks, GoogLeNet's Inception modules, ...).

    Layers that depend on each other both ways count as one.

    Args:
        graph: The DNN.
        limit: Most points to return.

    Raises:
        MecError: There are more than ``limit``.
    """
    import networkx as nx  # not at the top: env workers need no layers and start faster

    layer_of = [node.layer or node.name for node in graph.nodes]
    quotient = nx.DiGraph()
    quotient.add_nodes_from(layer_of)
    quotient.add_edges_from(
        (layer_of[p], layer_of[i]) for i, ids in enumerate(graph.parent_ids) for p in ids
    )
    merged = nx.condensation(quotient)
    members: dict[int, int] = dict.fromkeys(merged, 0)
    for i, layer in enumerate(layer_of):
        members[merged.graph["mapping"][layer]] |= 1 << i

    def heads() -> Iterator[int]:
        seen = {graph.input_set}
        stack = [graph.input_set]
        while stack:
            head = stack.pop()
            yield head
            for layer in merged:
                inside = all(members[p] & ~head == 0 for p in merged.predecessors(layer))
                grown = head | members[layer]
                if inside and grown not in seen:
                    seen.add(grown)
                    stack.append(grown)

    return [PartitionPoint(graph, head) for head in _limited(heads(), limit, graph)]


def _limited(heads: Iterator[int], limit: int, graph: OperatorGraph) -> Iterator[int]:
    for count, head in enumerate(heads):
        if count >= limit:
            raise MecError(
                f"{graph.name!r} has more than {limit} partition points: use method 'pareto'"
            )
        yield head
