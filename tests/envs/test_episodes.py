"""Whole episodes and the paper's metrics of each."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rllib_mec.envs import TaskWindowMDP, VectorStep
from rllib_mec.envs.episodes import EpisodeMetrics, EpisodeTally, run_episodes
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import LocalOnly, RandomPolicy


def step(reward, latency, energy, waiting, window_size, point_tasks, terminated):
    window_size = np.array(window_size)
    num_envs, num_devices = window_size.shape
    return VectorStep(
        observation=np.zeros((num_envs, 2 * num_devices), np.float32),
        reward=np.array(reward),
        task_rewards=np.zeros((num_envs, 5)),
        terminated=np.array(terminated),
        truncated=np.zeros(num_envs, bool),
        latency_ms=np.array(latency),
        energy_j=np.array(energy),
        waiting_ms=np.array(waiting),
        window_size=window_size,
        played=np.zeros((num_envs, num_devices, 5), bool),
        point_tasks=np.array(point_tasks),
        stage_ends=np.zeros((num_envs, num_devices, 5, 3)),
        elapsed_ms=np.array(latency),
    )


TWO_STEPS = [
    step([-10.0, -20.0], [30.0, 50.0], [0.2, 0.4], [4.0, 0.0], [[2, 2], [5, 5]],
         [[3, 0, 1], [0, 0, 10]], [False, True]),
    step([-16.0, -30.0], [60.0, 70.0], [0.6, 0.5], [2.0, 1.0], [[5, 3], [1, 1]],
         [[1, 3, 4], [0, 2, 0]], [True, False]),
]  # fmt: skip


def test_metrics_of_an_episode_by_hand():
    tally = EpisodeTally(2, 2, 3)
    first = tally.add(TWO_STEPS[0])  # world 1 ends at once
    assert len(first) == 1
    assert first.reward == -20.0 and first.episode_return == -20.0
    assert first.latency_ms == 50.0 and first.waiting_ms == 0.0
    assert first.energy_j == pytest.approx(0.04)  # 0.4 J, 10 tasks
    assert first.window_size == 5.0 and first.local_share == 1.0 and first.num_windows == 1
    second = tally.add(TWO_STEPS[1])  # world 0 ends: 12 tasks, 6 an MD, in 2 windows
    assert len(second) == 1
    assert second.reward == -13.0 and second.episode_return == -26.0
    assert second.latency_ms == 90.0
    assert second.energy_j == pytest.approx(0.8 / 12)
    assert second.waiting_ms == pytest.approx(6.0 / 6)
    assert second.window_size == 3.0 and second.num_windows == 2
    assert first.point_tasks.tolist() == [[0, 0, 10]]
    assert second.point_tasks.tolist() == [[3 + 1, 0 + 3, 1 + 4]]
    np.testing.assert_allclose(second.point_share, [[4 / 12, 3 / 12, 5 / 12]])
    assert second.local_share == pytest.approx(5 / 12)


def test_equation_4_is_total_latency_and_weighted_total_energy():
    tally = EpisodeTally(2, 2, 3)
    first, second = (tally.add(each) for each in TWO_STEPS)
    assert first.cost(50.0) == pytest.approx(50.0 + 50 / 2 * 0.4)
    assert second.cost(50.0) == pytest.approx((30.0 + 60.0) + 50 / 2 * (0.2 + 0.6))
    assert second.cost(0.0) == second.latency_ms


def test_by_equation_4_a_task_costs_the_same_however_windows_are_cut():
    # Queues (80, 50, 20), all local: the last window of many tasks of the one MD left costs the
    # mean over windows as much as a window of one task of every MD.
    scenario = Scenario(num_devices=3)
    local = LocalOnly(scenario)
    task_ms, task_j = 43.015, 0.04089184256
    found = []
    for tasks_while_others_run in (5, 1):
        worlds, tally = (
            TaskWindowMDP(scenario).make(1, 7),
            EpisodeTally(1, 3, scenario.table.num_points),
        )
        state = worlds.get_state()
        state["queues"][:] = (80, 50, 20)
        worlds.set_state(state)
        ended = None
        while not ended:
            actions = local.decide(worlds.observation())
            if (worlds.queues[0] > 0).sum() > 1:
                actions["window"][:] = tasks_while_others_run - 1
            ended = tally.add(worlds.step(actions))
        found.append(ended)
    large, small = found
    expected = 80 * task_ms + 50 / 3 * 150 * task_j
    assert large.cost(50.0) == pytest.approx(expected, rel=1e-6)
    assert small.cost(50.0) == pytest.approx(expected, rel=1e-6)
    # Windows of all MDs, of two, of one: 4, 6, 6 of five tasks each, against 20 of one, 30 of one
    # and 6 of five. Latency over W_k: a task's, times N over the MDs at work.
    for metrics, counts in ((large, (4, 6, 6)), (small, (20, 30, 6))):
        assert metrics.num_windows == sum(counts)
        of_latency = np.dot(counts, (1.0, 1.5, 3.0)) / sum(counts) * task_ms
        assert metrics.reward == pytest.approx(-(of_latency + 50 * task_j), rel=1e-6)


def test_a_new_episode_starts_from_nothing():
    tally = EpisodeTally(2, 2, 3)
    tally.add(TWO_STEPS[0])
    tally.add(TWO_STEPS[1])
    third = tally.add(TWO_STEPS[0])  # world 1: its second episode had a window before this one
    assert third.episode_return == -50.0 and third.latency_ms == 120.0 and third.num_windows == 2


def test_a_restored_tally_continues():
    tally = EpisodeTally(2, 2, 3)
    tally.add(TWO_STEPS[0])
    state = tally.get_state()
    expected = tally.add(TWO_STEPS[1])
    other = EpisodeTally(2, 2, 3)
    other.set_state(state)
    np.testing.assert_equal(
        dataclasses.asdict(other.add(TWO_STEPS[1])), dataclasses.asdict(expected)
    )


def test_episodes_are_concatenated_in_order():
    tally = EpisodeTally(2, 2, 3)
    both = EpisodeMetrics.concatenate([tally.add(each) for each in TWO_STEPS])
    assert len(both) == 2
    assert both.reward.tolist() == [-20.0, -13.0]
    assert both.point_tasks.tolist() == [[0, 0, 10], [4, 3, 5]]


def test_every_world_plays_one_episode_and_they_stand_in_the_order_of_the_worlds():
    scenario = Scenario(num_devices=2, mean_tasks=6.0)  # episodes of different length
    metrics = run_episodes(LocalOnly(scenario).decide, scenario, 30, seed=3)
    assert len(metrics) == 30
    queues = TaskWindowMDP(scenario).make(30, 3).queues
    np.testing.assert_array_equal(metrics.num_windows, -(-queues.max(1) // 5))
    np.testing.assert_allclose(metrics.latency_ms, queues.max(1) * 43.015)
    np.testing.assert_allclose(
        metrics.window_size * metrics.num_windows * 2, queues.sum(1), rtol=1e-12
    )


def test_an_episode_depends_on_its_own_seed_alone():
    scenario = Scenario(num_devices=2, mean_tasks=6.0)
    decide = LocalOnly(scenario).decide
    many = run_episodes(decide, scenario, 10, seed=3)
    few = run_episodes(decide, scenario, 2, seed=6)
    np.testing.assert_array_equal(few.episode_return, many.episode_return[3:5])


def test_short_episodes_are_not_favoured():
    scenario = Scenario(num_devices=1, mean_tasks=6.0)
    metrics = run_episodes(LocalOnly(scenario).decide, scenario, 400, seed=0)
    expected = TaskWindowMDP(scenario).make(400, 0).queues.mean() * 43.015
    assert metrics.latency_ms.mean() == pytest.approx(expected)


def test_tasks_and_distance_can_be_fixed():
    scenario = Scenario(num_devices=3)
    seen = []

    def decide(observation):
        seen.append(observation)
        return LocalOnly(scenario).decide(observation)

    metrics = run_episodes(decide, scenario, 4, num_tasks=12, distance_m=50.0)
    np.testing.assert_array_equal(metrics.num_windows, 3)
    np.testing.assert_allclose(np.array(seen)[:, :, 3:], 0.5)
    np.testing.assert_allclose(np.array(seen)[:, 0, 0], np.float32([12 / 50, 7 / 50, 2 / 50]))


def test_metrics_are_those_of_the_steps():
    scenario = Scenario(num_devices=3, mean_tasks=5.0)
    metrics = run_episodes(RandomPolicy(scenario, 1).decide, scenario, 1, seed=8)
    worlds, policy = TaskWindowMDP(scenario).make(1, 8), RandomPolicy(scenario, 1)
    steps = []
    while not steps or not steps[-1].terminated[0]:
        steps.append(worlds.step(policy.decide(worlds.observation())))
    assert metrics.episode_return == pytest.approx(sum(s.reward[0] for s in steps))
    assert metrics.latency_ms == pytest.approx(sum(s.latency_ms[0] for s in steps))
    assert metrics.num_windows == len(steps)
