"""The physics against the paper's Tables IV and V.

Only rates that are recomputed at every event, among the MDs that transmit at that moment, explain
Table V: read as static sums, Eq. (1) would add 5 ms a task at N = 4 and 8 ms at N = 6.
"""

from __future__ import annotations

import numpy as np
import pytest

from rllib_mec.evaluation import evaluate
from rllib_mec.network.defaults import PROFILES
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, LocalOnly


@pytest.mark.parametrize(("num_devices", "ms_per_task"), [(1, 9.4), (2, 9.7), (4, 18.3), (6, 26.7)])
def test_offloading_everything_at_20_mw_and_50_m(num_devices, ms_per_task):
    policy = FullOffload(Scenario(num_devices=num_devices), power_w=0.02)
    latency = evaluate(policy, episodes=200)["latency_ms"].mean
    assert latency / 50 == pytest.approx(ms_per_task, rel=0.03)


def test_one_device_offloading_gives_the_papers_first_row():
    # Table V, N = 1: 9.20 ms, 0.0145 J, -9.93; with shadowing 9.4 ms, 0.016 J, -10.2.
    shadowed = evaluate(FullOffload(Scenario(num_devices=1)), episodes=200)
    assert shadowed["energy_j"].mean == pytest.approx(0.016, rel=0.05)
    assert shadowed["reward"].mean == pytest.approx(-10.2, rel=0.02)
    clear = evaluate(FullOffload(Scenario(num_devices=1, shadowing_std_db=0.0)), episodes=2)
    assert clear["energy_j"].mean == pytest.approx(0.013, rel=0.03)
    assert clear["reward"].mean == pytest.approx(-9.9, rel=0.01)


def test_in_si_units_one_device_needs_what_the_link_budget_says():
    # 1 204 224 bits (8 a value) at 20 MHz and 20 mW: 20e6 * log2(1 + 160) bit/s, then 8.603 ms.
    scenario = Scenario(profile="si", num_devices=1, shadowing_std_db=0.0)
    latency = evaluate(FullOffload(scenario), episodes=1)["latency_ms"].mean
    assert latency / 50 == pytest.approx(8.603 + 1e3 * 1_204_224 / (20e6 * 7.3309169), rel=1e-6)


@pytest.mark.parametrize("num_devices", range(1, 7))
@pytest.mark.parametrize("profile", PROFILES)
def test_local_only_comes_out_as_in_table_iv(num_devices, profile):
    scenario = Scenario(num_devices=num_devices, profile=profile)
    result = evaluate(LocalOnly(scenario), episodes=2)
    episodes = result.episodes
    np.testing.assert_array_equal(episodes.latency_ms, 2150.75)
    np.testing.assert_allclose(episodes.energy_j, 0.04089184256, rtol=1e-12)  # 4089.184256 MMACs
    np.testing.assert_allclose(episodes.reward, -(215.075 + 50 * 5 * 0.04089184256) / 5, rtol=1e-12)
    assert round(result["reward"].mean, 2) == -45.06
    np.testing.assert_array_equal(episodes.waiting_ms, 0.0)
    np.testing.assert_array_equal(episodes.local_share, 1.0)
    np.testing.assert_array_equal(episodes.num_windows, 10)
