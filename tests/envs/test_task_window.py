"""The PettingZoo environment: what agents see and get, and how it takes bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rllib_mec.envs import task_window_v0
from rllib_mec.errors import MecError


def make(**kwargs):
    return task_window_v0.parallel_env(**kwargs)


def act(env, **changes):
    """All MDs send the input of as many tasks as they can, on channel and server 0."""
    slots = env.scenario.max_window
    action = {
        "partition": np.zeros(slots, dtype=int),
        "channel": np.zeros(slots, dtype=int),
        "server": np.zeros(slots, dtype=int),
        "power": np.full(slots, 0.5, dtype=np.float32),
        "window": slots - 1,
        **changes,
    }
    return dict.fromkeys(env.possible_agents, action)


def test_an_observation_is_queues_distances_and_the_agents_own_one_hot():
    env = make(num_devices=2, mean_tasks=20.0, distance_range_m=(1.0, 200.0))
    assert env.possible_agents == ["md_0", "md_1"]
    observations, infos = env.reset(seed=0, options={"num_tasks": 15, "distance_m": 50.0})
    assert list(observations) == list(infos) == env.agents == env.possible_agents
    np.testing.assert_allclose(observations["md_0"], [0.75, 0.75, 0.25, 0.25, 1.0, 0.0])
    np.testing.assert_allclose(observations["md_1"], [0.75, 0.75, 0.25, 0.25, 0.0, 1.0])
    np.testing.assert_allclose(env.state(), [0.75, 0.75, 0.25, 0.25])
    assert observations["md_0"].dtype == env.state().dtype == np.float32
    assert env.state_space.contains(env.state())


def test_an_episode_by_hand():
    # N = 1, no shadowing, 50 m, 1 W: 4.816896 Mbit at log2(1 + 8000) Mbit/s count as 0.3715 ms.
    env = make(num_devices=1, shadowing_std_db=0.0)
    env.reset(seed=0, options={"num_tasks": 7, "distance_m": 50.0})
    on_air = 4.816896 / np.log2(8001.0)
    power = np.ones(5)
    for count, left, over in ((5, 2, False), (2, 0, True)):
        observations, rewards, terminations, truncations, infos = env.step(act(env, power=power))
        latency = count * (on_air + 8.603)
        assert infos["md_0"]["latency_ms"] == pytest.approx(latency)
        assert infos["md_0"]["energy_j"] == pytest.approx(count * on_air)
        assert infos["md_0"]["waiting_ms"] == 0.0
        assert infos["md_0"]["window_size"] == count
        assert rewards["md_0"] == pytest.approx(-(latency + 50.0 * count * on_air) / count)
        assert (terminations, truncations) == ({"md_0": over}, {"md_0": False})
        assert observations["md_0"][0] == pytest.approx(left / 50)
    assert env.agents == []


def test_all_agents_get_the_same_reward_and_end_together():
    env = make(num_devices=3, mean_tasks=3.0)
    env.reset(seed=1)
    while env.agents:
        _, rewards, terminations, _, infos = env.step(act(env))
        assert len(set(rewards.values())) == len(set(terminations.values())) == 1
        assert len(infos) == len(rewards) == 3
        assert type(rewards["md_0"]) is float and type(terminations["md_0"]) is bool


def test_the_last_observation_has_empty_queues():
    env = make(num_devices=2)
    env.reset(seed=1, options={"num_tasks": 3, "distance_m": 50.0})
    observations, _, terminations, _, _ = env.step(act(env))
    assert all(terminations.values())
    np.testing.assert_array_equal(observations["md_0"], np.float32([0, 0, 0.5, 0.5, 1, 0]))
    np.testing.assert_array_equal(env.state(), np.float32([0, 0, 0.5, 0.5]))


def test_spaces_are_the_same_objects_each_time_and_contain_what_is_given():
    env = make(num_devices=2, max_window=4, num_channels=3, num_servers=5)
    for agent in env.possible_agents:
        assert env.observation_space(agent) is env.observation_space(agent)
        assert env.action_space(agent) is env.action_space(agent)
        space = env.action_space(agent)
        assert list(space["channel"].nvec) == [3] * 4
        assert list(space["server"].nvec) == [5] * 4
        assert list(space["partition"].nvec) == [env.scenario.table.num_points] * 4
        assert space["window"].n == 4 and space["power"].shape == (4,)
    assert env.action_space("md_0") is not env.action_space("md_1")
    observations, _ = env.reset(seed=3)
    for agent, observation in observations.items():
        assert env.observation_space(agent).contains(observation)


def test_what_it_gives_is_the_callers_to_change():
    env = make(num_devices=2)
    observations, _ = env.reset(seed=3)
    before = env.state()
    observations["md_0"][:] = -1.0
    env.state()[:] = -1.0
    np.testing.assert_array_equal(env.state(), before)


def test_a_seed_gives_a_sequence_of_different_episodes():
    env = make(num_devices=3)
    first = [env.reset(seed=5)[0]["md_0"]] + [env.reset()[0]["md_0"] for _ in range(3)]
    again = [env.reset(seed=5)[0]["md_0"]] + [env.reset()[0]["md_0"] for _ in range(3)]
    np.testing.assert_array_equal(first, again)
    assert len({tuple(observation) for observation in first}) == 4


def test_without_any_seed_runs_differ():
    first, second = (make(num_devices=3).reset()[0]["md_0"] for _ in range(2))
    assert not np.array_equal(first, second)


def test_options_hold_for_their_episode_only_and_keep_the_streams():
    def run():
        env = make(num_devices=2)
        states = [env.reset(seed=5)[0]["md_0"]]
        states.append(env.reset(options={"num_tasks": 50})[0]["md_0"])
        states.append(env.reset()[0]["md_0"])
        return states

    first, second = run(), run()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[1][:2], [1.0, 1.0])
    assert not np.array_equal(first[2][:2], [1.0, 1.0])


def test_a_fixed_distance_holds_in_all_windows_a_drawn_one_changes():
    env = make(num_devices=2)
    env.reset(seed=5, options={"distance_m": 50.0})
    env.step(act(env))
    np.testing.assert_allclose(env.state()[2:], 0.5)
    before = env.reset(seed=5)[0]["md_0"][2:4]
    env.step(act(env))
    assert not np.isclose(env.state()[2:], before).any()


BAD_OPTIONS = [
    *({"num_tasks": bad} for bad in (0, 1.5, True, "5", 10**30, 10**9 + 1, {}, {3})),
    *({"num_tasks": bad} for bad in ([1], [1, [2]], [1, -1], [0, 0], [10**20, 1], np.ones((2, 2)))),
    *({"distance_m": bad} for bad in (-1.0, 0, "near", np.nan, np.inf, 1e300, [5.0, np.nan], [])),
    {"distance": 5.0}, {"num_task": 5}, {1: 2}, [1], [], "abc", "", 5, 0, {"num_tasks"},
]  # fmt: skip


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_a_bad_option_is_refused_and_leaves_the_episode_running(options):
    env = make(num_devices=2)
    env.reset(seed=5)
    name = next(iter(options)) if isinstance(options, dict) else "options must be a mapping"
    with pytest.raises(MecError, match=str(name)) as error:
        env.reset(options=options)
    assert "\n" not in str(error.value)
    env.step(act(env))


def test_an_option_is_a_number_or_one_per_device_of_any_library():
    env = make(num_devices=2)
    states = []
    for tasks in (np.int64(4), [4, 4], (4, 4), np.array([4, 4]), torch.tensor([4, 4])):
        env.reset(seed=5, options={"num_tasks": tasks, "options": 1})
        states.append(env.state())
    assert (np.array(states) == states[0]).all()


@pytest.mark.parametrize("seed", [-1, 1.5, "one"])
def test_a_bad_seed_is_refused(seed):
    with pytest.raises(MecError, match="seed"):
        make().reset(seed=seed)


BAD_ACTIONS = {
    "no dict": ("go", r"action of md_1 must be a dict, but is str"),
    "misspelt key": ({"chanel": 0}, r"'chanel': did you mean 'channel'"),
    "wrong shape": ({"server": np.zeros(4, int)}, r"'server' of md_1 must have shape \(5,\), but"),
    "too high": ({"partition": np.full(5, 9)}, r"'partition' of md_1 must lie in \[0, 4\].* 9"),
    "negative": ({"channel": np.full(5, -1)}, r"'channel' of md_1 must lie in \[0, 1\].* -1"),
    "window too long": ({"window": 5}, r"'window' of md_1 must lie in \[0, 4\].* 5"),
    "power too high": ({"power": np.full(5, 1.1)}, r"'power' of md_1 must lie in \[0, 1\].* 1.1"),
    "power NaN": ({"power": np.full(5, np.nan)}, r"'power' of md_1 must lie in \[0, 1\].* nan"),
    "fractions": ({"server": np.full(5, 0.5)}, r"'server' of md_1 must be of integers"),
    "text": ({"power": ["high"] * 5}, r"'power' of md_1 must be an array of numbers"),
    "ragged": ({"power": [[1.0], 1, 1, 1, 1]}, r"'power' of md_1 must be an array of numbers"),
    "nothing": ({"power": None}, r"'power' of md_1 must be an array of numbers"),
}


@pytest.mark.parametrize(("change", "message"), BAD_ACTIONS.values(), ids=BAD_ACTIONS)
def test_a_bad_action_is_refused_in_one_line_that_names_agent_and_key(change, message):
    env = make(num_devices=2)
    env.reset(seed=5)
    actions = act(env)
    actions["md_1"] = {**actions["md_1"], **change} if isinstance(change, dict) else change
    before = env.state()
    with pytest.raises(MecError, match=message) as error:
        env.step(actions)
    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(env.state(), before)
    env.step(act(env))


def test_every_live_agent_must_act_and_no_one_else():
    env = make(num_devices=2)
    env.reset(seed=5)
    actions = act(env)
    with pytest.raises(MecError, match="no action for md_1"):
        env.step({"md_0": actions["md_0"]})
    with pytest.raises(MecError, match="unknown agent 'md_2'"):
        env.step({**actions, "md_2": actions["md_0"]})
    del actions["md_1"]["power"]
    with pytest.raises(MecError, match="action of md_0 lacks 'power'"):
        env.step(actions)  # the two share one dict


def test_stepping_needs_a_running_episode():
    env = make(num_devices=2)
    with pytest.raises(MecError, match="call reset"):
        env.step(act(env))
    env.reset(seed=0, options={"num_tasks": 1})
    env.step(act(env))
    with pytest.raises(MecError, match="call reset"):
        env.step(act(env))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"num_device": 3},
            "unknown argument of mec_task_window_v0 'num_device': did you mean 'num_devices'",
        ),
        ({"num_devices": 0}, "num_devices must be at least 1, but is 0"),
        ({"dnn": "resnet5"}, "unknown dnn 'resnet5': did you mean 'resnet50'"),
        ({"profile": "SI"}, "unknown profile 'SI': did you mean 'si'"),
        ({"render_mode": "rgb"}, "unknown render_mode 'rgb': did you mean 'rgb_array'"),
        ({"render_mode": "film"}, "unknown render_mode 'film'"),
    ],
)
def test_bad_arguments_are_refused_with_the_nearest_choice(kwargs, message):
    with pytest.raises(MecError, match=message) as error:
        make(**kwargs)
    assert "\n" not in str(error.value)
