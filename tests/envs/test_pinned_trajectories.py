"""What agents learn from never changes unnoticed: a digest of trajectories of each env id.

A change that is meant bumps the version in the env's id; only then
``python tests/envs/test_pinned_trajectories.py`` writes the digests anew.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from rllib_mec.registry import ENVIRONMENTS, make_mdp

PINS = Path(__file__).with_name("pinned_trajectories.json")
WORLDS, STEPS, SEEDS = 5, 24, (0, 12345)

FIELDS = (
    "observation",
    "reward",
    "task_rewards",
    "terminated",
    "latency_ms",
    "energy_j",
    "waiting_ms",
    "window_size",
    "played",
    "local_share",
    "stage_ends",
)

SCENARIOS = {
    "Table III": {},
    "si": {"profile": "si"},
    "alone": {"num_devices": 1, "num_channels": 1, "num_servers": 1},
    "crowded": {"num_devices": 6, "num_channels": 1, "num_servers": 3, "mean_tasks": 20.0},
    "few tasks": {"mean_tasks": 3.0, "shadowing_std_db": 0.0, "distance_range_m": (20.0, 300.0)},
    "linear power": {"power_scale": "linear", "min_spectral_efficiency": 0.0},
    "side by side": {"remote_feature_share": 0.5, "partition": "vertical"},
    "unlike": {
        "devices": [
            {"count": 2, "max_power_dbm": 20.0},
            {"count": 1, "dnn": "mobilenet_v2", "local_slowdown": 9.0, "mean_tasks": 12.0},
        ],
        "servers": [{"count": 1, "speed": 2.0, "latency_ms": 3.0}, {"count": 1}],
        "channels": [{"count": 1}, {"count": 1, "bandwidth_hz": 5e6, "noise_w": 1e-10}],
    },
    "other weights": {"energy_weight": 500.0, "waiting_weight": 2.0, "dnn": "mobilenet_v2"},
}
OF_THE_ENV = {
    "mec_task_window_v0": {"": {}, "windows of 2": {"max_window": 2}},
    "mec_task_stream_v0": {
        "": {"horizon_ms": 1500.0},
        "bursts": {"horizon_ms": 700.0, "arrivals": "bursts", "arrival_rate_hz": 60.0},
        "late": {"horizon_ms": 900.0, "arrival_rate_hz": 40.0, "deadline_ms": 60.0},
    },
    "mec_time_slot_v0": {
        "": {},
        "10 ms": {"slot_ms": 10.0},
        "300 ms": {"slot_ms": 300.0, "min_mean_tasks": 2.0, "observe_progress": True},
    },
}
CASES = [
    (env, own, name)
    for env in ENVIRONMENTS
    for own in OF_THE_ENV.get(env, [""])
    for name in SCENARIOS
]


def actions(mdp, num_points, step):
    """Decisions that visit every choice, without a random number generator."""
    scenario = mdp.scenario
    shape = (WORLDS, scenario.num_devices, scenario.max_window)
    index = np.arange(np.prod(shape)).reshape(shape) * 7919 + step * 104729
    return {
        "partition": index // 3 % num_points,
        "channel": index // 5 % scenario.num_channels,
        "server": index // 7 % scenario.num_servers,
        "power": index % 1009 / 1008.0,
        "window": (index[..., 0] // 11) % scenario.max_window,
    }


def digest(env, own, name):
    """Of all that two batches of worlds give in some steps, to nine digits."""
    mdp = make_mdp(env, {**SCENARIOS[name], **OF_THE_ENV.get(env, {"": {}})[own]})
    found = hashlib.sha256()

    def add(values):
        if values.dtype.kind == "f":
            found.update(" ".join(f"{value + 0.0:.8e}" for value in values.flat).encode())
        else:
            found.update(values.astype(np.int64).tobytes())

    for seed in SEEDS:
        worlds = mdp.make(WORLDS, seed)
        add(worlds.reset())
        for step in range(STEPS):
            result = worlds.step(actions(mdp, worlds.num_points, step))
            for field in FIELDS:
                add(getattr(result, field))
            if mdp.tasks_arrive:
                for field in ("truncated", "elapsed_ms", "starts"):
                    add(getattr(result, field))
    return found.hexdigest()[:16]


@pytest.mark.parametrize(("env", "own", "name"), CASES)
def test_a_trajectory_is_the_pinned_one(env, own, name):
    assert digest(env, own, name) == json.loads(PINS.read_text())[f"{env}, {own}, {name}"]


def test_every_pin_is_of_an_environment_there_is():
    assert sorted(json.loads(PINS.read_text())) == sorted(", ".join(case) for case in CASES)


if __name__ == "__main__":
    pins = {", ".join(case): digest(*case) for case in CASES}
    PINS.write_text(json.dumps(pins, indent=1) + "\n")
