"""The exact Pareto front by one topological sweep, without enumerating the cuts.

Operators are decided one after another, device or server, in a topological order that finishes one
branch before it starts the next. Of what was decided only this matters for the rest:

- ``forced``: undecided operators that depend on one already given to the server, and
- ``unpaid``: device operators whose output has not crossed yet but still may.

Decisions that agree in both share a state, and of a state's labels (cost so far, head) only the
non-dominated survive. A tensor is paid the moment one of its readers is forced to the server,
once; costs only grow, so that a label already dominated by a finished cut is dropped, and a state
with all the rest forced is finished. On a chain there are two states, on a series-parallel graph
at most three per open fork, whatever its width.

Complexity: with ``n`` operators, at most ``w`` states and ``m`` labels a step, time
O(n·w·m·log m) set operations and memory O(w·m) labels. ``w`` grows with the width of what is open
at one time (like 3^width at worst), not with the depth: near-linear in ``n`` for DNNs.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from rllib_mec.dnn.graph import OperatorGraph, bits_of
from rllib_mec.errors import MecError

Cost = tuple[float, ...]
Label = tuple[Cost, int]
"""Costs so far, bits first, and the head that causes them."""

State = tuple[int, int]
"""Bit sets: the unpaid device operators, and the undecided operators forced to the server."""

MIN_SLACK, MAX_SLACK = 2.0**-10, 1.0
"""Where near-dominance starts and ends when there are too many labels."""


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


def non_dominated(labels: list[Label]) -> list[Label]:
    """The labels that no other one beats or equals in every cost, in order of cost.

    Args:
        labels: All with as many costs; they get sorted in place.
    """
    if len(labels) < 2:
        return labels
    labels.sort()
    dimensions = len(labels[0][0])
    kept: list[Label] = []
    if dimensions == 2:
        best = float("inf")
        for label in labels:
            if label[0][1] < best:
                best = label[0][1]
                kept.append(label)
        return kept
    front = Staircase() if dimensions == 3 else None
    for label in labels:
        cost = label[0]
        if front is not None:
            if front.add(cost[1], cost[2]):
                kept.append(label)
        elif not any(all(a <= b for a, b in zip(k[0], cost, strict=True)) for k in kept):
            kept.append(label)
    return kept


class Staircase:
    """Points of the plane none of which is left of and below another, kept sorted."""

    def __init__(self) -> None:
        """Start empty."""
        self.xs: list[float] = []
        self.ys: list[float] = []

    def covers(self, x: float, y: float) -> bool:
        """Whether some point is at most ``x`` and at most ``y``.

        Args:
            x: First cost.
            y: Second cost.
        """
        at = bisect.bisect_right(self.xs, x)
        return at > 0 and self.ys[at - 1] <= y

    def add(self, x: float, y: float) -> bool:
        """Add a point, unless it is covered, and drop those that it covers; True if added.

        Args:
            x: First cost.
            y: Second cost.
        """
        if self.covers(x, y):
            return False
        at = end = bisect.bisect_left(self.xs, x)
        while end < len(self.xs) and self.ys[end] >= y:
            end += 1
        self.xs[at:end] = [x]
        self.ys[at:end] = [y]
        return True


class _Finished:
    """Finished cuts, and whether they dominate a label."""

    def __init__(self, labels: list[Label], totals: list[float]) -> None:
        self.labels: list[Label] = []
        self._totals = totals
        self._stairs = Staircase() if len(totals) == 1 else None
        self.prunes = self._stairs is not None
        self.add(labels)

    def add(self, labels: list[Label]) -> None:
        for label in labels:
            if self._stairs is None or self._stairs.add(*label[0]):
                self.labels.append(label)

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
        MecError: There are too many states even so.
    """
    totals = [sum(weights) for weights in (*criteria.device, *criteria.server)]
    trivial = [(criteria.of(graph, h), h) for h in (graph.input_set, graph.full_set)]
    finished = _Finished(trivial, totals)
    step = _Step(graph, criteria)
    states = {step.start()[0]: [step.start()[1]]}
    errors: dict[State, float] = {}
    worst = slack = 0.0
    undecided = graph.full_set & ~graph.input_set
    for node in sweep_order(graph):
        undecided &= ~(1 << node)
        reached: dict[State, list[Label]] = {}
        reached_errors: dict[State, float] = {}
        for state, labels in states.items():
            for key, grown in step.branch(state, labels, node, undecided):
                reached.setdefault(key, []).extend(grown)
                if state in errors:
                    reached_errors[key] = max(reached_errors.get(key, 0.0), errors[state])
        states, errors = {}, {}
        for key, labels in reached.items():
            labels = finished.without_covered(non_dominated(labels), slack)
            error = reached_errors.get(key, 0.0)
            if key[1] == undecided:  # all the rest is forced to the server
                finished.add(labels)
                worst = max(worst, error)
            elif labels:
                states[key] = labels
                if error:
                    errors[key] = error
        while finished.prunes and _held(states) > max_labels // 2 and slack < MAX_SLACK:
            slack = max(2 * slack, MIN_SLACK)
            kept = {key: finished.without_covered(group, slack) for key, group in states.items()}
            states = {key: group for key, group in kept.items() if group}
        if len(states) > max_labels // 8:
            raise MecError(
                f"{graph.name!r} is too wide for a Pareto front in {max_labels} labels: allow more,"
                " use fewer criteria (server_model 'constant'), or method 'vertical' or 'layer'"
            )
        if _held(states) > max_labels // 2:
            room = max_labels // (4 * len(states))
            for key in states:
                states[key], error = _merged(states[key], room, totals)
                errors[key] = errors.get(key, 0.0) + error
        if len(finished.labels) > max_labels // 2:
            finished.labels, error = _merged(
                non_dominated(finished.labels), max_labels // 4, totals
            )
            worst += error
    return non_dominated(finished.labels), worst + slack


