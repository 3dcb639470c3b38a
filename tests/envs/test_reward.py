"""Eq. (5) and (8), and their exact shares per task slot, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_mec.envs.reward import total_rewards, window_rewards
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.windows import WindowOutcome, summarise


def cost(task_ends, energy_j, alpha=0.05, beta=50.0):
    """``task_ends[n]`` lists when MD n's tasks ended; latency, waiting and energy come from it."""
    energy_j = np.array(energy_j, float)
    num_tasks = np.array([[len(ends) for ends in task_ends]])
    outcome = WindowOutcome.of(num_tasks, energy_j.shape[1], num_points=1)
    outcome.task_energy_j[0] = energy_j
    for n, ends in enumerate(task_ends):
        outcome.stage_ends[0, n, : len(ends)] = np.array(ends)[:, None]
    summarise(0, num_tasks[0], outcome)
    weights = Scenario(waiting_weight=alpha, energy_weight=beta)
    shares = window_rewards(outcome, weights)
    reward = total_rewards(shares)[0]
    found = reward, outcome.latency_ms[0], outcome.waiting_ms[0], outcome.energy_j[0]
    return found, shares[0]


def test_a_window_of_two_devices():
    (reward, latency, waiting, energy), shares = cost(
        [[10.0, 30.0], [24.0]], [[0.1, 0.2], [0.3, 0.0]]
    )
    assert latency == 30.0
    assert waiting == pytest.approx((0.0 + 6.0) / 2)
    assert energy == pytest.approx(0.6)
    mean_window = 1.5
    assert reward == pytest.approx(-(30.0 + 0.05 * 3.0 + 50.0 / 2 * 0.6) / mean_window)
    # The critical MD is the first: its tasks took 10 and 20 ms.
    assert shares[0] == pytest.approx(-(10.0 + 0.05 * 1.5 + 25.0 * 0.4) / mean_window)
    assert shares[1] == pytest.approx(-(20.0 + 0.05 * 1.5 + 25.0 * 0.2) / mean_window)


def test_the_waiting_penalty_is_shared_over_all_slots_even_those_not_played():
    (reward, _, waiting, _), shares = cost([[10.0], [4.0]], np.zeros((2, 5)))
    assert waiting == pytest.approx(3.0)
    assert shares == pytest.approx([-10.0 - 0.05 * 3.0 / 5] + [-0.05 * 3.0 / 5] * 4)
    assert reward == pytest.approx(-10.0 - 0.15)


def test_a_device_without_tasks_does_not_wait_but_counts_in_the_mean_window():
    (reward, latency, waiting, _), _ = cost([[10.0, 20.0], []], np.zeros((2, 2)))
    assert (latency, waiting) == (20.0, 0.0)
    assert reward == pytest.approx(-20.0 / 1.0)  # W_k = (2 + 0) / 2


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 12))
def test_the_shares_add_up_to_the_reward_to_the_last_bit(seed, num_devices, max_window):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, max_window + 1, num_devices)
    ends = [np.cumsum(rng.exponential(20.0, size)) for size in sizes]
    energy = rng.exponential(0.1, (num_devices, max_window))
    energy[np.arange(max_window) >= sizes[:, None]] = 0.0
    (reward, latency, waiting, joules), shares = cost(ends, energy)
    assert sum(shares.tolist()) == reward
    assert waiting >= 0.0
    assert reward == pytest.approx(
        -(latency + 0.05 * waiting + 50.0 / num_devices * joules) / sizes.mean()
    )
