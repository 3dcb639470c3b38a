"""A law stands once: env, planner, policies, testbed and evaluation have the same one, changed too.

Each test asks two that would each need the law, a copy of which would go on as it was.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest

import rllib_mec
from rllib_mec.envs import ObservationLayout, TaskWindowMDP, TimeSlotMDP, reward
from rllib_mec.envs.actions import action_of_dbm
from rllib_mec.envs.from_mdp import env_class
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import LocalOnly, Planner, PlannerBudget
from rllib_mec.policies.planner.window_search import Plans, WindowSearch
from rllib_mec.testbed.scheduler import WindowScheduler

PACKAGE = Path(rllib_mec.__file__).parent
TINY = PlannerBudget(refined=1, rounds=1, proposals=1, samples=4, final_samples=4)
SEED, SAMPLES = 700, 3

DEFAULT = {"num_devices": 3}
OTHERS = {
    "one device": {"num_devices": 1, "max_window": 3},
    "si": {"num_devices": 2, "profile": "si", "mean_tasks": 20.0, "distance_range_m": (5.0, 40.0)},
    "watts, cut anywhere": {"num_devices": 3, "power_scale": "linear", "partition": "vertical"},
    "other weights": {"num_devices": 2, "energy_weight": 7.0, "waiting_weight": 3.0},
    "half of the features": {"num_devices": 2, "remote_feature_share": 0.5},
}
SCENARIOS = pytest.mark.parametrize("fields", [DEFAULT, *OTHERS.values()], ids=["default", *OTHERS])


def env_of(mdp):
    """The PettingZoo environment of an MDP."""
    return env_class("the MDP's", type(mdp))(**mdp.scenario.to_dict(), **mdp.settings)


# The planner's cost of a plan, and the reward of whoever plays it.


def search_of(mdp, num_active, distance_m=50.0):
    return WindowSearch(mdp, np.arange(num_active), np.full(num_active, distance_m))


def random_plans(search, count=6, seed=0):
    rng, scenario = np.random.default_rng(seed), search.scenario
    shape = (count, search.num_active, scenario.max_window)
    sizes = rng.integers(1, scenario.max_window, shape[:2], endpoint=True)
    return Plans(
        sizes=-np.sort(-sizes, axis=1),
        partition=rng.integers(scenario.table.num_points, size=shape),
        channel=rng.integers(scenario.num_channels, size=shape),
        server=rng.integers(scenario.num_servers, size=shape),
        power_dbm=rng.uniform(0.0, scenario.max_power_dbm, shape),
    )


def costs_of_playing(search, plans):
    """Minus the mean reward that agents get who play a plan, ``(L,)``: one episode a sample."""
    env = env_of(search.mdp)
    scenario, active = env.scenario, env.possible_agents[: search.num_active]
    num_tasks = [scenario.max_window if n in active else 0 for n in env.possible_agents]
    options = {"num_tasks": num_tasks, "distance_m": search.distances_m[0]}
    nothing = {
        key: np.zeros(scenario.max_window, int) for key in ("partition", "channel", "server")
    }
    nothing |= {"power": np.zeros(scenario.max_window), "window": 0}
    power_dbm = np.zeros((len(plans.sizes), scenario.num_devices, scenario.max_window))
    power_dbm[:, : search.num_active] = plans.power_dbm
    power = action_of_dbm(power_dbm, scenario)
    rewards = np.zeros((len(plans.sizes), SAMPLES))
    for row, sample in np.ndindex(rewards.shape):
        env.reset(seed=SEED + sample, options=options)
        actions = dict.fromkeys(env.possible_agents, nothing)
        for n, agent in enumerate(active):
            actions[agent] = {
                "partition": plans.partition[row, n],
                "channel": plans.channel[row, n],
                "server": plans.server[row, n],
                "power": power[row, n],
                "window": plans.sizes[row, n] - 1,
            }
        _, of_agents, _, _, _ = env.step(actions)
        rewards[row, sample] = of_agents["md_0"]
    return -rewards.mean(1)


def costs_of_planning(search, plans):
    return search.cost(plans, SAMPLES, SEED)


@SCENARIOS
@pytest.mark.parametrize("distance_m", [12.5, 50.0])
def test_a_plan_costs_the_planner_what_it_takes_from_who_plays_it(fields, distance_m):
    mdp = TaskWindowMDP(Scenario(**fields))
    for num_active in range(1, mdp.scenario.num_devices + 1):
        search = search_of(mdp, num_active, distance_m)
        plans = random_plans(search, seed=num_active)
        expected = costs_of_playing(search, plans)
        assert len(set(expected)) == len(expected)  # or there were nothing to compare
        assert costs_of_planning(search, plans) == pytest.approx(expected, rel=1e-12)


class PerTask(TaskWindowMDP):
    """A task costs 1, whatever it takes."""

    env_id = "per_task_v0"

    def task_rewards(self, outcome):
        slots = np.arange(self.scenario.max_window)
        return -(slots < outcome.num_tasks[..., None]).sum(1, dtype=float)


class Homebody(TaskWindowMDP):
    """A task that leaves its MD costs 1."""

    env_id = "homebody_v0"

    def task_rewards(self, outcome):
        sent = outcome.point_tasks[:, :-1].sum(1, keepdims=True)
        return np.repeat(-sent / self.scenario.max_window, self.scenario.max_window, axis=1)


class Wanderer(TaskWindowMDP):
    """A task that does not leave its MD costs 1."""

    env_id = "wanderer_v0"

    def task_rewards(self, outcome):
        stayed = outcome.point_tasks[:, -1:]
        return np.repeat(-stayed / self.scenario.max_window, self.scenario.max_window, axis=1)


def test_another_reward_changes_env_and_planner_alike():
    search = search_of(PerTask(Scenario()), 2)
    plans = random_plans(search)
    expected = plans.sizes.sum(1)
    assert costs_of_playing(search, plans) == pytest.approx(expected)
    assert costs_of_planning(search, plans) == pytest.approx(expected)


def test_the_planner_plans_by_the_reward_of_its_mdp():
    scenario = Scenario(num_devices=2)
    seen = TaskWindowMDP(scenario).make(4, seed=1).observation()
    for law, is_local in ((Homebody, True), (Wanderer, False)):
        decision = Planner(law(scenario), budget=TINY, cache=False).decide(seen)
        played = np.arange(scenario.max_window) <= decision["window"][..., None]
        assert ((decision["partition"] == scenario.table.full_local) == is_local)[played].all()


def test_evaluation_has_the_reward_of_the_mdp():
    mdp = PerTask(Scenario(num_devices=2, max_window=4))
    found = evaluate(LocalOnly(mdp), episodes=3, num_tasks=(6, 4)).episodes
    np.testing.assert_allclose(found.episode_return, -10.0)  # windows of 4 + 4 and 2 + 0 tasks
    np.testing.assert_allclose(found.reward, -5.0)


def test_equation_8_changed_where_it_stands_changes_env_and_planner_alike(monkeypatch):
    search = search_of(TaskWindowMDP(Scenario()), 3)
    plans = random_plans(search)

    def per_task(outcome, scenario):
        slots = np.arange(scenario.max_window)
        return -(slots < outcome.num_tasks[..., None]).sum(1, dtype=float)

    monkeypatch.setattr(reward, "window_rewards", per_task)
    expected = plans.sizes.sum(1)
    assert costs_of_playing(search, plans) == pytest.approx(expected)
    assert costs_of_planning(search, plans) == pytest.approx(expected)


class Clear(TaskWindowMDP):
    """A channel on which MD n has a gain of 1/(n + 1), however far away it is."""

    env_id = "clear_v0"

    def draw_gains(self, draw, distances_m):
        return np.tile(1.0 / (1 + np.arange(draw.num_devices)), (len(distances_m), 1))


def test_another_channel_changes_env_and_planner_alike():
    scenario = Scenario(num_devices=2)
    ours, clear = (search_of(law(scenario), 2) for law in (TaskWindowMDP, Clear))
    plans = random_plans(ours)
    plans.partition[:] = 0  # all is sent
    expected = costs_of_playing(clear, plans)
    assert costs_of_planning(clear, plans) == pytest.approx(expected, rel=1e-12)
    assert (expected < costs_of_planning(ours, plans) - 0.1).all()
    # Nothing is left to chance.
    assert clear.cost(plans, 1, 0) == pytest.approx(expected, rel=1e-12)


# What is seen: by agents, by policies in an evaluation, by the testbed's scheduler.


class Witness(LocalOnly):
    """Local only, and keeps what it saw."""

    def __init__(self, where):
        super().__init__(where)
        self.seen = []

    def decide(self, observation):
        self.seen.append(observation.copy())
        return super().decide(observation)


class Backwards(TaskWindowMDP):
    """Distances first, then queues, then the tasks that all MDs have left."""

    env_id = "backwards_v0"

    @property
    def observation_layout(self):
        num_devices = self.scenario.num_devices
        return ObservationLayout({"distances": num_devices, "queues": num_devices, "all": 1})

    def observe(self, state):
        ours = super().observe(state)
        queues, distances = np.split(ours, 2, axis=1)
        return np.concatenate([distances, queues, state.queues.sum(1, keepdims=True)], axis=1)


def seen_by_scheduler(mdp, queues, distances_m):
    """What the testbed's scheduler has its policy decide by, and what it says of itself."""
    policy = Witness(mdp)
    scheduler = WindowScheduler(policy, deadline_s=60.0)

    async def ask_all():
        devices = [f"board {n}" for n in range(len(queues))]
        for device in devices:
            scheduler.register(device, device, 1.0)
        asked = zip(devices, queues, distances_m, strict=True)
        questions = [(device, device, 1, *state) for device, *state in asked]
        await asyncio.gather(*(scheduler.ask(*question) for question in questions))

    asyncio.run(ask_all())
    [seen] = policy.seen
    np.testing.assert_array_equal(scheduler.observation(), seen)
    return seen


