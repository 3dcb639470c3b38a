"""The time-slot MDP in PettingZoo's API: what agents see, and how it takes bad input."""

from __future__ import annotations

import math

import pytest

from rllib_mec.envs import time_slot_v0
from rllib_mec.errors import MecError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slot_ms": 0}, "slot_ms must be positive, but is 0"),
        ({"slot_ms": -5.0}, "slot_ms must be positive, but is -5.0"),
        ({"slot_ms": math.nan}, "slot_ms must be a finite number, but is nan"),
        ({"slot_ms": math.inf}, "slot_ms must be a finite number, but is inf"),
        ({"slot_ms": "50"}, "slot_ms must be a number, but is '50'"),
        ({"slot_ms": None}, "slot_ms must be a number, but is None"),
        ({"min_mean_tasks": 0}, "min_mean_tasks must be positive, but is 0"),
        ({"observe_progress": 1}, "observe_progress must be true or false, but is 1"),
        ({"max_window": 5}, "max_window must be 1 in a time slot, but is 5; .*mec_task_window_v0"),
        ({"slot_mss": 50}, "unknown argument of mec_time_slot_v0 'slot_mss': .* 'slot_ms'"),
        ({"num_device": 3}, "'num_device': did you mean 'num_devices'"),
        ({"dnn": "resnet5"}, "unknown dnn 'resnet5': did you mean 'resnet50'"),
        ({"render_mode": "film"}, "unknown render_mode 'film'"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(MecError, match=message) as error:
        time_slot_v0.parallel_env(**arguments)
    assert "\n" not in str(error.value)


def test_the_observation_space_has_the_progress_where_it_is_observed():
    env = time_slot_v0.parallel_env(num_devices=2, slot_ms=5.0, observe_progress=True)
    observations, _ = env.reset(seed=1)
    assert env.state_space.shape == (10,) and observations["md_0"].shape == (12,)
    while env.agents:
        observations, *_ = env.step({a: env.action_space(a).sample() for a in env.agents})
        assert env.state_space.contains(env.state())
    assert not env.state()[[0, 1, 4, 5, 6, 7, 8, 9]].any()  # nothing is left, or in flight


def test_it_renders_the_last_slot():
    env = time_slot_v0.parallel_env(num_devices=2, slot_ms=20.0, render_mode="ansi")
    env.reset(seed=1)
    assert env.render().startswith("no time slot yet")
    env.step({a: env.action_space(a).sample() for a in env.agents})
    assert env.render().startswith("time slot, latency 20.0 ms")
