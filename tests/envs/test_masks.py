"""Which choices make sense: the law, what agents are told, and what a user's own law may give."""

import dataclasses

import numpy as np
import pytest
from gymnasium import spaces

from rllib_mec.envs import (
    TaskStreamMDP,
    TaskWindowMDP,
    TimeSlotMDP,
    laws,
    task_stream_v0,
    task_window_v0,
    time_slot_v0,
)
from rllib_mec.envs.masks import action_mask
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario

UNLIKE = {
    "devices": [
        {"count": 1},
        {"count": 1, "memory_mb": 20.0, "max_window": 2},
        {"count": 1, "dnn": "mobilenet_v2"},
    ],
    "partition": "vertical",
    "num_channels": 3,
    "mean_tasks": 3,
}


def test_points_are_masked_that_a_device_does_not_have_or_hold():
    mdp = TaskWindowMDP(Scenario.from_dict(UNLIKE))
    mask = mdp.action_mask(mdp.make(4).state)
    points, scenario = np.arange(mdp.scenario.num_points), mdp.scenario
    last = [scenario.tables[0].full_local, scenario.playable[1, -1], scenario.full_local]
    for n in range(3):
        assert (mask["partition"][:, n] == (points <= last[n])).all()
    assert mask["channel"].shape == (4, 3, 3) and mask["channel"].all()
    assert mask["server"].shape == (4, 3, 2) and mask["server"].all()


def test_windows_are_masked_beyond_the_queue_and_the_largest():
    mdp = TaskWindowMDP(Scenario.from_dict(UNLIKE))
    worlds = mdp.make(3, num_tasks=[4, 4, 0])
    sizes = mdp.action_mask(worlds.state)["window"].sum(2)
    assert sizes.tolist() == [[4, 2, 1]] * 3
    assert mdp.action_mask(worlds.state)["window"][..., 0].all()


@pytest.mark.parametrize("make", [TaskWindowMDP, TimeSlotMDP, TaskStreamMDP])
def test_a_masked_choice_is_played_as_one_that_is_not(make):
    """Every choice beyond the mask gives bit for bit what the last one within it gives."""
    mdp = make(Scenario.from_dict({**UNLIKE, "arrival_rate_hz": 100.0}))
    worlds, others = mdp.make(16, 5), mdp.make(16, 5)
    rng = np.random.default_rng(0)
    masked = 0
    for _ in range(12):
        mask = laws.action_mask(mdp, worlds.state)
        shape = (16, 3, mdp.scenario.max_window)
        actions = {
            name: rng.integers(mask[name].shape[2], size=shape)
            for name in ("partition", "channel", "server")
        }
        actions |= {"power": rng.random(shape)}
        actions |= {"window": rng.integers(mask["window"].shape[2], size=shape[:2])}
        most = {name: mask[name].sum(2) - 1 for name in ("partition", "window")}
        within = {
            **actions,
            "partition": np.minimum(actions["partition"], most["partition"][..., None]),
            "window": np.minimum(actions["window"], most["window"]),
        }
        masked += sum((within[name] != actions[name]).sum() for name in most)
        one, two = worlds.step(actions), others.step(within)
        np.testing.assert_array_equal(one.reward, two.reward)
        np.testing.assert_array_equal(one.observation, two.observation)
        np.testing.assert_array_equal(one.point_tasks, two.point_tasks)
    assert masked > 100


def test_where_tasks_arrive_only_who_is_ready_is_bound_by_its_queue():
    mdp = TaskStreamMDP(Scenario(num_devices=3, arrival_rate_hz=200.0))
    worlds = mdp.make(32)
    for _ in range(10):
        worlds.step({k: v for k, v in _random(mdp, 32).items()})
    state = worlds.state
    ready = (state.queues > 0) & (state.flight.stage == 0)
    sizes = mdp.action_mask(state)["window"].sum(2)
    assert (sizes[ready] == np.minimum(state.queues, 5)[ready]).all() and ready.any()
    assert (sizes[~ready] == 5).all() and (~ready).any()


