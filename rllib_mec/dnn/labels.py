"""Labels of the sweep: costs of unfinished cuts, which of them are dominated, groups of them."""

from __future__ import annotations

import bisect
import operator
from collections.abc import Callable, Sequence

import numpy as np

Cost = tuple[float, ...]
Label = tuple[Cost, int]
"""Costs so far, bits first, and the head that causes them."""


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
    if dimensions == 3:
        front = Staircase()
        return [label for label in labels if front.add(label[0][1], label[0][2])]
    costs = np.array([label[0][1:] for label in labels])
    beaten_by = np.empty_like(costs)
    for label, cost in zip(labels, costs, strict=True):
        if not (beaten_by[: len(kept)] <= cost).all(axis=1).any():
            beaten_by[len(kept)] = cost
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


class Group:
    """The labels of one state; what was decided since they were compared is noted beside them.

    Args:
        labels: Those to begin with.

    Attributes:
        labels: Those compared last; all there are once ``settle`` was called.
        size: How many there are, with those that were not compared yet.
        error: Of the labels, by merging.
    """

    def __init__(self, labels: list[Label]) -> None:
        """Begin with some labels."""
        self.labels = labels
        self.size = len(labels)
        self.error = 0.0
        self._parts: list[tuple[Group, Cost, int]] = []
        self._settled = self.size

    def merge(self, room: int, totals: Sequence[float]) -> None:
        """Keep at most so many labels, once all are settled.

        Args:
            room: At least 1.
            totals: The whole DNN's sum in each criterion but bits, to which the error relates.
        """
        if self.size <= room:
            return
        columns = list(zip(*(cost for cost, _ in self.labels), strict=True))[1:]
        lows, spans = [min(c) for c in columns], [max(c) - min(c) for c in columns]
        self.labels, cells = merged(self.labels, room, lows, spans, 2 * room)
        self.size = len(self.labels)
        pairs = zip(spans, totals, strict=True)
        self.error += max(span / cells / total for span, total in pairs if span)

    @property
    def unsorted(self) -> bool:
        """Whether enough labels have come in for a comparison to pay."""
        return self.size > 2 * self._settled + 64

    def after(self, cost: Cost, here: int) -> Group:
        """The group once a node was decided.

        Args:
            cost: What the decision costs all labels.
            here: Bit set of the node, if it runs on the device.
        """
        made = Group([])
        made._parts = [(self, cost, here)]
        if len(self._parts) == 1 and not self.labels:  # itself but a decision after another group
            part, before, there = self._parts[0]
            made._parts = [(part, tuple(map(operator.add, before, cost)), there | here)]
        made.size, made.error, made._settled = self.size, self.error, self._settled
        return made

    def with_(self, other: Group) -> Group:
        """Both groups' labels.

        Args:
            other: Of the same state.
        """
        made = Group([])
        made._parts = [*self._parts, *other._parts]
        made.size, made.error = self.size + other.size, max(self.error, other.error)
        made._settled = max(self._settled, other._settled)
        return made

    def settle(self, keep: Callable[[list[Label]], list[Label]] = list) -> None:
        """Add up what was noted, and keep the labels that are not dominated.

        Args:
            keep: Which of these to keep.
        """
        if len(self._parts) == 1 and not self.labels and not self._parts[0][0]._parts:
            group, cost, here = self._parts[0]
            labels = shifted(group.labels, cost, here)  # as well ordered as they were
        else:
            labels = list(self.labels)
            todo = list(self._parts)
            while todo:
                group, cost, here = todo.pop()
                labels += shifted(group.labels, cost, here)
                todo += [
                    (part, tuple(map(operator.add, cost, more)), here | there)
                    for part, more, there in group._parts
                ]
            labels = non_dominated(labels)
        self.labels = keep(labels)
        self.size = self._settled = len(self.labels)
        self._parts = []


def shifted(labels: list[Label], step: Cost, here: int) -> list[Label]:
    """Labels with a decision's costs and nodes added.

    Args:
        labels: Before the decision.
        step: Its costs.
        here: Bit set of the nodes that it puts on the device.
    """
    if not here and not any(step):
        return labels
    if len(step) == 2:
        bits, work = step
        return [((c[0] + bits, c[1] + work), head | here) for c, head in labels]
    return [(tuple(map(operator.add, cost, step)), head | here) for cost, head in labels]


def merged(
    labels: list[Label], room: int, lows: Sequence[float], spans: Sequence[float], cells: int
) -> tuple[list[Label], int]:
    """At most ``room`` labels, the one with the fewest bits of each cell of a grid.

    Merging again in a grid of the same ``lows`` and ``spans``, whose cells are some of the former
    ones put together, leaves errors of one cell, not of two.

    Args:
        labels: In order of cost.
        room: How many may stay, at least 1.
        lows: Where the grid begins in each criterion but bits.
        spans: How far it goes.
        cells: Into how many parts it divides each span at first.

    Returns:
        The labels, and into how many parts the spans are divided now.
    """
    while True:
        best: dict[tuple[float, ...], Label] = {}
        for label in labels:  # in order of bits, so that the first of a cell has the fewest
            at = zip(label[0][1:], lows, spans, strict=True)
            cell = tuple((value - low) * cells // (span or 1) for value, low, span in at)
            best.setdefault(cell, label)
        if len(best) <= room or cells == 1:
            return list(best.values()), cells
        cells //= 2