def _held(states: dict[State, list[Label]]) -> int:
    return sum(map(len, states.values()))


class _Step:
    """What happens to a state when one more operator is decided."""

    def __init__(self, graph: OperatorGraph, criteria: Criteria) -> None:
        self._graph = graph
        self._criteria = criteria
        self._children = [sum(1 << c for c in ids) for ids in graph.child_ids]
        self._no_device = tuple(0 for _ in criteria.device)

    def start(self) -> tuple[State, Label]:
        """The inputs are on the device, and only one that is itself a result has crossed."""
        graph = self._graph
        paid = sum(self._criteria.bits[i] for i in bits_of(graph.input_set & graph.output_set))
        costs = (paid, *self._no_device, *(0 for _ in self._criteria.server))
        return (graph.input_set & ~graph.output_set, 0), (costs, graph.input_set)

    def branch(
        self, state: State, labels: list[Label], node: int, undecided: int
    ) -> list[tuple[State, list[Label]]]:
        """The states, with their labels, that follow when ``node`` is decided either way."""
        unpaid, forced = state
        here = 1 << node
        if forced & here:
            return [((unpaid, forced & ~here), labels)]
        return [
            self._on_device(unpaid, forced, labels, node, undecided),
            self._on_server(unpaid, forced, labels, node, undecided),
        ]

    def _on_device(
        self, unpaid: int, forced: int, labels: list[Label], node: int, undecided: int
    ) -> tuple[State, list[Label]]:
        criteria, here = self._criteria, 1 << node
        unpaid |= here
        pays = self._children[node] & forced or self._graph.output_set & here
        if pays:
            unpaid &= ~here
        for parent in (*self._graph.parent_ids[node], node):
            if unpaid >> parent & 1 and not self._children[parent] & undecided:
                unpaid &= ~(1 << parent)  # all its readers are on the device: it never crosses
        step = (
            criteria.bits[node] if pays else 0,
            *(weights[node] for weights in criteria.device),
            *(0 for _ in criteria.server),
        )
        return (unpaid, forced), _shifted(labels, step, here)

    def _on_server(
        self, unpaid: int, forced: int, labels: list[Label], node: int, undecided: int
    ) -> tuple[State, list[Label]]:
        criteria = self._criteria
        newly = self._graph.descendants[node] & undecided & ~forced
        gone = newly | 1 << node
        bits = 0
        for holder in bits_of(unpaid):
            if self._children[holder] & gone:
                bits += criteria.bits[holder]
                unpaid &= ~(1 << holder)
        step = (
            bits,
            *self._no_device,
            *(sum(weights[i] for i in bits_of(gone)) for weights in criteria.server),
        )
        return (unpaid, forced | newly), _shifted(labels, step, 0)


def _shifted(labels: list[Label], step: Cost, here: int) -> list[Label]:
    """Labels with a decision's costs and node added."""
    if len(step) == 2:
        bits, work = step
        return [((c[0] + bits, c[1] + work), head | here) for c, head in labels]
    return [
        (tuple(a + b for a, b in zip(cost, step, strict=True)), head | here)
        for cost, head in labels
    ]


def _merged(labels: list[Label], room: int, totals: list[float]) -> tuple[list[Label], float]:
    """At most ``room`` labels, the one with the fewest bits of each cell of a grid; the error."""
    room = max(room, 1)
    if len(labels) <= room:
        return labels, 0.0
    columns = [[label[0][k] for label in labels] for k in range(1, len(totals) + 1)]
    lows = [min(column) for column in columns]
    spans = [max(column) - low for column, low in zip(columns, lows, strict=True)]
    cells = 2 * room
    while True:
        widths = [span / cells or 1.0 for span in spans]
        best: dict[tuple[int, ...], Label] = {}
        for label in labels:  # in order of bits, so that the first of a cell has the fewest
            cell = tuple(
                int((value - low) / width)
                for value, low, width in zip(label[0][1:], lows, widths, strict=True)
            )
            best.setdefault(cell, label)
        if len(best) <= room or cells == 1:
            pairs = zip(widths, spans, totals, strict=True)
            return list(best.values()), max(w / t for w, span, t in pairs if span)
        cells //= 2


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