def seen_by_worlds(mdp, queues, distances_m):
    return mdp.make(1, num_tasks=queues, distance_m=distances_m).observation()


def seen_by_agents(mdp, queues, distances_m):
    """The global state, and each agent's observation without its one-hot."""
    env = env_of(mdp)
    observations, _ = env.reset(seed=0, options={"num_tasks": queues, "distance_m": distances_m})
    for agent, observation in observations.items():
        assert env.observation_space(agent).contains(observation)
        np.testing.assert_array_equal(observation[: -len(queues)], env.state())
    return env.state()[None]


def seen_in_evaluation(mdp, queues, distances_m):
    policy = Witness(mdp)
    evaluate(policy, episodes=1, num_tasks=queues, distance_m=distances_m)
    return policy.seen[0]


WATCHERS = pytest.mark.parametrize(
    "seen_by", [seen_by_scheduler, seen_by_agents, seen_in_evaluation], ids=lambda f: f.__name__
)


@SCENARIOS
@WATCHERS
def test_all_see_the_same_of_the_same_queues_and_distances(seen_by, fields):
    mdp = TaskWindowMDP(Scenario(**fields))
    rng = np.random.default_rng(1)
    for _ in range(5):
        queues = rng.integers(1, 80, mdp.scenario.num_devices).tolist()
        distances_m = rng.uniform(*mdp.scenario.distance_range_m, len(queues)).tolist()
        expected = seen_by_worlds(mdp, queues, distances_m)
        np.testing.assert_array_equal(seen_by(mdp, queues, distances_m), expected)


