"""The bidirectional graph linked list of Section III-B: operators that know parents and children.

Plain Python, no torch: graphs come from :func:`rllib_mec.dnn.trace`, or by hand from a list of
:class:`Operator`. Nodes are numbered in topological order, inputs first, and sets of nodes are
integers used as bit sets (bit ``i`` stands for node ``i``), which keeps set algebra on thousands of
operators cheap.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rllib_mec.errors import MecError, unknown

INPUT = "input"
"""The kind of a node that is an input of the DNN rather than an operator."""


@dataclass(frozen=True)
class Operator:
    """One operator: a heavy or joining operation with the small ones behind it folded in.

    Attributes:
        name: Unique name, e.g. ``"layer1.0.conv2"``.
        parents: Names of the operators and inputs whose output it reads.
        macs: Multiply-accumulate operations.
        elements: Elements of its output, which is what is sent if its consumer is elsewhere.
        kind: What it computes, e.g. ``"conv2d"``; ``"input"`` for an input of the DNN.
        raw_bits: Bits per element where the output is not a floating-point tensor (token ids,
            masks), which no codec may quantise; None for floating point. Of an output of several
            tensors, a tuple with one of these for each in ``shapes``.
        float_bits: Bits of a floating-point element while the DNN computes.
        shapes: The shapes of the tensors in its output, if known; nearly always one.
        weights: Names and bytes of the parameters and buffers that it reads; operators that share
            one have the same name for it.
        peak_bytes: Of the largest tensor that it makes on the way to its output, such as a
            convolution's before the pooling that is folded in; 0: its output.
        layer: The layer (block) it belongs to, for the ``layer`` granularity; None: itself.
        children: Names of the operators that read its output; filled in by the graph.
        latency_ms: Measured latency in ms, if a profile was applied.
    """

    name: str
    parents: tuple[str, ...] = ()
    macs: int = 0
    elements: int = 1
    kind: str = "operator"
    raw_bits: int | tuple[int | None, ...] | None = None
    float_bits: int = 32
    shapes: tuple[tuple[int, ...], ...] = ()
    weights: tuple[tuple[str, int], ...] = ()
    peak_bytes: int = 0
    layer: str | None = None
    children: tuple[str, ...] = ()
    latency_ms: float | None = None

    def bits(self, feature_bits: float) -> float:
        """Bits of the output when floating-point elements are coded in ``feature_bits`` each.

        Args:
            feature_bits: Bits of an element; tensors of other types keep their own.
        """
        return sum(count * (feature_bits if raw is None else raw) for count, raw in self.parts)

    @property
    def parts(self) -> tuple[tuple[int, int | None], ...]:
        """Of each tensor in the output, its elements and, unless it is floating point, their bits.

        Raises:
            MecError: ``shapes`` do not hold as many elements, or are not one for each raw_bits.
        """
        counts = [math.prod(shape) for shape in self.shapes] or [self.elements]
        raw = self.raw_bits if isinstance(self.raw_bits, tuple) else (self.raw_bits,) * len(counts)
        if sum(counts) != self.elements or len(raw) != len(counts):
            raise MecError(
                f"operator {self.name!r} has {self.elements} elements and raw_bits"
                f" {self.raw_bits!r}, which are not those of the shapes {self.shapes}"
            )
        return tuple(zip(counts, raw, strict=True))


class OperatorGraph:
    """A DNN as a directed acyclic graph of operators.

    Attributes:
        nodes: Inputs, then operators, in topological order; node ``i`` is bit ``i`` of a set.
        outputs: Names of the nodes whose output is (part of) the DNN's result.
        name: The DNN's name.
        program: The traced program behind the graph, for splitting and profiling; None by hand.
        cache: Partition points already searched for, by what they depend on.
    """

    def __init__(
        self,
        operators: Iterable[Operator],
        outputs: Iterable[str] | None = None,
        *,
        name: str = "dnn",
        program: Any = None,
    ) -> None:
        """Link the operators up, children as well as parents.

        Args:
            operators: Nodes in any order; those of kind ``"input"`` are the DNN's inputs.
            outputs: Names of the result nodes; default: every node that nobody reads.
            name: The DNN's name.
            program: Kept as an attribute.

        Raises:
            MecError: A name appears twice or is unknown, there is no input or no operator, a count
                is negative, or the graph has a cycle.
        """
        nodes = _in_topological_order(list(operators))
        children: dict[str, list[str]] = {node.name: [] for node in nodes}
        for node in nodes:
            for parent in node.parents:
                children[parent].append(node.name)
        self.nodes = tuple(
            dataclasses.replace(node, children=tuple(children[node.name])) for node in nodes
        )
        self.index = {node.name: i for i, node in enumerate(self.nodes)}
        self.name = name
        self.program = program
        self.cache: dict[Any, Any] = {}
        if outputs is None:
            outputs = [node.name for node in self.nodes if not node.children]
        self.outputs = tuple(dict.fromkeys(outputs))
        for output in self.outputs:
            if output not in self.index:
                raise unknown("output operator", output, self.index)
        if not self.operators:
            raise MecError(f"the graph {name!r} has no operator: nothing to partition")
        if not self.inputs:
            raise MecError(f"the graph {name!r} has no input: add an Operator of kind 'input'")

    @cached_property
    def inputs(self) -> tuple[Operator, ...]:
        """The DNN's inputs, which are always on the device."""
        return tuple(node for node in self.nodes if node.kind == INPUT)

    @cached_property
    def operators(self) -> tuple[Operator, ...]:
        """The operators proper, in topological order."""
        return tuple(node for node in self.nodes if node.kind != INPUT)

    @cached_property
    def total_macs(self) -> int:
        """MACs of the whole DNN."""
        return sum(node.macs for node in self.nodes)

    @cached_property
    def work_counts(self) -> tuple[int, ...]:
        """For each node, what its latency is in proportion to: its MACs.

        Of a DNN that has no MACs at all, every operator counts the same.
        """
        if self.total_macs:
            return tuple(node.macs for node in self.nodes)
        return tuple(int(node.kind != INPUT) for node in self.nodes)

    @cached_property
    def parent_ids(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the numbers of its parents."""
        return tuple(tuple(self.index[p] for p in node.parents) for node in self.nodes)

    @cached_property
    def child_ids(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the numbers of its children."""
        return tuple(tuple(self.index[c] for c in node.children) for node in self.nodes)

    @cached_property
    def input_set(self) -> int:
        """The inputs as a bit set: the smallest head."""
        return sum(1 << i for i, node in enumerate(self.nodes) if node.kind == INPUT)

    @cached_property
    def full_set(self) -> int:
        """All nodes as a bit set: the head of full local inference."""
        return (1 << len(self.nodes)) - 1

    @cached_property
    def output_set(self) -> int:
        """The result nodes as a bit set."""
        return sum(1 << self.index[name] for name in self.outputs)

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """For each node, the bit set of all nodes it depends on, without itself."""
        sets: list[int] = []
        for parents in self.parent_ids:
            above = 0
            for parent in parents:
                above |= sets[parent] | 1 << parent
            sets.append(above)
        return tuple(sets)

    @cached_property
    def descendants(self) -> tuple[int, ...]:
        """For each node, the bit set of all nodes that depend on it, without itself."""
        sets = [0] * len(self.nodes)
        for i in reversed(range(len(self.nodes))):
            for child in self.child_ids[i]:
                sets[i] |= sets[child] | 1 << child
        return tuple(sets)

    def crossing(self, head: int) -> tuple[int, ...]:
        """Nodes whose output must be sent when the nodes of ``head`` run on the device.

        A node crosses once, however many consumers it has in the tail, and a tensor that skips over
        the cut crosses too. Results finished in the head cross as well, since the tail hands the
        whole result over; full local inference sends nothing.

        Args:
            head: Bit set of an ancestor-closed set of nodes that contains every input.

        Returns:
            Node numbers in topological order.
        """
        if head == self.full_set:
            return ()
        inside = list(bits_of(head))
        members, results = set(inside), set(self.outputs)
        return tuple(
            i
            for i in inside
            if self.nodes[i].name in results or not members.issuperset(self.child_ids[i])
        )

    def closure(self, names: Iterable[str]) -> int:
        """The smallest head that contains the named nodes.

        Args:
            names: Of operators or inputs.

        Raises:
            MecError: A name is not in the graph.
        """
        head = self.input_set
        for name in names:
            if name not in self.index:
                raise unknown("operator", name, self.index)
            node = self.index[name]
            head |= self.ancestors[node] | 1 << node
        return head

    def with_latencies(self, latency_ms: Sequence[float]) -> OperatorGraph:
        """The same graph with one measured latency in ms for each operator, in their order.

        Args:
            latency_ms: In the order of ``operators``.

        Raises:
            MecError: There are not as many as operators.
        """
        if len(latency_ms) != len(self.operators):
            raise MecError(
                f"{len(latency_ms)} latencies for {len(self.operators)} operators of {self.name!r}"
            )
        timed = [
            dataclasses.replace(operator, latency_ms=float(latency))
            for operator, latency in zip(self.operators, latency_ms, strict=True)
        ]
        return OperatorGraph(
            [*self.inputs, *timed], self.outputs, name=self.name, program=self.program
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the program, so that tables travel to env workers lightly."""
        return _unpickled, (self.nodes, self.outputs, self.name)

    def __len__(self) -> int:
        """Number of operators, inputs not counted."""
        return len(self.operators)

    def __getitem__(self, name: str) -> Operator:
        """The node of that name."""
        if name not in self.index:
            raise unknown("operator", name, self.index)
        return self.nodes[self.index[name]]

    def __repr__(self) -> str:
        """Name, size and MACs."""
        mmacs = self.total_macs / 1e6
        return f"OperatorGraph({self.name!r}, {len(self)} operators, {mmacs:.1f} MMACs)"


def bits_of(nodes: int) -> Iterator[int]:
    """The members of a bit set, smallest first.

    Args:
        nodes: The bit set, bit i for member i.
    """
    if nodes.bit_count() > 16:  # word by word, as each step below takes time with the whole set
        words = nodes.to_bytes((nodes.bit_length() + 63) // 64 * 8, "little")
        for at, (word,) in enumerate(struct.iter_unpack("<Q", words)):
            while word:
                lowest = word & -word
                yield 64 * at + lowest.bit_length() - 1
                word ^= lowest
        return
    while nodes:
        lowest = nodes & -nodes
        yield lowest.bit_length() - 1
        nodes ^= lowest


def _unpickled(nodes: tuple[Operator, ...], outputs: tuple[str, ...], name: str) -> OperatorGraph:
    return OperatorGraph(nodes, outputs, name=name)


def _in_topological_order(operators: list[Operator]) -> list[Operator]:
    """Inputs first, then every operator after its parents, else in the order given (Kahn)."""
    position = {operator.name: i for i, operator in enumerate(operators)}
    if len(position) < len(operators):
        seen: set[str] = set()
        twice = next(o.name for o in operators if o.name in seen or seen.add(o.name))
        raise MecError(f"two operators are named {twice!r}: names must be unique")
    readers: list[list[int]] = [[] for _ in operators]
    waiting_for = [0] * len(operators)
    for i, operator in enumerate(operators):
        if operator.macs < 0 or operator.elements < 0:
            raise MecError(f"operator {operator.name!r} has negative MACs or elements")
        _ = operator.parts
        if operator.kind == INPUT and operator.parents:
            raise MecError(f"the input {operator.name!r} has parents: inputs depend on nothing")
        for parent in operator.parents:
            if parent not in position:
                raise unknown(f"parent of operator {operator.name!r}:", parent, position)
            readers[position[parent]].append(i)
            waiting_for[i] += 1

    def rank(i: int) -> tuple[bool, int]:
        return operators[i].kind != INPUT, i

    ready = [rank(i) for i, count in enumerate(waiting_for) if count == 0]
    heapq.heapify(ready)
    order: list[Operator] = []
    while ready:
        _, i = heapq.heappop(ready)
        order.append(operators[i])
        for reader in readers[i]:
            waiting_for[reader] -= 1
            if waiting_for[reader] == 0:
                heapq.heappush(ready, rank(reader))
    if len(order) < len(operators):
        stuck = [operators[i].name for i, count in enumerate(waiting_for) if count > 0]
        raise MecError(
            f"the graph has a cycle through or before {', '.join(map(repr, stuck[:5]))}:"
            " a DNN's operators must form an acyclic graph"
        )
    return order
