"""A batch of worlds over several cores: kernels hold no GIL, and worlds have nothing in common."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Arrays = TypeVar("_Arrays", bound=tuple)


def in_threads(play: Callable[[slice], Any], num_envs: int, num_threads: int) -> None:
    """Play a batch in as many threads, each of which has a stretch of the worlds.

    Args:
        play: Plays the worlds of a slice; what it does with them must not depend on the others.
        num_envs: B.
        num_threads: The most threads; the caller's is one of them.
    """
    parts = min(num_threads, num_envs)
    bounds = [num_envs * i // parts for i in range(parts + 1)]
    slices = [slice(*pair) for pair in itertools.pairwise(bounds)]
    others: list[Future[Any]] = []
    if parts > 1:
        others = [_pool(parts - 1).submit(play, worlds) for worlds in slices[1:]]
    try:
        play(slices[0])
    finally:
        for other in others:
            other.result()


def worlds_of(arrays: _Arrays, worlds: slice) -> _Arrays:
    """Some worlds of a NamedTuple of arrays, in the same memory.

    Args:
        arrays: Each ``(B, ...)``.
        worlds: Which.
    """
    return type(arrays)(*(array[worlds] for array in arrays))


@functools.cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    """Threads that wait for work, for the life of the process."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="rllib_mec")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork has none of them
