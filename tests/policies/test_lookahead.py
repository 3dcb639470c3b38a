"""Search at decision time: what it tries, and that what it finds is better."""

import numpy as np
import pytest

from rllib_mec.envs import TaskStreamMDP, TaskWindowMDP, TimeSlotMDP
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, LocalOnly, Lookahead, RoundRobin, ShortestQueue

UNLIKE = Scenario(
    devices=(
        {"count": 1, "dnn": "resnet50", "memory_mb": 60.0},
        {"count": 2, "dnn": "mobilenet_v2", "server_latency_ms": 0.5, "max_window": 2},
    ),
    num_servers=2,
)
SCENARIOS = [Scenario(num_devices=1), Scenario(num_devices=3, profile="si"), UNLIKE]


def mean_reward(policy, episodes=4, num_tasks=12):
    found = evaluate(policy, policy.mdp, episodes=episodes, num_tasks=num_tasks)
    return found.to_dict()["reward"]["mean"]


def test_a_policys_decision_is_judged_by_what_the_policy_decides_next_too():
    class Alternating(RoundRobin):
        """Offloads where a queue is of an even length: no plan that is repeated does that."""

        def decide(self, observation):
            actions = super().decide(observation)
            queues = np.rint(observation[:, :3] * self.scenario.mean_tasks).astype(int)
            odd = (queues % 2 == 1)[..., None]
            actions["partition"] = np.where(odd, self.scenario.full_local, actions["partition"])
            actions["window"] = np.minimum(actions["window"], 2)
            return actions

    scenario = Scenario(num_devices=3, shadowing_std_db=0.0)
    policy = Alternating(scenario)
    worlds = policy.mdp.make(1, num_tasks=[10, 7, 2], distance_m=50.0)
    observation, state, rewards = worlds.reset(), worlds.state, []
    search = Lookahead(policy, 8, samples=1)
    judged, count = search._rest_by_policy(state, policy.decide(observation), seed=5)
    while not worlds.get_state()["counters"][0, 0]:
        step = worlds.step(policy.decide(observation))
        observation = step.observation
        rewards.append(step.reward[0])
    assert count[0] == len(rewards) == 4
    np.testing.assert_allclose(judged[0], -sum(rewards), rtol=1e-9)


@pytest.mark.parametrize("make", [ShortestQueue, RoundRobin, FullOffload])
def test_a_few_candidates_better_a_rule_of_thumb(make):
    scenario = Scenario(num_devices=12)
    assert mean_reward(Lookahead(make(scenario), 32)) > 0.9 * mean_reward(make(scenario))


def test_where_nothing_is_better_the_policy_decides():
    scenario = Scenario(num_devices=2, num_channels=1, bandwidth_hz=10.0)
    worlds = TaskWindowMDP(scenario).make(3, num_tasks=10, distance_m=50.0)
    policy = LocalOnly(scenario)
    found = Lookahead(policy, 32).decide(worlds.reset())
    assert (found["partition"] == scenario.full_local).all()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=["one", "si", "unlike"])
def test_what_is_decided_can_be_played_to_the_end(scenario):
    policy = Lookahead(ShortestQueue(scenario), 16)
    worlds = policy.mdp.make(5, seed=3, num_tasks=[7] + [4] * (scenario.num_devices - 1))
    observation = worlds.reset()
    for _ in range(20):
        actions = policy.decide(observation)
        sizes = np.minimum(actions["window"] + 1, scenario.of_devices("max_window"))
        step = worlds.step(actions)
        assert (step.window_size <= sizes).all()
        observation = step.observation
    assert worlds.get_state()["counters"][:, 0].all()  # every world has ended an episode


