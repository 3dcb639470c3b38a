"""A queue in front of one worker that runs requests of the same partition point together."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

_SMOOTHING = 0.2  # of the mean time that an item takes
_FIRST_GUESS_S = 0.05
_LEAST_RETRY_S, _LONGEST_RETRY_S = 0.02, 30.0


class QueueFull(Exception):
    """An item that does not wait any more, or never did.

    Args:
        retry_after_s: When there may be room.
    """

    def __init__(self, retry_after_s: float):
        """Keep it."""
        super().__init__("the server's queue is full")
        self.retry_after_s = retry_after_s


@dataclass(eq=False)
class _Waiting:
    key: Hashable
    item: Any
    limit: int
    owner: Hashable
    done: asyncio.Future[Any]


class KeyedBatcher:
    """Runs items in batches of the same key: the owners in turn, of each the oldest item first.

    A batch is whatever of the first item's key is waiting when the worker becomes free: nobody
    waits for a batch to fill up. Items whose caller has given up are not run. Where the queue is
    full, the newest item of the owner with the longest queue makes room for an owner with a shorter
    one (longest queue drop, Suter et al. 1999), so that no owner locks another out.

    Args:
        run: Takes a key and its items, returns their results in order; called in a thread of its
            own, one call at a time.
        most: How many items may wait.
    """

    def __init__(self, run: Callable[[Any, list[Any]], Sequence[Any]], most: int = 2**31):
        """Begin with an empty queue."""
        self._run, self._most = run, most
        self._turns: dict[Hashable, int] = {}
        self._turn = 0
        self._item_s = _FIRST_GUESS_S
        self._queue: deque[_Waiting] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="tail")
        self._draining: asyncio.Task[None] | None = None

    async def submit(self, key: Hashable, item: Any, limit: int = 1, owner: Hashable = None) -> Any:
        """Queue an item and return its result.

        Args:
            key: Only items of equal keys share a batch.
            item: What to run.
            limit: Most items in its batch.
            owner: Whose it is.

        Raises:
            QueueFull: It does not run; it may be submitted again.
            Exception: Whatever ``run`` raised.
        """
        loop = asyncio.get_running_loop()
        self._make_room(owner)
        waiting = _Waiting(key, item, limit, owner, loop.create_future())
        self._queue.append(waiting)
        if self._draining is None or self._draining.done():
            self._draining = loop.create_task(self._drain())
        return await waiting.done

    @property
    def retry_after_s(self) -> float:
        """How long those who wait now will take."""
        return min(max(len(self._queue) * self._item_s, _LEAST_RETRY_S), _LONGEST_RETRY_S)

    def _make_room(self, owner: Hashable) -> None:
        if len(self._queue) < self._most:
            return
        self._queue = deque(waiting for waiting in self._queue if not waiting.done.done())
        if len(self._queue) < self._most:
            return
        counts = Counter(waiting.owner for waiting in self._queue)
        longest, count = counts.most_common(1)[0]
        if count <= counts[owner] + 1:
            raise QueueFull(self.retry_after_s)
        newest = next(waiting for waiting in reversed(self._queue) if waiting.owner == longest)
        self._queue.remove(newest)
        newest.done.set_exception(QueueFull(self.retry_after_s))

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            items = [waiting.item for waiting in batch]
            began = time.perf_counter()
            try:
                results = await loop.run_in_executor(self._worker, self._run, batch[0].key, items)
            except Exception as error:
                for waiting in batch:
                    if not waiting.done.done():
                        waiting.done.set_exception(error)
                continue
            item_s = (time.perf_counter() - began) / len(batch)
            self._item_s += _SMOOTHING * (item_s - self._item_s)
            for waiting, result in zip(batch, results, strict=True):
                if not waiting.done.done():
                    waiting.done.set_result(result)

    def _next_batch(self) -> list[_Waiting]:
        """Take the next batch off the queue; empty if nobody waits."""
        queue = [waiting for waiting in self._queue if not waiting.done.done()]
        self._queue = deque(queue)
        if not queue:
            self._turns.clear()
            return []
        first = min(queue, key=lambda waiting: self._turns.get(waiting.owner, 0))
        same = (w for w in queue if w.key == first.key and w is not first)
        batch = [first, *itertools.islice(same, first.limit - 1)]
        for waiting in batch:
            self._queue.remove(waiting)
            self._turn += 1
            self._turns[waiting.owner] = self._turn
        return batch