@WATCHERS
def test_another_observation_is_what_all_see(seen_by):
    mdp = Backwards(Scenario(num_devices=2, mean_tasks=20.0))
    expected = np.float32([[0.25, 1.0, 0.5, 2.0, 50.0]])  # d/100 m, X/λ, all tasks
    np.testing.assert_array_equal(seen_by_worlds(mdp, [10, 40], [25.0, 100.0]), expected)
    np.testing.assert_array_equal(seen_by(mdp, [10, 40], [25.0, 100.0]), expected)


def test_the_planner_reads_another_observation_by_its_layout():
    scenario = Scenario(num_devices=2)
    ours, backwards = TaskWindowMDP(scenario), Backwards(scenario)
    decisions = [
        Planner(mdp, budget=TINY, cache=False).decide(mdp.make(8, seed=4).observation())
        for mdp in (ours, backwards)
    ]
    for head, values in decisions[0].items():
        np.testing.assert_array_equal(decisions[1][head], values)


# What an episode draws: in an environment, and in an evaluation that draws as training does.


class Queue(TaskWindowMDP):
    """MD n always begins with 6 + n tasks, 10 (n + 1) m away."""

    env_id = "queue_v0"

    def draw_tasks(self, draw):
        return np.tile(6 + np.arange(draw.num_devices), (len(draw.keys), 1))

    def draw_distances(self, draw):
        return np.tile(10.0 * (1 + np.arange(draw.num_devices)), (len(draw.keys), 1))


