"""The scheduler's logic: whom it waits for, what each device gets, and what it decides from."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, Policy
from rllib_mec.testbed.scheduler import (
    MAX_MISSED,
    TakenError,
    UnknownDeviceError,
    WindowScheduler,
)

SOON, NEVER = 0.02, 60.0
ID = "0" * 16


class Telltale(Policy):
    """Device n offloads at point n to server n % 2, in windows of two; keeps what it saw."""

    name = "telltale"

    def __init__(self, scenario):
        super().__init__(scenario)
        self.seen = []

    def decide(self, observation):
        self.seen.append([round(float(x), 4) for x in observation[0]])
        shape = (1, self.scenario.num_devices, self.scenario.max_window)
        n = np.arange(self.scenario.num_devices)[None, :, None]
        return {
            "partition": np.broadcast_to(n, shape),
            "channel": np.zeros(shape, int),
            "server": np.broadcast_to(n % 2, shape),
            "power": np.full(shape, 1.0),
            "window": np.ones(shape[:2], int),
        }


@pytest.fixture
def policy():
    return Telltale(Scenario(num_devices=3, max_window=4, dnn="mobilenet_v2"))


def scheduler_of(policy, deadline_s=NEVER, devices=("a", "b", "c")):
    scheduler = WindowScheduler(policy, deadline_s)
    for device in devices:
        scheduler.register(device, ID, 50.0)
    return scheduler


def points(answer):
    return [task["point"] for task in answer["tasks"]]


def test_a_window_is_decided_when_all_have_asked(policy):
    async def main():
        scheduler = scheduler_of(policy)
        first = asyncio.ensure_future(scheduler.ask("a", ID, 1, 10, 100.0))
        second = asyncio.ensure_future(scheduler.ask("b", ID, 1, 25, 20.0))
        await asyncio.sleep(0.01)
        assert not first.done() and not second.done() and policy.seen == []
        third = await scheduler.ask("c", ID, 1, 50, 50.0)
        return await first, await second, third

    answers = asyncio.run(main())
    assert [points(answer) for answer in answers] == [[0, 0], [1, 1], [2, 2]]
    assert [answer["window"] for answer in answers] == [0, 0, 0]
    assert answers[0]["absent"] == []
    # X_n over λ = 50, then d_n over the largest distance of 100 m.
    assert policy.seen == [[0.2, 0.5, 1.0, 1.0, 0.2, 0.5]]


def test_power_is_in_watts(policy):
    async def main():
        return await scheduler_of(policy, devices=["a"]).ask("a", ID, 1, 5, 50.0)

    assert asyncio.run(main())["tasks"][0]["power_w"] == pytest.approx(1.0)  # 30 dBm


def test_a_device_gets_no_more_tasks_than_it_has(policy):
    async def main():
        return await scheduler_of(policy, devices=["a"]).ask("a", ID, 1, 1, 50.0)

    assert len(asyncio.run(main())["tasks"]) == 1


def test_places_that_are_free_have_empty_queues_and_nobody_waits_for_them(policy):
    async def main():
        await scheduler_of(policy, devices=["a"]).ask("a", ID, 1, 50, 100.0)

    asyncio.run(main())
    assert policy.seen == [[1.0, 0.0, 0.0, 1.0, 0.5, 0.5]]


def test_after_the_deadline_an_absent_device_is_decided_for_with_its_last_state(policy):
    async def main():
        scheduler = scheduler_of(policy, SOON)
        await asyncio.gather(*(scheduler.ask(d, ID, 1, 20, 50.0) for d in "abc"))
        answers = await asyncio.gather(*(scheduler.ask(d, ID, 2, 10, 50.0) for d in "ab"))
        return scheduler, answers

    scheduler, answers = asyncio.run(main())
    assert [answer["absent"] for answer in answers] == [["c"], ["c"]]
    assert policy.seen[1] == [0.2, 0.2, 0.4, 0.5, 0.5, 0.5]
    assert scheduler.window == 2


def test_the_others_wait_for_a_dead_device_only_once(policy):
    async def main():
        scheduler = scheduler_of(policy, SOON, "ab")
        await scheduler.ask("a", ID, 1, 20, 50.0)
        scheduler.deadline_s = NEVER
        for sequence in range(2, 6):
            await asyncio.wait_for(scheduler.ask("a", ID, sequence, 20, 50.0), 5.0)
        return scheduler.window

    assert asyncio.run(main()) == 5
    assert len(policy.seen) == 5


def test_a_device_that_missed_too_much_counts_as_empty_and_must_register_again(policy):
    async def main():
        scheduler = scheduler_of(policy, SOON, "ab")
        await asyncio.gather(*(scheduler.ask(d, ID, 1, 20, 50.0) for d in "ab"))
        for sequence in range(2, 3 + MAX_MISSED):
            await scheduler.ask("a", ID, sequence, 20, 50.0)
        with pytest.raises(UnknownDeviceError, match="register first"):
            await scheduler.ask("b", ID, 2, 20, 50.0)
        assert scheduler.register("b", ID, 50.0) == 1
        both = await asyncio.gather(
            scheduler.ask("a", ID, 9, 5, 50.0), scheduler.ask("b", ID, 1, 5, 50.0)
        )
        return [answer["absent"] for answer in both]

    assert asyncio.run(main()) == [[], []]
    queues = [seen[1] for seen in policy.seen]
    assert queues == [0.4] * (1 + MAX_MISSED) + [0.0, 0.1]


def test_a_late_device_takes_what_was_decided_for_it(policy):
    async def main():
        scheduler = scheduler_of(policy, SOON, "ab")
        await scheduler.ask("a", ID, 1, 20, 50.0)
        late = await asyncio.wait_for(scheduler.ask("b", ID, 1, 1, 50.0), 5.0)
        return scheduler, late

    scheduler, late = asyncio.run(main())
    assert points(late) == [1]
    assert late["window"] == 0
    assert scheduler.window == 1


def test_the_same_question_gets_the_same_answer_and_plays_no_window(policy):
    async def main():
        scheduler = scheduler_of(policy, devices=["a"])
        first = await scheduler.ask("a", ID, 1, 20, 50.0)
        assert await scheduler.ask("a", ID, 1, 20, 50.0) is first
        assert scheduler.window == 1
        await scheduler.ask("a", ID, 2, 18, 50.0)
        with pytest.raises(MecError, match="older"):
            await scheduler.ask("a", ID, 1, 20, 50.0)

    asyncio.run(main())


def test_a_question_that_is_repeated_while_it_waits_is_one_question(policy):
    async def main():
        scheduler = scheduler_of(policy, devices="ab")
        lost = asyncio.ensure_future(scheduler.ask("a", ID, 1, 20, 50.0))
        await asyncio.sleep(0)
        lost.cancel()  # the connection broke
        again = asyncio.ensure_future(scheduler.ask("a", ID, 1, 20, 50.0))
        await asyncio.sleep(0)
        other = await scheduler.ask("b", ID, 1, 20, 50.0)
        return await again, other

    again, other = asyncio.run(main())
    assert again["window"] == other["window"] == 0
    assert points(again) == [0, 0]


def test_who_leaves_is_waited_for_no_longer(policy):
    async def main():
        scheduler = scheduler_of(policy, devices="ab")
        waiting = asyncio.ensure_future(scheduler.ask("a", ID, 1, 20, 50.0))
        await asyncio.sleep(0)
        scheduler.leave("b", ID)
        return await asyncio.wait_for(waiting, 5.0), scheduler.devices

    answer, devices = asyncio.run(main())
    assert points(answer) == [0, 0]
    assert devices == ["a"]


def test_one_device_more_than_the_policy_decides_for_is_refused(policy):
    scheduler = scheduler_of(policy)
    with pytest.raises(
        MecError, match="3 devices and has no place for 'd': registered are a, b, c"
    ):
        scheduler.register("d", ID, 50.0)
    assert scheduler.register("b", ID, 50.0) == 1
    scheduler.leave("b", ID)
    assert scheduler.register("d", ID, 50.0) == 1


def test_a_policy_that_fails_is_reported_to_who_asked_and_can_be_asked_again(policy):
    async def main():
        scheduler = scheduler_of(policy, devices=["a"])
        decide, policy.decide = policy.decide, lambda observation: {}
        with pytest.raises(MecError, match="the policy failed"):
            await scheduler.ask("a", ID, 1, 20, 50.0)
        policy.decide = decide
        return await scheduler.ask("a", ID, 2, 20, 50.0)

    assert points(asyncio.run(main())) == [0, 0]


@pytest.mark.parametrize(
    ("remaining", "distance_m"), [(0, 50.0), (5, 0.0), (5, float("nan")), (5, float("inf"))]
)
def test_states_that_make_no_sense_are_refused(policy, remaining, distance_m):
    async def main():
        await scheduler_of(policy).ask("a", ID, 1, remaining, distance_m)

    with pytest.raises(MecError, match="expected tasks left and a distance"):
        asyncio.run(main())


def test_it_takes_the_policies_of_the_package(policy):
    async def main():
        scheduler = scheduler_of(FullOffload(policy.scenario), devices="ab")
        return await asyncio.gather(*(scheduler.ask(d, ID, 1, 50, 50.0) for d in "ab"))

    a, b = asyncio.run(main())
    assert points(a) == points(b) == [0, 0, 0, 0]
    assert [a["tasks"][0]["server"], b["tasks"][0]["server"]] == [0, 1]
    assert a["tasks"][0]["power_w"] == pytest.approx(0.02)


OTHER = "1" * 16


def test_a_name_is_one_devices_until_its_lease_ends(policy):
    async def main():
        scheduler = WindowScheduler(policy, NEVER, 60.0, clock=lambda: now[0])
        assert scheduler.register("a", ID, 50.0) == 0
        with pytest.raises(TakenError, match=r"'a'.*it is free in 60 s"):
            scheduler.register("a", OTHER, 50.0)
        with pytest.raises(UnknownDeviceError):
            await scheduler.ask("a", OTHER, 2**53, 5, 50.0)
        with pytest.raises(UnknownDeviceError):
            scheduler.leave("a", OTHER)
        now[0] = 50.0
        await scheduler.ask("a", ID, 1, 5, 50.0)  # which renews the lease
        now[0] = 109.0
        assert scheduler.devices == ["a"]
        now[0] = 110.0
        assert scheduler.devices == []
        assert scheduler.register("a", OTHER, 50.0) == 0
        with pytest.raises(UnknownDeviceError, match="register first"):
            await scheduler.ask("a", ID, 2, 5, 50.0)

    now = [0.0]
    asyncio.run(main())


def test_a_dead_devices_place_is_free_after_its_lease(policy):
    now = [0.0]
    scheduler = WindowScheduler(policy, NEVER, 60.0, clock=lambda: now[0])
    for name in "abc":
        scheduler.register(name, ID, 50.0)
    now[0] = 60.0
    assert scheduler.register("d", ID, 50.0) == 0
    assert scheduler.devices == ["d"]


def test_nobody_waits_for_a_device_whose_lease_ended(policy):
    async def main():
        scheduler = WindowScheduler(policy, NEVER, 60.0, clock=lambda: now[0])
        scheduler.register("a", ID, 50.0)
        scheduler.register("b", ID, 50.0)
        now[0] = 59.0
        waiting = asyncio.ensure_future(scheduler.ask("a", ID, 1, 5, 50.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        now[0] = 61.0
        assert scheduler.devices == ["a"]
        return await asyncio.wait_for(waiting, 5.0)

    now = [0.0]
    assert points(asyncio.run(main())) == [0, 0]


def test_another_policy_decides_from_the_next_window_on(policy):
    async def main():
        scheduler = scheduler_of(policy, devices="a")
        first = await scheduler.ask("a", ID, 1, 20, 50.0)
        scheduler.use(FullOffload(policy.scenario))
        return first, await scheduler.ask("a", ID, 2, 20, 50.0)

    first, second = asyncio.run(main())
    assert len(first["tasks"]) == 2 and len(second["tasks"]) == 4
