"""Tasks that arrive spend as long in the system as queueing theory says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from rllib_mec.envs import TaskStreamMDP
from rllib_mec.policies import FullOffload, LocalOnly

LOCAL_MS, SERVER_MS = 43.015, 8.603


def mean_sojourns_ms(policy, num_envs, seed, warm_up, cool_down):
    """Mean sojourn of each world's tasks that come between two shares of the horizon."""
    mdp = policy.mdp
    worlds = mdp.make(num_envs, seed, distance_m=10.0)
    arrival_ms, end_ms = (np.full((num_envs, mdp.scenario.num_devices, 1), np.inf) for _ in "ab")
    seen = np.zeros(num_envs, dtype=bool)  # worlds near the end of their episode
    while not seen.all():
        near = (worlds.clock_ms > 0.96 * mdp.horizon_ms) & ~seen
        if near.any():
            tasks = worlds.tasks
            room = ((0, 0), (0, 0), (0, tasks.arrival_ms.shape[2] - arrival_ms.shape[2]))
            arrival_ms, end_ms = (
                np.pad(times, room, constant_values=np.inf) for times in (arrival_ms, end_ms)
            )
            arrival_ms[near], end_ms[near] = tasks.arrival_ms[near], tasks.end_ms[near]
            seen |= near
        step = worlds.step(policy.decide(worlds.observation()))
        assert seen[step.truncated].all()
    came = arrival_ms / mdp.horizon_ms
    counted = (came > warm_up) & (came < cool_down)
    assert np.isfinite(end_ms[counted]).all()
    sojourn_ms = np.where(counted, end_ms, 0.0) - np.where(counted, arrival_ms, 0.0)
    return sojourn_ms.sum((1, 2)) / counted.sum((1, 2))


def assert_mean(values, expected):
    """Whether a mean is within the 99 % interval of independent values."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - expected) < t.ppf(0.995, len(values) - 1) * error
    assert error < 0.1 * expected  # or the interval says nothing


@pytest.mark.parametrize("load", [0.3, 0.6, 0.9])
def test_a_lone_local_device_is_an_m_d_1_queue(load):
    mdp = TaskStreamMDP.from_dict(
        {
            "num_devices": 1,
            "arrival_rate_hz": 1e3 * load / LOCAL_MS,
            "horizon_ms": 2500 * LOCAL_MS,
        }
    )
    found = mean_sojourns_ms(LocalOnly(mdp), 48, 7, warm_up=0.2, cool_down=0.9)
    assert_mean(found, LOCAL_MS * (1.0 + load / (2.0 * (1.0 - load))))


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_a_server_of_many_light_devices_is_processor_sharing(load):
    # Insensitive to how long tasks are: D / (1 - ρ). Sending takes next to nothing; a device
    # hardly ever has a second task at a time.
    num_devices = 300
    mdp = TaskStreamMDP.from_dict(
        {
            "num_devices": num_devices,
            "num_servers": 1,
            "num_channels": 2,
            "bandwidth_hz": 1e12,
            "shadowing_std_db": 0.0,
            "arrival_rate_hz": 1e3 * load / SERVER_MS / num_devices,
            "horizon_ms": 3000 * SERVER_MS,
        }
    )
    found = mean_sojourns_ms(FullOffload(mdp), 6, 3, warm_up=0.05, cool_down=0.95)
    assert_mean(found, SERVER_MS / (1.0 - load))
