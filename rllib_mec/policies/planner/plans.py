"""Plans: decisions of task windows of some MDs, and the window sizes that are worth planning."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

MAX_SHAPES = 700
"""Window sizes planned for a set of MDs; 6 equal MDs with W_max = 5 have 210, 4 unlike ones 625."""

POWER_LEVELS = (0.3, 0.45, 0.6)
"""Powers of structured plans for a whole network, as shares of an MD's most in dBm."""


class Plans(NamedTuple):
    """L decisions of a window of k MDs.

    Attributes:
        sizes: W_n, tasks of each MD, ``(L, k)`` int.
        partition: Partition point of each task, ``(L, k, W_max)`` int; so ``channel``, ``server``.
        channel: See ``partition``.
        server: See ``partition``.
        power_dbm: Transmit power of each task, ``(L, k, W_max)``, dBm.
    """

    sizes: np.ndarray
    partition: np.ndarray
    channel: np.ndarray
    server: np.ndarray
    power_dbm: np.ndarray

    def take(self, index: np.ndarray) -> Plans:
        """Copies of some plans.

        Args:
            index: Rows, ``(K,)`` int.
        """
        return Plans(*(values[index] for values in self))

    def put(self, index: np.ndarray, plans: Plans) -> None:
        """Overwrite some plans.

        Args:
            index: Rows, ``(K,)`` int.
            plans: K plans.
        """
        for own, new in zip(self, plans, strict=True):
            own[index] = new

    def of_devices(self, order: np.ndarray) -> Plans:
        """The plans with their MDs in another order.

        Args:
            order: Which MD of each plan comes where, ``(L, k)`` int.
        """
        rows = np.arange(len(order))[:, None]
        return Plans(*(values[rows, order] for values in self))

    @classmethod
    def concatenate(cls, parts: Sequence[Plans]) -> Plans:
        """All plans, in their order.

        Args:
            parts: Plans of as many MDs each.
        """
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def window_shapes(limits: ArrayLike, kinds: ArrayLike) -> np.ndarray:
    """Window sizes of some MDs, ``(L, k)``; falling along MDs of one kind, which come in a row.

    All of them where they are few; else those of at most two different sizes, and of these, if
    they still are many, ones spread evenly over the range. All ones are always there.

    Args:
        limits: The most tasks of each MD in a window.
        kinds: Equal numbers for MDs that can change places.
    """
    of_each, of_kind = np.asarray(limits).tolist(), np.asarray(kinds).tolist()
    members = [len(list(group)) for _, group in itertools.groupby(of_kind)]
    firsts = np.cumsum([0, *members[:-1]])
    most = [of_each[first] for first in firsts]
    if math.prod(math.comb(w + c - 1, c) for w, c in zip(most, members, strict=True)) <= MAX_SHAPES:
        choices = [
            itertools.combinations_with_replacement(range(w, 0, -1), c)
            for w, c in zip(most, members, strict=True)
        ]
        return np.array([sum(parts, ()) for parts in itertools.product(*choices)])
    num_devices, sizes = len(of_each), range(max(of_each), 0, -1)
    shapes = [(size,) * num_devices for size in sizes]
    for large, small in itertools.combinations(sizes, 2):
        for count in range(1, num_devices):
            shapes.append((large,) * count + (small,) * (num_devices - count))
    capped = list(dict.fromkeys(tuple(np.minimum(shape, of_each).tolist()) for shape in shapes))
    keep = np.unique(np.linspace(0, len(capped) - 1, MAX_SHAPES).astype(int))
    ones = (1,) * num_devices
    return np.array([ones] + [capped[i] for i in keep if capped[i] != ones])
