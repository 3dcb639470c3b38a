"""Search of the window sizes of a whole episode, where its states are too many for a table."""

from __future__ import annotations

import numpy as np

from rllib_mec.compiled import compiled

_ROUNDS = 2
_SHAPES = 40  # the cheapest that a state's queues allow


class WindowCosts:
    """Expected costs of task windows.

    Args:
        sizes: For k = 1..N MDs with tasks left, the shapes: falling window sizes, ``(L_k, k)``.
        costs: Expected −r_k of each shape, ``(L_k,)`` for each k.
    """

    def __init__(self, sizes: list[np.ndarray], costs: list[np.ndarray]):
        """Keep them, and one array for all k with the cheapest shapes first."""
        self.sizes = sizes
        self.costs = costs
        most = max(map(len, costs))
        self.sorted_rows = np.zeros((len(sizes), most), dtype=np.int64)
        self.sorted_sizes = np.zeros((len(sizes), most, len(sizes)), dtype=np.int64)
        self.sorted_costs = np.full((len(sizes), most), np.inf)
        for k, (size, cost) in enumerate(zip(sizes, costs, strict=True)):
            order = np.argsort(cost, kind="stable")
            self.sorted_rows[k, : len(order)] = order
            self.sorted_sizes[k, : len(order), : k + 1] = size[order]
            self.sorted_costs[k, : len(order)] = cost[order]


def best_windows(
    queues: np.ndarray, costs: WindowCosts, beam: int
) -> list[tuple[tuple[int, ...], int]]:
    """The sequence of windows, down to empty queues, of least mean cost.

    A beam search: after each window, the ``beam`` most promising states are kept. The mean is
    minimised as in Dinkelbach's method, through the sum of (cost − mean of the best so far).

    Args:
        queues: Tasks left, falling, ``(N,)`` int, not all zero.
        costs: What windows cost.
        beam: States kept.

    Returns:
        For each window the falling queues before it and the row of its shape in
        ``costs.sizes[k - 1]``, k being the number of MDs with tasks left.
    """
    mean = float(min(cost.min() for cost in costs.costs))
    best: list[tuple[tuple[int, ...], int]] = []
    for _ in range(_ROUNDS):
        path, found = _search(queues, costs, beam, mean)
        if best and found >= mean - 1e-9:
            break
        best, mean = path, found
    return best


def _search(
    queues: np.ndarray, costs: WindowCosts, beam: int, mean: float
) -> tuple[list[tuple[tuple[int, ...], int]], float]:
    """One beam search; returns the path and its mean cost."""
    per_task = float(((costs.costs[-1] - mean) / costs.sizes[-1].sum(1)).min())
    states, sums = queues[None].astype(np.int64), np.zeros(1)
    levels: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # states, parents, rows
    ends: list[tuple[float, int, int, int]] = []  # mean cost, level, parent, row
    while len(states):
        after, total, parent, row = _expand(
            states, sums, costs.sorted_sizes, costs.sorted_costs, costs.sorted_rows
        )
        left = after.sum(1)
        done = np.flatnonzero(left == 0)
        if len(done):
            index = done[total[done].argmin()]
            mean_cost = float(total[index]) / (len(levels) + 1)
            ends.append((mean_cost, len(levels), int(parent[index]), int(row[index])))
        order = np.argsort(total + per_task * left, kind="stable")
        kept = _first_distinct(after, order, beam)
        levels.append((states, parent[kept], row[kept]))
        states, sums = after[kept], total[kept]
    found, level, index, last_row = min(ends)
    path = [(tuple(levels[level][0][index].tolist()), last_row)]
    for before in range(level - 1, -1, -1):
        before_states, parents, rows = levels[before]
        last_row, index = int(rows[index]), int(parents[index])
        path.append((tuple(before_states[index].tolist()), last_row))
    return path[::-1], found


@compiled
def _expand(
    states: np.ndarray, sums: np.ndarray, sizes: np.ndarray, costs: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All next states (falling queues), their summed costs, parents and rows.

    Args:
        states: Falling queues, none of them all zero, ``(S, N)``.
        sums: Costs so far, ``(S,)``.
        sizes: For each k the shapes, the cheapest first, ``(N, L, N)``.
        costs: What they cost, inf where there are no more of them, ``(N, L)``.
        rows: What they are called, ``(N, L)``.
    """
    most = len(states) * min(_SHAPES, costs.shape[1])
    num_devices = states.shape[1]
    after = np.zeros((most, num_devices), dtype=np.int64)
    total = np.zeros(most)
    parent = np.zeros(most, dtype=np.int64)
    row = np.zeros(most, dtype=np.int64)
    count = 0
    for index in range(len(states)):
        state = states[index]
        k = np.count_nonzero(state) - 1
        first = count
        for rank in range(costs.shape[1]):
            if count - first == _SHAPES or np.isinf(costs[k, rank]):
                break
            possible = True
            for n in range(k + 1):
                possible = possible and state[n] >= sizes[k, rank, n]
            if not possible:
                continue
            for n in range(k + 1):  # insertion sort: hardly anything is out of order
                queue, place = state[n] - sizes[k, rank, n], n
                while place > 0 and after[count, place - 1] < queue:
                    after[count, place] = after[count, place - 1]
                    place -= 1
                after[count, place] = queue
            total[count] = sums[index] + costs[k, rank]
            parent[count] = index
            row[count] = rows[k, rank]
            count += 1
    return after[:count], total[:count], parent[:count], row[:count]


@compiled
def _first_distinct(states: np.ndarray, order: np.ndarray, most: int) -> np.ndarray:
    """The first ``most`` of ``order`` whose states are not empty and differ from one another."""
    kept = np.zeros(most, dtype=np.int64)
    count = 0
    for index in order:
        if count == most:
            break
        new = states[index, 0] > 0
        for other in kept[:count]:
            if not new:
                break
            new = (states[index] != states[other]).any()
        if new:
            kept[count] = index
            count += 1
    return kept[:count]
