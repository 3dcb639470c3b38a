"""A queue in front of one worker that runs requests of the same partition point together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any


@dataclass
class _Waiting:
    key: Hashable
    item: Any
    limit: int
    done: asyncio.Future[Any]


class KeyedBatcher:
    """Runs items in batches of the same key, the oldest item first.

    A batch is whatever of the oldest item's key is waiting when the worker becomes free: nobody
    waits for a batch to fill up. Items whose caller has given up are not run.

    Args:
        run: Takes a key and its items, returns their results in order; called in a thread of its
            own, one call at a time.
    """

    def __init__(self, run: Callable[[Any, list[Any]], Sequence[Any]]):
        """Begin with an empty queue."""
        self._run = run
        self._queue: deque[_Waiting] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="tail")
        self._draining: asyncio.Task[None] | None = None

    async def submit(self, key: Hashable, item: Any, limit: int = 1) -> Any:
        """Queue an item and return its result.

        Args:
            key: Only items of equal keys share a batch.
            item: What to run.
            limit: Most items in its batch.

        Raises:
            Exception: Whatever ``run`` raised.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(key, item, limit, loop.create_future())
        self._queue.append(waiting)
        if self._draining is None or self._draining.done():
            self._draining = loop.create_task(self._drain())
        return await waiting.done

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            items = [waiting.item for waiting in batch]
            try:
                results = await loop.run_in_executor(self._worker, self._run, batch[0].key, items)
            except Exception as error:
                for waiting in batch:
                    if not waiting.done.done():
                        waiting.done.set_exception(error)
                continue
            for waiting, result in zip(batch, results, strict=True):
                if not waiting.done.done():
                    waiting.done.set_result(result)

    def _next_batch(self) -> list[_Waiting]:
        """Take the next batch off the queue; empty if nobody waits."""
        batch: list[_Waiting] = []
        others: deque[_Waiting] = deque()
        for waiting in self._queue:
            if waiting.done.done():
                continue
            if not batch or (waiting.key == batch[0].key and len(batch) < batch[0].limit):
                batch.append(waiting)
            else:
                others.append(waiting)
        self._queue = others
        return batch
