"""What an episode still costs from each state of the queues, by dynamic programming."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rllib_mec.compiled import compiled

_STATES = 7_000_000  # of the table, those included that differ only by equal MDs changing places
_ROUNDS = 6
_CLOSE = 1e-5


class EpisodeValues:
    """Least expected sum of (cost of a window − mean cost of a window) down to empty queues.

    The paper's average reward is the mean over windows: it is best where this sum is least for the
    mean that comes out (Dinkelbach's method). A window may be of several kinds, of which each comes
    as often as any other and is known when it is decided, such as where the MDs are.

    Queues longer than the table are taken to be shorter by as much as the longest is too long: far
    from the end of an episode, only their differences matter.

    Args:
        kinds: Kind of each of N MDs; those of one kind come in a row and can change places.
        sizes: For each set of MDs with tasks left (see :meth:`row_of`), and each kind of window,
            the window sizes to choose from, ``(A, L, N)`` int; an MD without tasks has 0.
        costs: What they cost, ``(A, L)``; for each of ``sizes``.
        queues: Those that the mean cost is for, ``(N,)``.
        longest: Queues up to this length are told apart, if there are not too many states.
    """

    def __init__(
        self,
        kinds: ArrayLike,
        sizes: Sequence[np.ndarray],
        costs: Sequence[np.ndarray],
        queues: np.ndarray,
        longest: int,
    ):
        """Iterate to the mean cost that comes out."""
        kinds_of = np.asarray(kinds)
        self._first = np.searchsorted(kinds_of, kinds_of)  # first MD of each one's kind
        num_devices = len(kinds_of)
        self.longest = min(longest, int(_STATES ** (1.0 / num_devices)) - 1)
        base = self.longest + 1
        self._radix = base ** np.arange(num_devices - 1, -1, -1)
        most = max(cost.shape[1] for cost in costs)
        all_sizes = np.zeros((len(sizes), sizes[0].shape[0], most, num_devices), dtype=np.int64)
        all_costs = np.full(all_sizes.shape[:3], np.inf)
        for i, (size, cost) in enumerate(zip(sizes, costs, strict=True)):
            all_sizes[i, :, : size.shape[1]], all_costs[i, :, : cost.shape[1]] = size, cost
        self.mean = float(all_costs[-1].min(1).mean())
        start = self._index(np.asarray(queues)[None])[0]
        for _ in range(_ROUNDS):
            self._table, windows = _solve(
                base, self._first, self._radix, all_sizes, all_costs, self.mean
            )
            change = float(self._table[start] / windows[start])
            self.mean += change
            if abs(change) < _CLOSE * self.mean:
                break

    def __call__(self, queues: np.ndarray) -> np.ndarray:
        """What is left to pay, ``(L,)``.

        Args:
            queues: Tasks left of each MD, ``(L, N)`` int.
        """
        return self._table[self._index(queues)]

    def _index(self, queues: np.ndarray) -> np.ndarray:
        excess = np.maximum(queues.max(1, keepdims=True) - self.longest, 0)
        short = np.where(queues > 0, np.maximum(queues - excess, 1), 0)
        for first in np.unique(self._first):
            own = self._first == first
            short[:, own] = -np.sort(-short[:, own], axis=1)
        return short @ self._radix


def row_of(active: np.ndarray, kinds: ArrayLike) -> np.ndarray:
    """Which of the sets of MDs with tasks left it is; all MDs are the last.

    Args:
        active: Whether each MD has tasks left, ``(..., N)`` bool.
        kinds: As in :class:`EpisodeValues`.
    """
    _, first, members = np.unique(kinds, return_index=True, return_counts=True)
    row = np.zeros(active.shape[:-1], dtype=np.int64)
    for start, count in zip(first, members, strict=True):
        row = row * (count + 1) + active[..., start : start + count].sum(-1)
    return row - 1


@compiled
def _solve(base, first, radix, sizes, costs, mean):
    """Values and expected numbers of windows of all states, ``(base**N,)`` each."""
    num_devices = len(first)
    num_states = base**num_devices
    values, windows = np.zeros(num_states), np.zeros(num_states)
    state = np.zeros(num_devices, dtype=np.int64)
    after = np.zeros(num_devices, dtype=np.int64)
    num_kinds, num_rows = costs.shape[1], costs.shape[2]
    for index in range(1, num_states):
        # Count up; states whose queues do not fall within a kind are another's mirror images.
        place = num_devices - 1
        while state[place] == base - 1:
            state[place] = 0
            place -= 1
        state[place] += 1
        falls = True
        table = 0
        n = 0
        while n < num_devices:
            end, active = n, 0
            while end < num_devices and first[end] == n:
                falls = falls and (end == n or state[end] <= state[end - 1])
                active += state[end] > 0
                end += 1
            table = table * (end - n + 1) + active
            n = end
        if not falls:
            continue
        table -= 1
        for kind in range(num_kinds):
            best, best_after = np.inf, 0
            for row in range(num_rows):
                cost = costs[table, kind, row]
                if cost == np.inf:
                    break
                possible = True
                for n in range(num_devices):
                    possible = possible and state[n] >= sizes[table, kind, row, n]
                if not possible:
                    continue
                next_index = 0
                for n in range(num_devices):  # insertion sort: hardly anything is out of order
                    queue, place = state[n] - sizes[table, kind, row, n], n
                    while place > first[n] and after[place - 1] < queue:
                        after[place] = after[place - 1]
                        place -= 1
                    after[place] = queue
                for n in range(num_devices):
                    next_index += after[n] * radix[n]
                if cost - mean + values[next_index] < best:
                    best, best_after = cost - mean + values[next_index], next_index
            values[index] += best / num_kinds
            windows[index] += (1.0 + windows[best_after]) / num_kinds
    return values, windows