def test_other_draws_change_env_and_evaluation_alike():
    mdp = Queue(Scenario(num_devices=3, mean_tasks=10.0))
    expected = np.float32([0.6, 0.7, 0.8, 0.1, 0.2, 0.3])
    env = env_of(mdp)
    env.reset(seed=5)
    np.testing.assert_array_equal(env.state(), expected)

    policy = Witness(mdp)
    drawn = evaluate(policy, episodes=4, draw=True)
    np.testing.assert_array_equal(policy.seen[0], np.tile(expected, (4, 1)))
    # Windows of 5 tasks, 43.015 ms each: MD 2 ends last, with its 8.
    np.testing.assert_allclose(drawn.episodes.num_windows, 2)
    np.testing.assert_allclose(drawn.episodes.latency_ms, 8 * 43.015)


def test_our_draws_are_those_of_an_environment_with_the_same_seed():
    mdp = TaskWindowMDP(Scenario(num_devices=2, mean_tasks=10.0))
    policy = Witness(mdp)
    evaluate(policy, episodes=3, seed=20, draw=True)
    env = env_of(mdp)
    for world in range(3):
        env.reset(seed=20 + world)
        np.testing.assert_array_equal(env.state(), policy.seen[0][world])


# The weights of Eq. (5): who reads them writes a law.

WEIGHTS = ("energy_weight", "waiting_weight")
WEIGHERS = {
    "network/scenario.py": "has them as fields",
    "envs/reward.py": "Eq. (8) of windows, MAHPPO's reward of slots",
    "envs/episodes.py": "Eq. (4), total_cost: no reward, but what a user pays",
    "evaluation/bound.py": "what no window costs less than; refused for other laws of rewards",
    "algorithms/emh_ppo/set_scenario.py": "what networks see of a scenario",
    "policies/heuristics.py": "a device's own criterion for its cut, whatever the reward",
}
HANDED_ON_TO = ("total_cost", "cost")  # Eq. (4) of EpisodeMetrics


def weighings(path):
    """Lines that mention a weight but to hand it on to Eq. (4)."""
    tree = ast.parse(path.read_text())
    handed_on = {
        id(argument)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", getattr(call.func, "attr", "")) in HANDED_ON_TO
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if id(node) not in handed_on
        and (
            (isinstance(node, ast.Attribute) and node.attr in WEIGHTS)
            or (isinstance(node, ast.Name) and node.id in WEIGHTS)
            or (isinstance(node, ast.Constant) and node.value in WEIGHTS)
        )
    ]


def test_nobody_else_weighs_energy_or_waiting():
    found = {
        path.relative_to(PACKAGE).as_posix(): lines
        for path in sorted(PACKAGE.rglob("*.py"))
        if (lines := weighings(path))
    }
    assert {name: lines for name, lines in found.items() if name not in WEIGHERS} == {}
    assert sorted(found) == sorted(WEIGHERS)  # nor does the list go stale


def test_an_mdp_has_no_field_that_weighs_them_anew():
    for mdp_class in (TaskWindowMDP, TimeSlotMDP):
        names = {field.name for field in dataclasses.fields(mdp_class)}
        assert not names & set(WEIGHTS)
