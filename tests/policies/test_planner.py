"""The planner against enumerations of all decisions, and as a policy."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.algorithms.emh_ppo.imitation import demonstrate
from rllib_mec.envs import TaskWindowMDP
from rllib_mec.envs.time_slot import TimeSlotMDP
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, LocalOnly, Planner, PlannerBudget
from rllib_mec.policies.planner.episode_search import WindowCosts, best_windows
from rllib_mec.policies.planner.episode_values import EpisodeValues, row_of
from rllib_mec.policies.planner.plans import Plans, window_shapes
from rllib_mec.policies.planner.window_search import WindowSearch

QUICK = PlannerBudget(
    refined=4, rounds=20, proposals=4, samples=32, final_samples=64, places=3, network_tasks=2e5
)


def all_plans(search: WindowSearch, sizes: tuple[int, ...], powers_dbm: np.ndarray) -> Plans:
    """Every decision of a window: partition, channel, server and power of each task."""
    scenario = search.scenario
    slots = [(n, x) for n, size in enumerate(sizes) for x in range(size)]
    choices = list(
        itertools.product(
            range(scenario.table.num_points),
            range(scenario.num_channels),
            range(scenario.num_servers),
            powers_dbm,
        )
    )
    index = np.array(list(itertools.product(range(len(choices)), repeat=len(slots))))
    values = np.array(choices)[index]  # (plans, tasks, 4)
    shape = (len(index), len(sizes), scenario.max_window)
    columns = [np.zeros(shape) for _ in range(4)]
    for task, (n, x) in enumerate(slots):
        for column, value in zip(columns, values[:, task].T, strict=True):
            column[:, n, x] = value
    partition, channel, server, power = columns
    return Plans(
        np.tile(sizes, (len(index), 1)),
        partition.astype(int), channel.astype(int), server.astype(int), power,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "sizes", "num_powers", "samples"),
    [
        ({"num_devices": 1, "max_window": 2, "num_channels": 1, "num_servers": 1}, (2,), 12, 64),
        ({"num_devices": 2, "max_window": 1, "num_channels": 1, "num_servers": 1}, (1, 1), 12, 64),
        pytest.param(
            {"num_devices": 2, "max_window": 1}, (1, 1), 6, 64, marks=pytest.mark.slow
        ),
        pytest.param(
            {"num_devices": 2, "max_window": 2, "num_channels": 1, "num_servers": 1},
            (2, 1), 8, 32, marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_the_search_finds_what_an_enumeration_finds(fields, sizes, num_powers, samples):
    scenario = Scenario(**fields)
    everyone = np.arange(len(sizes))
    search = WindowSearch(TaskWindowMDP(scenario), everyone, np.full(len(sizes), 50.0))
    powers = np.linspace(6.0, scenario.max_power_dbm, num_powers)
    every = all_plans(search, sizes, powers)
    coarse = search.cost(every, samples, seed=7)
    candidates = every.take(np.argsort(coarse)[:50])
    optimum = search.cost(candidates, 4096, seed=10_000).min()

    plans, _ = search.run(np.array([sizes]), PlannerBudget())
    found = search.cost(plans, 4096, seed=10_000)
    assert found[0] <= optimum * 1.005


def exact_mean_cost(queues: tuple[int, ...], costs: WindowCosts) -> float:
    """Least mean cost over all sequences of windows that empty the queues, by enumeration.

    As in this search, larger windows go to longer queues.
    """
    least: dict[tuple[int, ...], dict[int, float]] = {(0,) * len(queues): {0: 0.0}}

    def solve(state: tuple[int, ...]) -> dict[int, float]:
        if state not in least:
            active = sum(tasks > 0 for tasks in state)
            best: dict[int, float] = {}
            for row, shape in enumerate(costs.sizes[active - 1]):
                after = np.array(state)
                after[:active] -= shape
                if after.min() >= 0:
                    falling = tuple(sorted(after.tolist(), reverse=True))
                    for length, total in solve(falling).items():
                        total += float(costs.costs[active - 1][row])
                        best[length + 1] = min(best.get(length + 1, np.inf), total)
            least[state] = best
        return least[state]

    return min(total / length for length, total in solve(queues).items())


@settings(max_examples=25, deadline=None)
@given(
    queues=st.lists(st.integers(0, 7), min_size=1, max_size=3).filter(any),
    seed=st.integers(0, 1000),
)
def test_the_sequence_of_windows_is_near_the_best_of_all(queues, seed):
    rng = np.random.default_rng(seed)
    queues = tuple(sorted(queues, reverse=True))
    sizes = [window_shapes([3] * k, [0] * k) for k in range(1, len(queues) + 1)]
    costs = WindowCosts(sizes, [rng.uniform(1.0, 2.0, len(shapes)) for shapes in sizes])

    path = best_windows(np.array(queues), costs, beam=64)

    total, state = 0.0, np.array(queues)
    for falling, row in path:
        assert tuple(state.tolist()) == falling
        active = np.count_nonzero(state)
        state[:active] -= sizes[active - 1][row]
        total += costs.costs[active - 1][row]
        assert (state >= 0).all()
        state = -np.sort(-state)
    assert not state.any()
    assert total / len(path) == pytest.approx(exact_mean_cost(queues, costs), rel=0.01)


def least_mean_cost(queues, kinds, sizes, costs):
    """Least mean cost of the windows that empty the queues, over all of their sequences."""

    @functools.cache
    def totals(state):
        if not any(state):
            return {0: 0.0}
        table = row_of(np.array(state) > 0, kinds)
        best = {}
        for size, cost in zip(sizes[table][0], costs[table][0], strict=True):
            after = np.array(state) - size
            if after.min() < 0:
                continue
            for kind in set(kinds):  # MDs of a kind change places
                own = np.array(kinds) == kind
                after[own] = -np.sort(-after[own])
            for length, total in totals(tuple(after.tolist())).items():
                best[length + 1] = min(best.get(length + 1, np.inf), total + cost)
        return best

    return min(total / length for length, total in totals(tuple(queues)).items())


@settings(max_examples=25, deadline=None)
@given(
    queues=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    kinds=st.sampled_from([(0, 0, 0), (0, 0, 1), (0, 1, 2)]),
    seed=st.integers(0, 1000),
)
def test_the_values_of_an_episode_are_those_of_an_enumeration(queues, kinds, seed):
    rng = np.random.default_rng(seed)
    for kind in set(kinds):
        own = [n for n in range(3) if kinds[n] == kind]
        for n, queue in zip(own, sorted((queues[n] for n in own), reverse=True), strict=True):
            queues[n] = queue
    _, members = np.unique(kinds, return_counts=True)
    sizes, costs = [], []
    for counts in list(itertools.product(*(range(c + 1) for c in members)))[1:]:
        active = [i < c for count, c in zip(members, counts, strict=True) for i in range(count)]
        choices = itertools.product(*((1, 2) if is_active else (0,) for is_active in active))
        sizes.append(np.array(list(choices))[None])
        costs.append(rng.uniform(1.0, 2.0, sizes[-1].shape[:2]))

    values = EpisodeValues(kinds, sizes, costs, np.array(queues), longest=6)

    assert values.mean == pytest.approx(least_mean_cost(queues, kinds, sizes, costs), rel=1e-4)
    assert values(np.array([queues]))[0] == pytest.approx(0.0, abs=1e-2)
    assert values(np.zeros((1, 3), dtype=int))[0] == 0.0


@pytest.fixture(scope="module")
def quick_planner() -> Planner:
    return Planner(Scenario(num_devices=3), budget=QUICK, cache=False)


def test_it_beats_the_fixed_policies_and_balances_the_queues(quick_planner):
    scenario = quick_planner.scenario
    planned = evaluate(quick_planner, episodes=20)
    for other in (LocalOnly(scenario), FullOffload(scenario)):
        assert planned["reward"].mean > evaluate(other, episodes=20)["reward"].mean

    quick_planner.expect_distances(50.0)
    worlds = TaskWindowMDP(scenario).make(1, num_tasks=50, distance_m=50.0)
    for _ in range(8):
        worlds.step(quick_planner.decide(worlds.observation()))
        assert np.ptp(worlds.queues) <= 2 * scenario.max_window


def test_an_md_with_an_empty_queue_is_left_alone_and_power_follows_the_distance(quick_planner):
    quick_planner.expect_distances(None)
    observation = np.array([[0.0, 0.4, 0.2, 0.5, 1.0, 0.1], [0.0, 0.4, 0.2, 0.5, 0.2, 0.1]])
    decision = quick_planner.decide(observation.astype(np.float32))
    assert decision["window"][0, 0] == 0
    assert (decision["partition"][0] == decision["partition"][1]).all()
    sent = decision["partition"][0, 1] < quick_planner.scenario.table.num_points - 1
    assert (decision["power"][0, 1] >= decision["power"][1, 1])[sent].all()


def test_an_equal_search_is_loaded_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    scenario = Scenario(num_devices=2)
    observation = np.full((1, 4), 0.5, dtype=np.float32)
    searched = Planner(scenario, budget=QUICK)
    searched.decide(observation)
    monkeypatch.setattr(WindowSearch, "refine", None)  # a second search would fail
    loaded = Planner(scenario, budget=QUICK)
    for head, values in searched.decide(observation).items():
        assert (loaded.decide(observation)[head] == values).all()
    for file in tmp_path.rglob("*.npz"):
        file.write_bytes(b"not an archive")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Planner(scenario, budget=QUICK).decide(observation)


@pytest.mark.parametrize("profile", ["paper", "si"])
def test_where_mds_stay_it_is_searched_there(profile):
    scenario = Scenario(num_devices=2, profile=profile)
    planner = Planner(scenario, budget=QUICK, cache=False)
    for distance_m in (5.0, 90.0, (5.0, 90.0)):
        own = evaluate(planner, episodes=20, num_tasks=10, distance_m=distance_m)
        for other in (LocalOnly(scenario), FullOffload(scenario)):
            theirs = evaluate(other, episodes=20, num_tasks=10, distance_m=distance_m)
            assert own["reward"].mean > theirs["reward"].mean


def test_many_mds_are_planned_together_and_their_queues_emptied():
    groups = [{"count": 5}, {"count": 4, "local_slowdown": 10}]
    for where in (Scenario(num_devices=9), Scenario(devices=groups)):
        planner = Planner(where, budget=QUICK, cache=False)
        shares = []
        planner.report = lambda what, share, shares=shares: shares.append(share)
        for asked in ({}, {"draw": True}):
            own = evaluate(planner, episodes=4, **asked)["reward"].mean
            assert own > evaluate(LocalOnly(where), episodes=4, **asked)["reward"].mean
        assert shares[0] == 0.0 and shares[-1] == 1.0


def test_the_last_tasks_of_many_mds_are_not_left_over():
    """At N = 32 the last windows, of few MDs, once made a plan worse than none."""
    scenario = Scenario(num_devices=32)
    planner = Planner(scenario, budget=QUICK, cache=False)
    planner.expect_distances(50.0)
    worlds = planner.mdp.make(1, 3, num_tasks=12, distance_m=50.0)
    rewards, ended = [], False
    while not ended:
        step = worlds.step(planner.decide(worlds.observation()))
        rewards.append(step.reward[0])
        ended = bool(step.terminated[0])
    local = evaluate(LocalOnly(scenario), episodes=2, num_tasks=12)["reward"].mean
    assert min(rewards) > 1.5 * local and np.mean(rewards) > local


def test_it_does_not_plan_time_slots():
    with pytest.raises(MecError, match="not a time slot"):
        Planner(TimeSlotMDP(Scenario(max_window=1)))


def test_nothing_of_an_evaluation_is_seen_while_planning(monkeypatch):
    seen = []
    make = TaskWindowMDP.make

    def remember(mdp, num_envs, seed=0, **fixed):
        worlds = make(mdp, num_envs, seed, **fixed)
        seen.append(worlds.get_state()["seeds"])
        return worlds

    monkeypatch.setattr(TaskWindowMDP, "make", remember)
    budget = PlannerBudget(refined=1, rounds=1, proposals=1, samples=2, final_samples=2)
    planner = Planner(Scenario(num_devices=1), budget=budget, cache=False)
    config = EMHPPOConfig().environment("mec_task_window_v0").debugging(seed=3)
    demonstrate(planner, 100, config)
    assert len(seen) > 2 and np.concatenate(seen).min() >= 2**62
