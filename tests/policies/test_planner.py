"""The planner against enumerations of all decisions, and as a policy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rllib_mec.policies.planner.episode_search import WindowCosts, best_windows

from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.algorithms.emh_ppo.imitation import demonstrate
from rllib_mec.envs import TaskWindowMDP
from rllib_mec.envs.time_slot import TimeSlotMDP
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, LocalOnly, Planner, PlannerBudget
from rllib_mec.policies.planner.window_search import Plans, WindowSearch, window_shapes

QUICK = PlannerBudget(refined=4, rounds=20, proposals=4, samples=32, final_samples=64)


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
    search = WindowSearch(TaskWindowMDP(scenario), len(sizes), 50.0, np.random.default_rng(0))
    powers = np.linspace(6.0, scenario.max_power_dbm, num_powers)
    every = all_plans(search, sizes, powers)
    coarse = search.cost(every, samples, seed=7)
    candidates = every.take(np.argsort(coarse)[:50])
    optimum = search.cost(candidates, 4096, seed=10_000).min()

    planner = Planner(scenario, cache=False)
    row = int((planner._plans[len(sizes) - 1].sizes == np.array(sizes)).all(1).argmax())
    found = search.cost(planner._plans[len(sizes) - 1].take(np.array([row])), 4096, seed=10_000)
    assert found[0] <= optimum * 1.005


def exact_mean_cost(queues: tuple[int, ...], costs: WindowCosts) -> float:
    """Least mean cost over all sequences of windows that empty the queues, by enumeration.

    As in the planner, larger windows go to longer queues.
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
    sizes = [window_shapes(k, 3) for k in range(1, len(queues) + 1)]
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


@pytest.fixture(scope="module")
def quick_planner() -> Planner:
    return Planner(Scenario(num_devices=3), budget=QUICK, cache=False)


def test_it_beats_the_fixed_policies_and_balances_the_queues(quick_planner):
    scenario = quick_planner.scenario
    planned = evaluate(quick_planner, episodes=20)
    for other in (LocalOnly(scenario), FullOffload(scenario)):
        assert planned["reward"].mean > evaluate(other, episodes=20)["reward"].mean

    worlds = TaskWindowMDP(scenario).make(1, num_tasks=50, distance_m=50.0)
    for _ in range(8):
        worlds.step(quick_planner.decide(worlds.observation()))
        assert np.ptp(worlds.queues) <= 2 * scenario.max_window


def test_an_md_with_an_empty_queue_is_left_alone_and_power_follows_the_distance(quick_planner):
    observation = np.array([[0.0, 0.4, 0.2, 0.5, 1.0, 0.1], [0.0, 0.4, 0.2, 0.5, 0.2, 0.1]])
    decision = quick_planner.decide(observation.astype(np.float32))
    assert decision["window"][0, 0] == 0
    assert (decision["partition"][0] == decision["partition"][1]).all()
    sent = decision["partition"][0, 1] < quick_planner.scenario.table.num_points - 1
    assert (decision["power"][0, 1] >= decision["power"][1, 1])[sent].all()


def test_an_equal_search_is_loaded_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    scenario = Scenario(num_devices=2)
    searched = Planner(scenario, budget=QUICK)
    monkeypatch.setattr(WindowSearch, "refine", None)  # a second search would fail
    loaded = Planner(scenario, budget=QUICK)
    observation = np.full((1, 4), 0.5, dtype=np.float32)
    for head, values in searched.decide(observation).items():
        assert (loaded.decide(observation)[head] == values).all()
    for file in tmp_path.rglob("*.npz"):
        file.write_bytes(b"not an archive")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Planner(scenario, budget=QUICK)


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