def _random(mdp, num_envs):
    rng = np.random.default_rng(1)
    scenario = mdp.scenario
    shape = (num_envs, scenario.num_devices, scenario.max_window)
    return {
        "partition": rng.integers(scenario.num_points, size=shape),
        "channel": rng.integers(scenario.num_channels, size=shape),
        "server": rng.integers(scenario.num_servers, size=shape),
        "power": rng.random(shape),
        "window": rng.integers(scenario.max_window, size=shape[:2]),
    }


VIEWS = [
    {},
    {"actions": "flat"},
    {"actions": "flat", "fixed_partition": 1, "power_levels": 3},
    {"actions": "continuous", "fixed_partition": 1},
]


@pytest.mark.parametrize("module", [task_window_v0, time_slot_v0, task_stream_v0])
@pytest.mark.parametrize("view", VIEWS)
def test_sampling_by_the_mask_gives_allowed_actions_in_every_view(view, module):
    groups = UNLIKE["devices"]
    if module is time_slot_v0:
        groups = [{k: v for k, v in group.items() if k != "max_window"} for group in groups]
    env = module.parallel_env(**{**UNLIKE, "devices": groups, "mean_tasks": 20}, **view)
    _, infos = env.reset(seed=1)
    for agent in env.agents:
        env.action_space(agent).seed(0)
    num_steps = 0
    while env.agents and num_steps < 30:
        masks = laws.action_mask(env.mdp, env._worlds.state)
        actions = {}
        for n, agent in enumerate(env.agents):
            actions[agent] = env.action_space(agent).sample(mask=infos[agent]["action_mask"])
            if view.get("actions") == "continuous":
                assert infos[agent]["action_mask"] is None
                continue
            decided = env.view.decode(actions[agent])
            for name in ("partition", "channel", "server"):
                assert masks[name][0, n][decided[name]].all() or "fixed_partition" in view
            assert masks["window"][0, n][decided["window"]]
        _, _, _, _, infos = env.step(actions)
        num_steps += 1
    assert num_steps > 2
    assert all("action_mask" in info for info in infos.values())


def test_a_mask_may_be_observed_beside_the_rest_as_rllib_has_it():
    """PettingZoo's suite takes an observed mask to be of a ``Discrete``, which no view is."""
    env = task_window_v0.parallel_env(**UNLIKE, actions="flat", observe_mask=True)
    observations, infos = env.reset(seed=1)
    while env.agents:
        for agent, seen in observations.items():
            assert env.observation_space(agent).contains(seen)
            expected = np.concatenate(infos[agent]["action_mask"])
            np.testing.assert_array_equal(seen["action_mask"], expected)
        actions = {
            agent: env.action_space(agent).sample(mask=infos[agent]["action_mask"])
            for agent in env.agents
        }
        observations, _, _, _, infos = env.step(actions)


def test_masks_have_the_form_of_the_space():
    env = task_window_v0.parallel_env(max_window=2)
    _, infos = env.reset(seed=0)
    mask, space = infos["md_0"]["action_mask"], env.action_space("md_0")
    assert set(mask) == set(space.spaces) and mask["power"] is None
    for name in ("partition", "channel", "server"):
        assert [len(own) for own in mask[name]] == space[name].nvec.tolist()
        assert {own.dtype for own in mask[name]} == {np.dtype(np.int8)}
    assert isinstance(space["window"], spaces.Discrete) and len(mask["window"]) == 2


def test_equal_devices_without_a_limit_have_nothing_that_is_masked_in_training():
    for make in (TaskWindowMDP, TimeSlotMDP, TaskStreamMDP):
        mdp = make(Scenario())
        assert laws.mask_columns(mdp, mdp.make(2).state) == {}
        unlike = make(Scenario.from_dict(UNLIKE))
        assert list(laws.mask_columns(unlike, unlike.make(2).state)) == ["partition_mask"]


