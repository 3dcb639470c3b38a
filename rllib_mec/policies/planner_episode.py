"""Search of the window sizes of a whole episode, given what a window of each shape costs."""

from __future__ import annotations

import numpy as np

_HASH = np.random.default_rng(0).integers(1, 2**63, size=4096, dtype=np.uint64) | np.uint64(1)
_ROUNDS = 2
_SHAPES = 40  # the cheapest that a state's queues allow


class WindowCosts:
    """Expected costs of task windows.

    Args:
        sizes: For k = 1..N MDs with tasks left, the shapes: falling window sizes, ``(L_k, k)``.
        costs: Expected −r_k of each shape, ``(L_k,)`` for each k.
    """

    def __init__(self, sizes: list[np.ndarray], costs: list[np.ndarray]):
        """Keep them."""
        self.sizes = sizes
        self.costs = costs

    @property
    def num_devices(self) -> int:
        """N."""
        return len(self.sizes)


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
    most = np.argmax([sizes.shape[1] for sizes in costs.sizes])
    per_task = float(((costs.costs[most] - mean) / costs.sizes[most].sum(1)).min())
    states, sums = queues[None], np.zeros(1)
    levels: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # states, parents, rows
    ends: list[tuple[float, int, int, int]] = []  # mean cost, level, parent, row
    while len(states):
        after, total, parent, row = _expand(states, sums, costs)
        done = after[:, 0] == 0
        if done.any():
            index = np.flatnonzero(done)[total[done].argmin()]
            mean_cost = float(total[index]) / (len(levels) + 1)
            ends.append((mean_cost, len(levels), int(parent[index]), int(row[index])))
            after, total, parent, row = (a[~done] for a in (after, total, parent, row))
        levels.append((states, parent, row))
        promise = total + per_task * after.sum(1)
        order = np.argsort(promise, kind="stable")
        keys = (after[order].astype(np.uint64) * _HASH[: after.shape[1]]).sum(1)
        _, first = np.unique(keys, return_index=True)
        kept = order[np.sort(first)[:beam]]
        levels[-1] = (states, parent[kept], row[kept])
        states, sums = after[kept], total[kept]
    found, level, index, last_row = min(ends)
    path = [(tuple(levels[level][0][index].tolist()), last_row)]
    for before in range(level - 1, -1, -1):
        before_states, parents, rows = levels[before]
        last_row, index = int(rows[index]), int(parents[index])
        path.append((tuple(before_states[index].tolist()), last_row))
    return path[::-1], found


def _expand(
    states: np.ndarray, sums: np.ndarray, costs: WindowCosts
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All next states (falling queues), their summed costs, parents and rows."""
    parts = []
    active = np.count_nonzero(states, axis=1)
    for num_active in np.unique(active):
        index = np.flatnonzero(active == num_active)
        by_cost = np.argsort(costs.costs[num_active - 1], kind="stable")
        sizes = costs.sizes[num_active - 1][by_cost]
        possible = (states[index][:, None, :num_active] >= sizes).all(2)
        parent, rank = np.nonzero(possible & (possible.cumsum(1) <= _SHAPES))
        after = states[index[parent]]
        after[:, :num_active] -= sizes[rank]
        after = -np.sort(-after, axis=1)
        row = by_cost[rank]
        total = sums[index[parent]] + costs.costs[num_active - 1][row]
        parts.append((after, total, index[parent], row))
    after, total, parent, row = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return after, total, parent, row
