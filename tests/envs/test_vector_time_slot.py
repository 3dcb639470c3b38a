"""The time-slot MDP: slots by hand, tasks in flight, and what holds for any slot length."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_mec.envs import TaskWindowMDP, TimeSlotMDP
from rllib_mec.envs.episodes import run_episodes
from rllib_mec.network.defaults import PROFILES
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, LocalOnly, RandomPolicy

ON_AIR_S = 4.816896 / math.log2(1 + 8000)  # the input at 1 W from 50 m, without shadowing
TASK_MS = ON_AIR_S + 8.603  # profile "paper": a second on air counts as a millisecond
LOCAL_MS = 43.015


@functools.cache
def mdp_of(*, slot_ms=50.0, observe_progress=False, **fields):
    return TimeSlotMDP(Scenario(**fields), slot_ms=slot_ms, observe_progress=observe_progress)


def same_for_all(mdp, num_envs=1, *, partition=0, power=1.0):
    """The same decision for all MDs, which are dealt to channels and servers in turn."""
    actions = LocalOnly(mdp).decide(np.zeros((num_envs, mdp.observation_size)))
    actions["partition"][:] = partition
    actions["power"][:] = power
    return actions


def test_slots_by_hand():
    mdp = mdp_of(slot_ms=10.0, num_devices=1, shadowing_std_db=0.0)
    worlds = mdp.make(1, num_tasks=3, distance_m=50.0)
    actions = same_for_all(mdp)
    first, second, third = (worlds.step(actions) for _ in range(3))
    # One task is done, the next one has been sent and is at the server; and so on.
    assert first.energy_j[0] == pytest.approx(2 * ON_AIR_S)
    assert first.reward[0] == pytest.approx(-(10.0 + 50.0 * 2 * ON_AIR_S))
    assert second.energy_j[0] == pytest.approx(ON_AIR_S)
    assert second.reward[0] == pytest.approx(-(10.0 + 50.0 * ON_AIR_S))
    assert third.energy_j[0] == pytest.approx(0.0, abs=1e-12) and third.reward[0] == -10.0
    # The last slot is cut where the last task ends.
    assert [s.latency_ms[0] for s in (first, second)] == [10.0, 10.0]
    assert third.latency_ms[0] == pytest.approx(3 * TASK_MS - 20.0)
    assert [s.terminated[0] for s in (first, second, third)] == [False, False, True]
    assert [s.window_size[0, 0] for s in (first, second, third)] == [1, 1, 1]
    assert [s.played[0, 0, 0] for s in (first, second, third)] == [True, True, False]
    np.testing.assert_allclose(first.stage_ends[0, 0, :2, 1:], [
        [ON_AIR_S, TASK_MS],
        [TASK_MS + ON_AIR_S, 10.0],  # in flight: up to the slot's end
    ])  # fmt: skip


def test_a_slot_in_which_no_task_ends_is_divided_by_the_floor():
    for floor in (0.8, 0.25):
        mdp = TimeSlotMDP(
            Scenario(num_devices=1, shadowing_std_db=0.0), slot_ms=0.2, min_mean_tasks=floor
        )
        step = mdp.make(1, distance_m=50.0).step(same_for_all(mdp))
        assert step.energy_j[0] == pytest.approx(0.2) and step.window_size[0, 0] == 0
        assert step.reward[0] == pytest.approx(-(0.2 + 50.0 * 0.2) / floor)
        assert step.task_rewards[0].tolist() == step.reward.tolist()


def test_a_task_in_flight_keeps_the_decision_it_began_with():
    mdp = mdp_of(slot_ms=10.0, num_devices=1, shadowing_std_db=0.0)
    worlds = mdp.make(1, num_tasks=2, distance_m=50.0)
    steps = [worlds.step(same_for_all(mdp, partition=mdp.scenario.table.num_points - 1))]
    while not steps[-1].terminated[0]:
        steps.append(worlds.step(same_for_all(mdp)))
    assert sum(s.latency_ms[0] for s in steps) == pytest.approx(LOCAL_MS + TASK_MS)
    assert [s.played[0, 0, 0] for s in steps] == [True, False, False, False, True, False]
    local_energy = 1e-5 * float(mdp.scenario.table.local_mmacs[-1])
    for step in steps[:4]:  # of 43.015 ms
        assert step.energy_j[0] == pytest.approx(local_energy * 10.0 / LOCAL_MS)
    assert steps[4].energy_j[0] == pytest.approx(local_energy * 3.015 / LOCAL_MS + ON_AIR_S)
    assert steps[4].local_share[0] == 1.0


def test_progress_is_what_is_left_of_the_tasks_in_flight():
    mdp = mdp_of(slot_ms=10.0, num_devices=2, shadowing_std_db=0.0, observe_progress=True)
    assert mdp.observation_size == 10
    worlds = mdp.make(1, num_tasks=50, distance_m=50.0)
    np.testing.assert_allclose(worlds.observation(), [[1, 1, 0.5, 0.5, 0, 0, 0, 0, 0, 0]])
    actions = same_for_all(mdp)
    actions["partition"][0, 0] = 4  # md_0 works locally, md_1 offloads
    step = worlds.step(actions)
    at_server_ms = 10.0 - TASK_MS - ON_AIR_S
    np.testing.assert_allclose(step.observation, [[
        1, 49 / 50, 0.5, 0.5,
        1 - 10 / LOCAL_MS, 0, 0, 0, 0, 1 - at_server_ms / 8.603,
    ]], rtol=1e-6)  # fmt: skip


@pytest.mark.parametrize("slot_ms", [7.3, 10.0, 50.0, 300.0, 5 * LOCAL_MS, LOCAL_MS / 4, 1e6])
@pytest.mark.parametrize("num_devices", [1, 3])
def test_local_only_takes_what_it_takes_in_task_windows(slot_ms, num_devices):
    mdp = mdp_of(slot_ms=slot_ms, num_devices=num_devices)
    metrics = run_episodes(LocalOnly(mdp).decide, mdp, 2, num_tasks=50, distance_m=50.0)
    np.testing.assert_allclose(metrics.latency_ms, 2150.75, rtol=1e-12)
    np.testing.assert_allclose(metrics.energy_j, 0.0409, atol=5e-5)
    np.testing.assert_array_equal(metrics.local_share, 1.0)
    # Rounding never adds a slot for a task that ends with the last one.
    np.testing.assert_array_equal(metrics.num_windows, math.ceil(2150.75 / slot_ms - 1e-9))


decisions = st.tuples(
    st.sampled_from(list(PROFILES)), st.integers(1, 4), st.integers(0, 2**32), st.integers(1, 12)
)


def constant(mdp, seed):
    """A decision of each MD that never changes."""
    actions = RandomPolicy(mdp, seed).decide(np.zeros((1, 1)))
    return lambda observation: actions


@settings(max_examples=40, deadline=None)
@given(decisions, st.floats(0.5, 400.0))
def test_in_a_still_channel_the_slots_length_changes_nothing_but_when_one_decides(drawn, slot_ms):
    profile, num_devices, seed, num_tasks = drawn
    short, endless = (
        mdp_of(slot_ms=ms, profile=profile, num_devices=num_devices, shadowing_std_db=0.0)
        for ms in (slot_ms, 1e9)
    )
    results = [
        run_episodes(constant(short, seed), each, 1, num_tasks=num_tasks, distance_m=40.0)
        for each in (short, endless)
    ]
    assert results[1].num_windows == 1
    for name in ("latency_ms", "energy_j", "local_share"):
        one, other = (getattr(result, name) for result in results)
        np.testing.assert_allclose(one, other, rtol=1e-9, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(decisions)
def test_an_endless_slot_is_a_task_window_of_the_same_decisions(drawn):
    profile, num_devices, seed, num_tasks = drawn
    slots = mdp_of(slot_ms=1e9, profile=profile, num_devices=num_devices)
    windows = TaskWindowMDP(slots.scenario.replace(max_window=num_tasks))
    decided = constant(slots, seed)(None)
    repeated = {key: np.repeat(values, num_tasks, -1) for key, values in decided.items()}
    repeated["window"] = np.full((1, num_devices), num_tasks - 1)
    slot = slots.make(1, seed, num_tasks=num_tasks).step(decided)
    window = windows.make(1, seed, num_tasks=num_tasks).step(repeated)
    assert slot.terminated[0] and window.terminated[0]
    for name in ("latency_ms", "window_size", "local_share"):
        np.testing.assert_array_equal(getattr(slot, name), getattr(window, name), err_msg=name)
    np.testing.assert_array_equal(slot.stage_ends[:, :, :num_tasks], window.stage_ends)
    np.testing.assert_allclose(slot.energy_j, window.energy_j, rtol=1e-12)
    energy_cost = 50.0 / num_devices * slot.energy_j
    np.testing.assert_allclose(slot.reward, -(1e9 + energy_cost) / num_tasks, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(decisions, st.sampled_from([0.7, 10.0, 50.0, 300.0]), st.booleans())
def test_nothing_is_ever_negative_and_every_task_is_done_once(drawn, slot_ms, observe_progress):
    profile, num_devices, seed, num_tasks = drawn
    mdp = mdp_of(
        slot_ms=slot_ms,
        observe_progress=observe_progress,
        profile=profile,
        num_devices=num_devices,
        mean_tasks=float(num_tasks),
    )
    worlds = mdp.make(2, seed)
    policy = RandomPolicy(mdp, seed)
    tasks = worlds.queues
    done = np.zeros_like(tasks)
    begun = np.zeros_like(tasks)
    running = np.ones(2, dtype=bool)
    while running.any():
        step = worlds.step(policy.decide(worlds.observation()))
        assert step.observation.shape == (2, mdp.observation_size)
        assert (step.observation >= 0.0).all() and np.isfinite(step.observation).all()
        assert (step.energy_j >= 0.0).all() and np.isfinite(step.energy_j).all()
        assert (step.latency_ms > 0.0).all() and (step.latency_ms <= slot_ms).all()
        assert (step.latency_ms[~step.terminated] == slot_ms).all()
        assert (step.reward < 0.0).all() and not step.waiting_ms.any()
        assert ((step.local_share >= 0.0) & (step.local_share <= 1.0)).all()
        begun[running] += step.played[running, :, 0]  # at least one task, maybe more
        done[running] += step.window_size[running]
        assert ((done >= 0) & (done <= tasks)).all()
        running &= ~step.terminated
    np.testing.assert_array_equal(done, tasks)
    assert ((begun >= 1) & (begun <= tasks)).all()


@settings(max_examples=40, deadline=None)
@given(decisions, st.sampled_from([3.0, 10.0, 50.0]))
def test_a_decision_that_was_not_played_changes_nothing(drawn, slot_ms):
    profile, num_devices, seed, num_tasks = drawn
    mdp = mdp_of(slot_ms=slot_ms, profile=profile, num_devices=num_devices)
    worlds, again = (mdp.make(4, seed, num_tasks=num_tasks) for _ in range(2))
    policy, other = RandomPolicy(mdp, seed), RandomPolicy(mdp, seed + 1)
    for _ in range(12):
        actions = policy.decide(worlds.observation())
        step = worlds.step(actions)
        instead = other.decide(worlds.observation())
        changed = {
            key: np.where(step.played[..., 0] if key == "window" else step.played, values,
                          instead[key])
            for key, values in actions.items()
        }  # fmt: skip
        for name, one, two in zip(step._fields, step, again.step(changed), strict=True):
            np.testing.assert_array_equal(one, two, err_msg=name)


def test_distances_and_channels_are_drawn_anew_in_every_slot():
    mdp = mdp_of(slot_ms=2.0, num_devices=1)
    worlds = mdp.make(1, 5, num_tasks=9)
    distances = []
    for _ in range(4):
        distances.append(worlds.distances_m[0, 0])
        worlds.step(same_for_all(mdp, partition=4))
    assert len(set(distances)) == 4
    # A transmission that takes long slots at the least rate ends sooner in short ones, as some
    # of them have a good channel.
    spans = [
        run_episodes(lambda _: same_for_all(mdp, 200, power=0.0), mdp_of(
            slot_ms=ms, num_devices=1), 200, num_tasks=1, distance_m=90.0).latency_ms
        for ms in (1.0, 1e6)
    ]  # fmt: skip
    assert spans[0].max() < spans[1].max() - 5.0


def test_a_restored_state_continues_bit_for_bit_with_tasks_in_flight():
    mdp = mdp_of(slot_ms=10.0, num_devices=3, observe_progress=True, mean_tasks=6.0)
    worlds, policy = mdp.make(4, 2), RandomPolicy(mdp)
    for _ in range(3):
        worlds.step(policy.decide(worlds.observation()))
    state = worlds.get_state()
    assert (state["flight"]["stage"] > 0).any()
    actions = [policy.decide(worlds.observation()) for _ in range(60)]
    steps = [worlds.step(action) for action in actions]
    assert sum(step.terminated.sum() for step in steps) > 4
    other = mdp.make(4, 77)
    other.step(actions[5])
    other.set_state(state)
    for action, step in zip(actions, steps, strict=True):
        for name, one, two in zip(step._fields, other.step(action), step, strict=True):
            np.testing.assert_array_equal(one, two, err_msg=name)


def test_reset_drops_the_tasks_in_flight():
    mdp = mdp_of(slot_ms=10.0, num_devices=2, observe_progress=True)
    worlds = mdp.make(3, 4)
    first = worlds.observation()
    worlds.step(same_for_all(mdp, 3, partition=4))
    assert worlds.observation()[:, 4:].any()
    np.testing.assert_array_equal(worlds.reset(4), first)
    assert not first[:, 4:].any()


def test_more_tasks_in_a_slot_than_are_recorded_are_all_counted():
    mdp = mdp_of(slot_ms=1e6, num_devices=1)
    step = mdp.make(1, num_tasks=100).step(same_for_all(mdp, partition=4))
    assert step.window_size[0, 0] == 100 and step.terminated[0] and step.local_share[0] == 1.0
    assert step.latency_ms[0] == pytest.approx(100 * LOCAL_MS)
    assert step.energy_j[0] == pytest.approx(100 * 1e-5 * float(mdp.scenario.table.local_mmacs[-1]))


def test_a_device_that_is_done_waits_for_nobody():
    # Full offload in task windows pays for waiting, in slots of any length it does not.
    windows = TaskWindowMDP(Scenario())
    in_windows = run_episodes(FullOffload(windows).decide, windows, 40, num_tasks=50)
    for slot_ms in (10.0, 300.0):
        mdp = mdp_of(slot_ms=slot_ms)
        in_slots = run_episodes(FullOffload(mdp).decide, mdp, 40, num_tasks=50)
        assert in_slots.latency_ms.mean() < in_windows.latency_ms.mean()
        assert not in_slots.waiting_ms.any()