def test_observations_tell_the_same_masks():
    mdp = TaskWindowMDP(Scenario.from_dict(UNLIKE))
    worlds = mdp.make(4)
    seen = laws.seen_mask_columns(mdp, worlds.observation())
    for name, mask in laws.mask_columns(mdp, worlds.state).items():
        np.testing.assert_array_equal(seen[name], mask)


class OneServerDown(TaskWindowMDP):
    """The second server is down while an MD has more than two tasks."""

    def action_mask(self, state):
        mask = action_mask(state, self.scenario)
        mask["server"][:, :, 1] = ~(state.queues > 2)
        return mask

    @property
    def masked_heads(self):
        return ("server",)


def test_a_law_of_a_users_own_holds_by_its_state():
    mdp = OneServerDown(Scenario(num_devices=2))
    worlds = mdp.make(1, num_tasks=[2, 3])
    found = laws.mask_columns(mdp, worlds.state)["server_mask"]
    assert found.tolist() == [[[True, True], [True, False]]]
    seen = laws.seen_mask_columns(mdp, worlds.observation())["server_mask"]
    np.testing.assert_array_equal(seen, found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"Own.action_mask must give a dict of partition, .*, but gave None"),
        ({"server": None}, r"must give a dict of partition, .*but gave one of \['server'\]"),
        ("floats", r"must give of 'server' an array \(1, 2, 2\) of bool .*gave one of float64"),
        ("shape", r"must give of 'server' an array \(1, 2, 2\) .*but gave one of shape \(1, 2\)"),
        ("nothing", r"with some choice for each MD, but gave none at \[0, 1\]"),
    ],
)
def test_a_mask_that_is_none_is_refused_in_one_line(given, message):
    @dataclasses.dataclass(frozen=True)
    class Own(TaskWindowMDP):
        def action_mask(self, state):
            mask = action_mask(state, self.scenario)
            if not isinstance(given, str):
                return given
            server = mask["server"]
            server[0, 1] = False
            own = {"floats": server * 1.0, "shape": server[..., 0], "nothing": server}
            return {**mask, "server": own[given]}

    mdp = Own(Scenario(num_devices=2))
    with pytest.raises(MecError, match=message):
        laws.action_mask(mdp, mdp.make(1).state)


def test_heads_that_are_none_are_refused():
    @dataclasses.dataclass(frozen=True)
    class Own(TaskWindowMDP):
        @property
        def masked_heads(self):
            return ("servers",)

    mdp = Own(Scenario())
    with pytest.raises(MecError, match=r"Own.masked_heads must give a tuple of names of partition"):
        laws.mask_columns(mdp, mdp.make(1).state)


OUTAGES = {
    "outages": "random",
    "server_up_ms": 100.0,
    "server_down_ms": 100.0,
    "device_up_ms": 400.0,
    "device_down_ms": 50.0,
}


def test_servers_that_are_down_are_masked_and_observations_tell():
    mdp = TaskStreamMDP(Scenario(num_servers=3, arrival_rate_hz=50.0), **OUTAGES)
    worlds = mdp.make(64)
    down = 0
    for _ in range(8):
        up = worlds.state.coming.present.servers_up
        mask = laws.mask_columns(mdp, worlds.state)["server_mask"]
        np.testing.assert_array_equal(mask[:, 0], up | ~up.any(1, keepdims=True))
        seen = laws.seen_mask_columns(mdp, worlds.observation())["server_mask"]
        np.testing.assert_array_equal(seen, mask)
        down += (~mask).sum()
        worlds.step(_random(mdp, 64))
    assert down > 0


def test_outages_need_devices_that_can_do_without_servers():
    with pytest.raises(MecError, match="outages must be none where memory_mb keeps an MD"):
        TaskStreamMDP(Scenario(memory_mb=20.0), **OUTAGES)
