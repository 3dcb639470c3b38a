"""A batch over several threads: the same numbers, whatever their number and the batch's size."""

from __future__ import annotations

import numpy as np
import pytest
from test_pinned_trajectories import FIELDS

from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.engine import MANY
from rllib_mec.network.threads import in_threads
from rllib_mec.policies import LocalOnly
from rllib_mec.registry import ENVIRONMENTS, make_mdp

SEED, STEPS = 7, 3


def played(env, num_devices, num_envs, num_threads):
    """What the first two worlds of a batch give."""
    own = {"horizon_ms": 500.0} if env == "mec_task_stream_v0" else {}
    mdp = make_mdp(env, {"num_devices": num_devices, "num_servers": 3, "num_channels": 4, **own})
    worlds = mdp.make(num_envs, SEED, num_threads=num_threads)
    rng = np.random.default_rng(0)
    shape = (num_devices, mdp.scenario.max_window)
    steps = []
    for _ in range(STEPS):
        action = {
            "partition": rng.integers(worlds.num_points, size=shape),
            "channel": rng.integers(4, size=shape),
            "server": rng.integers(3, size=shape),
            "power": rng.random(shape),
            "window": rng.integers(shape[1], size=shape[0]),
        }
        every = {name: np.stack([values] * num_envs) for name, values in action.items()}
        result = worlds.step(every)
        steps.append({name: getattr(result, name)[:2] for name in FIELDS})
    return steps


@pytest.mark.parametrize("num_devices", [3, 2 * MANY])
@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_neither_threads_nor_the_batchs_size_change_a_bit(env, num_devices):
    alone = played(env, num_devices, 2, 1)
    for num_envs, num_threads in ((2, 2), (7, 1), (7, 2), (7, 3), (7, 16)):
        found = played(env, num_devices, num_envs, num_threads)
        for step, expected in zip(found, alone, strict=True):
            for name, values in expected.items():
                np.testing.assert_array_equal(step[name], values)


@pytest.mark.parametrize("num_envs", [1, 2, 5, 16])
@pytest.mark.parametrize("num_threads", [1, 2, 3, 32])
def test_every_world_is_played_once(num_envs, num_threads):
    count = np.zeros(num_envs, dtype=int)

    def play(worlds):
        count[worlds] += 1

    in_threads(play, num_envs, num_threads)
    assert (count == 1).all()


def test_an_error_in_a_thread_is_raised():
    def play(worlds):
        if worlds.start > 0:
            raise ValueError("in a thread")

    with pytest.raises(ValueError, match="in a thread"):
        in_threads(play, 4, 2)


def test_an_evaluation_is_the_same():
    policy = LocalOnly(make_mdp("mec_task_window_v0", {}))
    one, two = (evaluate(policy, episodes=5, num_threads=threads) for threads in (1, 2))
    for name, values in one.episodes.columns().items():
        np.testing.assert_array_equal(two.episodes.columns()[name], values)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", None])
def test_a_senseless_number_of_threads_is_refused_in_one_line(value):
    with pytest.raises(MecError, match=r"^num_threads must be [^\n]*$"):
        make_mdp("mec_task_window_v0", {}).make(2, num_threads=value)
