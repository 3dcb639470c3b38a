"""The queue in front of the worker."""

from __future__ import annotations

import asyncio
import threading

import pytest

from rllib_mec.testbed.batching import KeyedBatcher, QueueFull


class Recorder:
    """Doubles numbers, remembers the batches, and waits for a signal before the first."""

    def __init__(self):
        self.batches = []
        self.go = threading.Event()

    def __call__(self, key, items):
        self.go.wait(10)
        self.batches.append((key, items))
        if key == "bad":
            raise ValueError("the worker failed")
        return [2 * item for item in items]


async def submitted(batcher, *requests, limit=4):
    """Tasks of requests that are all in the queue when the next line runs."""
    tasks = [asyncio.ensure_future(batcher.submit(key, i, limit)) for key, i in requests]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


def run(main):
    recorder = Recorder()
    asyncio.run(main(recorder, KeyedBatcher(recorder)))
    return recorder.batches


def test_requests_of_one_key_that_wait_together_run_together():
    async def main(recorder, batcher):
        tasks = await submitted(batcher, ("a", 0), ("a", 1), ("b", 2), ("a", 3), ("b", 4))
        recorder.go.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8]

    # The first was alone when the worker took it.
    assert run(main) in (
        [("a", [0]), ("a", [1, 3]), ("b", [2, 4])],
        [("a", [0, 1, 3]), ("b", [2, 4])],
    )


def test_a_batch_is_no_longer_than_its_limit():
    async def main(recorder, batcher):
        tasks = await submitted(batcher, *(("a", i) for i in range(6)), limit=2)
        recorder.go.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]

    assert max(len(items) for _, items in run(main)) == 2


def test_a_limit_of_one_runs_each_alone():
    async def main(recorder, batcher):
        tasks = await submitted(batcher, *(("a", i) for i in range(4)), limit=1)
        recorder.go.set()
        await asyncio.gather(*tasks)

    assert run(main) == [("a", [i]) for i in range(4)]


def test_a_failure_reaches_the_batch_and_nobody_else():
    async def main(recorder, batcher):
        recorder.go.set()
        bad, good = await submitted(batcher, ("bad", 1), ("good", 2))
        with pytest.raises(ValueError, match="the worker failed"):
            await bad
        assert await good == 4
        assert await batcher.submit("good", 3) == 6

    run(main)


def test_who_gave_up_is_not_run():
    async def main(recorder, batcher):
        first, second, third = await submitted(batcher, ("a", 0), ("b", 1), ("c", 2))
        second.cancel()
        await asyncio.sleep(0)
        recorder.go.set()
        assert await asyncio.gather(first, third) == [0, 4]

    assert [key for key, _ in run(main)] == ["a", "c"]


async def queued(batcher, *owners):
    """Tasks of items that wait behind one that runs, by their owners; item i is the i-th."""
    tasks = []
    for i, owner in enumerate(owners):
        tasks.append(asyncio.ensure_future(batcher.submit("a", i, 1, owner)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return tasks


def order_of(*owners, most=100):
    """Which items run, in their order, and which were turned away."""
    recorder, turned = Recorder(), []

    async def main():
        batcher = KeyedBatcher(recorder, most)
        tasks = await queued(batcher, "first", *owners)
        recorder.go.set()
        for i, result in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            if isinstance(result, QueueFull):
                assert 0.02 <= result.retry_after_s <= 30.0
                turned.append(i)

    asyncio.run(main())
    return [item for _, items in recorder.batches for item in items], turned


def test_owners_take_turns_whoever_came_first():
    assert order_of(*"AAAABC") == ([0, 1, 5, 6, 2, 3, 4], [])


def test_a_full_queue_makes_room_for_who_has_less_in_it():
    ran, turned = order_of(*"AAAAB", most=4)
    assert turned == [4]  # the newest of A's
    assert sorted(ran) == [0, 1, 2, 3, 5]


def test_a_full_queue_refuses_who_has_as_much_in_it_as_others():
    assert order_of(*"AAAA", most=3)[1] == [4]
    assert order_of(*"AABBC", most=4)[1] == [2]
    assert order_of(*"ABCDE", most=4)[1] == [5]
