"""The exact Pareto front by one topological sweep, without enumerating the cuts.

Operators are decided one after another, device or server, in a topological order that finishes one
branch before it starts the next. Of what was decided only this matters for the rest:

- ``forced``: undecided operators that depend on one already given to the server, and
- ``unpaid``: device operators whose output has not crossed yet but still may.

Decisions that agree in both share a state, and of a state's labels (cost so far, head) only the
non-dominated survive. A tensor is paid the moment one of its readers is forced to the server,
once. Bits and work on the device only grow, so that a label already dominated by a finished cut is
dropped, and a state with all the rest forced is finished. Work left for the server is counted as
what the device took off it, which is the same up to a constant. On a chain there are two states, on
a series-parallel graph at most three per open fork, whatever its width.

A decision costs all labels of a state the same, so that it is noted once for the state, and added
to the labels when they are next compared with others (:class:`.labels.Group`).

Complexity: with ``n`` operators, at most ``w`` states and ``m`` labels a step, time
O(n·w·m·log m) set operations and memory O(w·m) labels. ``w`` grows with the width of what is open
at one time (like 3^width at worst), not with the depth: near-linear in ``n`` for DNNs.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from rllib_mec.dnn.graph import OperatorGraph, bits_of
from rllib_mec.dnn.labels import Cost, Group, Label, Staircase, merged, non_dominated
from rllib_mec.errors import MecError

State = tuple[int, int]
"""Bit sets: the unpaid device operators, and the undecided operators forced to the server."""

MIN_SLACK, MAX_SLACK = 2.0**-10, 1.0
"""Where near-dominance starts and ends when there are too many labels."""


class TooWide(MecError):
    """A graph has too many ways to be cut for its Pareto front."""


@dataclass(frozen=True)
class Criteria:
    """What a cut costs; every criterion is to be minimised.

    Attributes:
        bits: For each node, the bits of its output.
        device: For each criterion of work on the device, the nodes' weights (not negative).
        server: For each criterion of work left for the server, the nodes' weights.
    """

    bits: Sequence[float]
    device: tuple[Sequence[float], ...]
    server: tuple[Sequence[float], ...] = ()

    def of(self, graph: OperatorGraph, head: int) -> Cost:
        """The costs of a cut: bits, then device criteria, then server criteria.

        Args:
            graph: The DNN.
            head: Bit set of the nodes that run on the device.
        """
        inside = list(bits_of(head))
        outside = list(bits_of(graph.full_set & ~head))
        return (
            sum(self.bits[i] for i in graph.crossing(head)),
            *(sum(weights[i] for i in inside) for weights in self.device),
            *(sum(weights[i] for i in outside) for weights in self.server),
        )


class _Finished:
    """Finished cuts, and whether they dominate a label."""

    def __init__(self, labels: list[Label], totals: list[float]) -> None:
        self.labels: list[Label] = []
        self._totals = totals
        self._cells = 0  # of a grid, once labels were merged
        self._stairs = Staircase() if len(totals) == 1 else None
        self.prunes = self._stairs is not None
        self.add(labels)

    def add(self, labels: list[Label]) -> None:
        for label in labels:
            if self._stairs is None or self._stairs.add(*label[0]):
                self.labels.append(label)

    def thin(self, room: int) -> None:
        """Keep the non-dominated, or if they are more than ``room`` no more than those."""
        self.labels = non_dominated(self.labels)
        if len(self.labels) > room:
            lows = [0] * len(self._totals)
            cells = self._cells or 2 ** (room.bit_length() + 1)
            self.labels, self._cells = merged(self.labels, room, lows, self._totals, cells)

    @property
    def error(self) -> float:
        """By merging."""
        return 1 / self._cells if self._cells else 0.0

    def without_covered(self, labels: list[Label], slack: float) -> list[Label]:
        """The labels no finished cut dominates, were it better by a share of ``slack``.

        With more than two criteria an unfinished label is next to never dominated: all pass.
        """
        if self._stairs is None:
            return labels
        grace = slack * self._totals[0]
        covers = self._stairs.covers
        return [
            label for label in labels if not covers(label[0][0] * (1 + slack), label[0][1] + grace)
        ]


def sweep(graph: OperatorGraph, criteria: Criteria, max_labels: int) -> tuple[list[Label], float]:
    """The Pareto front of all cuts of a graph, exact if it fits into ``max_labels``.

    When there are more labels than that at one time, labels that a finished cut nearly dominates
    are dropped, ever more generously, and labels of one state that lie close together are merged.

    Args:
        graph: The DNN.
        criteria: What a cut costs.
        max_labels: Most labels to hold at one time; memory is proportional to it.

    Returns:
        The front in order of cost, and its error epsilon, 0 if it is exact: for every cut there is
        a point in the front with at most ``1 + epsilon`` times its bits, and every other criterion
        worse by at most ``epsilon`` of that criterion's total over the DNN.

    Raises:
        TooWide: There are too many states even so.
    """
    totals = [sum(weights) for weights in (*criteria.device, *criteria.server)]
    step = _Step(graph, criteria)
    trivial = [(step.relative(criteria.of(graph, h)), h) for h in (graph.input_set, graph.full_set)]
    finished = _Finished(trivial, totals)
    most_finished = max(max_labels // 2, len(graph.nodes) + 2)  # all cuts of a chain
    states = {step.start()[0]: Group([step.start()[1]])}
    worst = slack = 0.0
    undecided = graph.full_set & ~graph.input_set
    for node in sweep_order(graph):
        undecided &= ~(1 << node)
        reached: dict[State, Group] = {}
        for state, group in states.items():
            for key, cost, here in step.branch(state, node, undecided):
                grown = group.after(cost, here)
                reached[key] = reached[key].with_(grown) if key in reached else grown
        states = {}
        for key, group in reached.items():
            done = key[1] == undecided  # all the rest is forced to the server
            if done or finished.prunes or group.unsorted:
                group.settle(lambda labels: finished.without_covered(labels, slack))  # noqa: B023
            if done:
                finished.add(group.labels)
                worst = max(worst, group.error)
            elif group.size:
                states[key] = group
        while finished.prunes and _held(states) > max_labels // 2 and slack < MAX_SLACK:
            slack = max(2 * slack, MIN_SLACK)
            for group in states.values():
                group.labels = finished.without_covered(group.labels, slack)
                group.size = len(group.labels)
            states = {key: group for key, group in states.items() if group.size}
        if len(states) > max_labels // 8:
            raise TooWide(
                f"{graph.name!r} is too wide for a Pareto front in {max_labels} labels: give"
                " bandwidth_mbps, for which one minimum cut has the answer, or allow more labels,"
                " use fewer criteria (server_model 'constant'), or method 'vertical' or 'layer'"
            )
        if _held(states) > max_labels // 2:
            for group in states.values():
                group.settle()
        if _held(states) > max_labels // 2:
            room = max(1, max_labels // (4 * len(states)))
            for group in states.values():
                group.merge(room, totals)
        if len(finished.labels) > most_finished:
            finished.thin(most_finished // 2)
    labels = [(step.absolute(cost), head) for cost, head in non_dominated(finished.labels)]
    return labels, worst + slack + finished.error


def _held(states: dict[State, Group]) -> int:
    return sum(group.size for group in states.values())


class _Step:
    """What happens to a state when one more operator is decided."""

    def __init__(self, graph: OperatorGraph, criteria: Criteria) -> None:
        self._graph = graph
        self._criteria = criteria
        self._children = [sum(1 << c for c in ids) for ids in graph.child_ids]
        self._no_work = tuple(0 for _ in (*criteria.device, *criteria.server))
        self._all_work = (
            *(0 for _ in criteria.device),
            *(sum(weights) for weights in criteria.server),
        )

    def relative(self, cost: Cost) -> Cost:
        """A cost whose work left for the server is, below zero, what the device took off it."""
        return cost[0], *map(operator.sub, cost[1:], self._all_work)

    def absolute(self, cost: Cost) -> Cost:
        """The reverse of ``relative``."""
        return cost[0], *map(operator.add, cost[1:], self._all_work)

    def start(self) -> tuple[State, Label]:
        """The inputs are on the device, and only one that is itself a result has crossed."""
        graph = self._graph
        paid = sum(self._criteria.bits[i] for i in bits_of(graph.input_set & graph.output_set))
        taken = [-sum(w[i] for i in bits_of(graph.input_set)) for w in self._criteria.server]
        done = [sum(w[i] for i in bits_of(graph.input_set)) for w in self._criteria.device]
        return (graph.input_set & ~graph.output_set, 0), ((paid, *done, *taken), graph.input_set)

    def branch(self, state: State, node: int, undecided: int) -> list[tuple[State, Cost, int]]:
        """What follows when ``node`` is decided either way: state, cost, and node on the device."""
        unpaid, forced = state
        here = 1 << node
        if forced & here:
            return [((unpaid, forced & ~here), (0, *self._no_work), 0)]
        return [
            self._on_device(unpaid, forced, node, undecided),
            self._on_server(unpaid, forced, node, undecided),
        ]

    def _on_device(
        self, unpaid: int, forced: int, node: int, undecided: int
    ) -> tuple[State, Cost, int]:
        criteria, here = self._criteria, 1 << node
        unpaid |= here
        pays = self._children[node] & forced or self._graph.output_set & here
        if pays:
            unpaid &= ~here
        for parent in (*self._graph.parent_ids[node], node):
            if unpaid >> parent & 1 and not self._children[parent] & undecided:
                unpaid &= ~(1 << parent)  # all its readers are on the device: it never crosses
        cost = (
            criteria.bits[node] if pays else 0,
            *(weights[node] for weights in criteria.device),
            *(-weights[node] for weights in criteria.server),
        )
        return (unpaid, forced), cost, here

    def _on_server(
        self, unpaid: int, forced: int, node: int, undecided: int
    ) -> tuple[State, Cost, int]:
        newly = self._graph.descendants[node] & undecided & ~forced
        gone = newly | 1 << node
        bits = 0
        for holder in bits_of(unpaid):
            if self._children[holder] & gone:
                bits += self._criteria.bits[holder]
                unpaid &= ~(1 << holder)
        return (unpaid, forced | newly), (bits, *self._no_work), 0


def sweep_order(graph: OperatorGraph) -> list[int]:
    """A topological order of the operators that keeps few tensors open at a time.

    Of the operators that can come next it takes the one that closes the most open tensors, and
    among equals the one freed last, which follows a branch to its end before the next.

    Args:
        graph: The DNN.
    """
    waiting = [sum(not graph.input_set >> p & 1 for p in ids) for ids in graph.parent_ids]
    readers_left = [len(ids) for ids in graph.child_ids]
    ready = [i for i, count in enumerate(waiting) if count == 0 and not graph.input_set >> i & 1][
        ::-1
    ]
    order: list[int] = []
    while ready:
        best, best_gain = len(ready) - 1, -2
        for at in range(len(ready) - 1, -1, -1):
            node = ready[at]
            gain = sum(readers_left[p] == 1 for p in graph.parent_ids[node])
            gain -= bool(graph.child_ids[node])
            if gain > best_gain:
                best, best_gain = at, gain
        node = ready.pop(best)
        order.append(node)
        for parent in graph.parent_ids[node]:
            readers_left[parent] -= 1
        for child in reversed(graph.child_ids[node]):
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    return order
