"""PettingZoo environments as RLlib's: an episode ends for RLlib when no agent is left."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_mec.algorithms.multi_agent_env import PettingZooMultiAgentEnv
from rllib_mec.envs import task_stream_v0
from rllib_mec.plugin import make_rllib_env
from rllib_mec.registry import ENVIRONMENTS


class Leaving(ParallelEnv):
    """Agents leave one after the other, as ``ends`` says: ``"terminated"`` or ``"truncated"``."""

    metadata = {"name": "leaving"}  # noqa: RUF012
    render_mode = None

    def __init__(self, ends):
        self.ends = dict(ends)
        self.possible_agents = list(ends)

    def observation_space(self, agent):
        return spaces.Discrete(2)

    action_space = observation_space

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        return dict.fromkeys(self.agents, 0), {agent: {} for agent in self.agents}

    def step(self, actions):
        acted, leaves = self.agents, self.agents[0]
        self.agents = acted[1:]
        ended = self.ends[leaves]
        return (
            dict.fromkeys(acted, 1),
            dict.fromkeys(acted, 1.0),
            {agent: agent == leaves and ended == "terminated" for agent in acted},
            {agent: agent == leaves and ended == "truncated" for agent in acted},
            {agent: {} for agent in acted},
        )


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_episode_of_ours_ends_with_a_last_step_of_every_agent(name):
    env = make_rllib_env(name, {"num_devices": 3, "mean_tasks": 4.0})
    observations, _ = env.reset(seed=0)
    assert list(observations) == env.agents == env.possible_agents == ["md_0", "md_1", "md_2"]
    over = False
    while not over:
        actions = {agent: env.action_spaces[agent].sample() for agent in env.agents}
        observations, rewards, terminateds, truncateds, infos = env.step(actions)
        over = terminateds["__all__"] or truncateds["__all__"]
        for agent in env.possible_agents:
            assert env.observation_spaces[agent].contains(observations[agent])
            assert np.isfinite(rewards[agent]) and agent in infos
            assert (terminateds[agent] or truncateds[agent]) is over
        assert not (truncateds["__all__"] and terminateds["__all__"])
    assert env.par_env.agents == []
    observations, _ = env.reset()
    assert list(observations) == env.agents == env.possible_agents


@pytest.mark.parametrize(
    "ends",
    [
        {"a": "terminated", "b": "terminated"},
        {"a": "truncated", "b": "truncated"},
        {"a": "terminated", "b": "truncated"},
        {"a": "truncated", "b": "terminated"},
    ],
    ids=lambda ends: "-".join(ends.values()),
)
def test_it_ends_when_the_last_agent_leaves_however_each_of_them_does(ends):
    env = PettingZooMultiAgentEnv(Leaving(ends))
    env.reset()
    *_, terminateds, truncateds, _ = env.step({"a": 0, "b": 0})
    assert not terminateds["__all__"] and not truncateds["__all__"]
    assert env.par_env.agents == ["b"]
    observations, rewards, terminateds, truncateds, _ = env.step({"b": 0})
    assert list(observations) == list(rewards) == ["b"]
    assert terminateds["__all__"] or truncateds["__all__"]
    assert terminateds["__all__"] != truncateds["__all__"]
    assert env.par_env.agents == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_rllib_accepts_an_environment_whose_first_step_may_end_the_episode(name):
    from ray.rllib.utils.pre_checks.env import check_multiagent_environments

    own = {"mec_time_slot_v0": {"slot_ms": 1e6}, "mec_task_stream_v0": {"horizon_ms": 1.0}}
    env = make_rllib_env(name, {"num_devices": 2, "mean_tasks": 0.01, **own.get(name, {})})
    env.reset(seed=42)
    _, _, terminateds, truncateds, _ = env.step(
        {a: env.action_spaces[a].sample() for a in env.agents}
    )
    assert terminateds["__all__"] or truncateds["__all__"]
    check_multiagent_environments(env)


def test_rendering_and_spaces_are_those_of_the_adapted_environment():
    env = make_rllib_env("mec_task_window_v0", {"num_devices": 2, "render_mode": "ansi"})
    env.reset(seed=0)
    assert env.render_mode == "ansi" and env.render().startswith("no task window yet")
    assert env.metadata["name"] == "mec_task_window_v0"
    for agent in env.possible_agents:
        assert env.action_spaces[agent] is env.par_env.action_space(agent)
        assert env.observation_spaces[agent] is env.par_env.observation_space(agent)


def test_options_reach_the_adapted_environment():
    env = make_rllib_env("mec_task_window_v0", {"num_devices": 2})
    observations, _ = env.reset(seed=0, options={"num_tasks": 50})
    np.testing.assert_array_equal(observations["md_0"][:2], [1.0, 1.0])


def test_the_last_to_leave_is_reported_a_step_later_since_rllib_would_end_the_episode(tmp_path):
    path = tmp_path / "visits.csv"
    path.write_text("device,join_s,leave_s\n0,0,0.2\n1,0.2,0.5\n", "utf-8")
    settings = {"num_devices": 2, "visits": str(path), "arrival_rate_hz": 50.0}
    env = PettingZooMultiAgentEnv(task_stream_v0.parallel_env(**settings))
    seen, _ = env.reset(seed=1)
    acted, over = set(seen), False
    known, done, log = set(seen), set(), []
    while not over:
        actions = {agent: env.action_spaces[agent].sample() for agent in acted}
        seen, rewards, terminateds, _, _ = env.step(actions)
        over = terminateds.pop("__all__")
        assert set(rewards) <= acted
        known, done = known | set(seen), done | {a for a, is_over in terminateds.items() if is_over}
        assert over or known != done
        acted = {agent for agent in seen if agent not in done}
        log.append((tuple(sorted(seen)), tuple(sorted(done))))
    assert known == done == {"md_0", "md_1"}
    assert (("md_1",), ()) in log  # md_0 has left, but nobody else was known