def test_a_plan_is_judged_as_if_it_were_played_to_the_end():
    scenario = Scenario(num_devices=3, shadowing_std_db=0.0)
    policy = Lookahead(ShortestQueue(scenario), 8, samples=1)
    worlds = policy.mdp.make(1, num_tasks=[9, 7, 2], distance_m=50.0)
    observation = worlds.reset()
    actions = policy._policy.decide(observation)
    plans = policy._plans(worlds.queues, actions)
    plans.sizes[:] = [[3, 2, 1]]
    judged, count = policy._rest(worlds.state, np.zeros(1, dtype=int), plans, seed=5)
    by_rank = plans.of_devices(policy._order(worlds.queues))
    rewards = []
    while not worlds.get_state()["counters"][0, 0]:
        place = np.argsort(policy._order(worlds.queues), axis=1)
        now = by_rank.of_devices(place)
        played = {head: getattr(now, head) for head in ("partition", "channel", "server")}
        power = np.broadcast_to(actions["power"], now.power_dbm.shape)
        rewards.append(
            worlds.step({**played, "power": power, "window": now.sizes.clip(1) - 1}).reward[0]
        )
    assert count[0] == len(rewards)
    np.testing.assert_allclose(judged[0], -sum(rewards), rtol=1e-9)


def test_the_same_seed_decides_the_same_and_another_evaluation_begins_anew():
    scenario = Scenario(num_devices=3)
    worlds = TaskWindowMDP(scenario).make(4, num_tasks=20, distance_m=50.0)
    observation = worlds.reset()
    searches = [Lookahead(ShortestQueue(scenario), 24, seed=seed) for seed in (0, 0, 1)]
    first, same, other = (search.decide(observation) for search in searches)
    assert all((first[head] == same[head]).all() for head in first)
    assert any((first[head] != other[head]).any() for head in first)
    searches[0].decide(observation)
    searches[0].expect_distances(None)
    again = searches[0].decide(observation)
    assert all((first[head] == again[head]).all() for head in first)


def test_when_the_time_is_up_no_further_round_is_tried():
    scenario = Scenario(num_devices=3)
    observation = TaskWindowMDP(scenario).make(2, num_tasks=20, distance_m=50.0).reset()
    one_round = Lookahead(ShortestQueue(scenario), 8).decide(observation)
    many = Lookahead(ShortestQueue(scenario), 10_000, budget_ms=1e-6).decide(observation)
    assert all((one_round[head] == many[head]).all() for head in many)


def test_a_world_without_tasks_keeps_what_the_policy_decides():
    scenario = Scenario(num_devices=2)
    mdp = TaskWindowMDP(scenario)
    worlds = mdp.make(2, num_tasks=10, distance_m=50.0)
    state = worlds.get_state()
    state["queues"][1] = 0
    worlds.set_state(state)
    policy = ShortestQueue(scenario)
    found = Lookahead(policy, 16).decide(worlds.observation())
    own = policy.decide(worlds.observation())
    assert all((found[head][1] == own[head][1]).all() for head in own)


def test_it_simulates_where_it_decides_not_where_the_policy_was_made():
    own, far = Scenario(num_devices=2), Scenario(num_devices=2, bandwidth_hz=10.0)
    observation = TaskWindowMDP(far).make(2, num_tasks=10, distance_m=50.0).reset()
    search = Lookahead(FullOffload(own), 64)
    for there in (Lookahead(FullOffload(own), 64, mdp=TaskWindowMDP(far)),
                  search.on(TaskWindowMDP(far))):  # fmt: skip
        assert (there.decide(observation)["partition"] == far.full_local).any()
    assert search.on(TaskWindowMDP(own)) is search
    with pytest.raises(MecError, match="num_devices=2"):
        search.on(TaskWindowMDP(Scenario(num_devices=3)))


@pytest.mark.parametrize("mdp", [TimeSlotMDP(Scenario()), TaskStreamMDP(Scenario())])
def test_what_cannot_be_simulated_is_refused(mdp):
    with pytest.raises(MecError, match=r"which mec_.* has not: leave it out"):
        Lookahead(LocalOnly(mdp), 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": 0}, "candidates"),
        ({"candidates": 2.5}, "candidates"),
        ({"candidates": 8, "samples": 0}, "samples"),
        ({"candidates": 8, "budget_ms": 0.0}, "budget_ms"),
        ({"candidates": 8, "budget_ms": float("nan")}, "budget_ms"),
        ({"candidates": 8, "budget_ms": "x"}, "budget_ms"),
        ({"candidates": 8, "seed": -1}, "seed"),
    ],
)
def test_bad_settings_are_one_line(settings, message):
    with pytest.raises(MecError, match=message) as caught:
        Lookahead(LocalOnly(Scenario()), **settings)
    assert "\n" not in str(caught.value)
