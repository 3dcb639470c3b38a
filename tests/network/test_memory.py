"""Devices that cannot hold every head: what they play, who knows of it, and what is refused."""

import numpy as np
import pytest

from rllib_mec.dnn import model_graph, partition_table
from rllib_mec.envs import TaskStreamMDP, TaskWindowMDP, TimeSlotMDP
from rllib_mec.envs.action_views import action_view
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.evaluation.bound import lower_bound
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import (
    FullOffload,
    LocalOnly,
    Neurosurgeon,
    Planner,
    PlannerBudget,
    RandomPolicy,
    RoundRobin,
    ShortestQueue,
)

NEEDED_MB = partition_table("resnet50", "vertical").head_memory_bytes / 1e6
MDPS = (TaskWindowMDP, TimeSlotMDP, TaskStreamMDP)
QUICK = PlannerBudget(refined=1, rounds=4, proposals=2, samples=8, final_samples=8)


def limited(memory_mb, count=1, **fields):
    """An MD without a limit, and some with one."""
    groups = [{"count": 1}, {"count": count, "memory_mb": memory_mb}]
    return Scenario.from_dict({"partition": "vertical", "devices": groups, **fields})


def test_a_head_that_does_not_fit_is_played_as_the_nearest_before_it_that_does():
    last = int(np.searchsorted(NEEDED_MB, 20.0, side="right")) - 1
    scenario = limited(20.0)
    free, short = scenario.playable
    assert free.tolist() == list(range(scenario.num_points))
    assert short.tolist() == [min(s, last) for s in range(scenario.num_points)]
    assert scenario.runs_whole.tolist() == [True, False]
    exact = limited(float(NEEDED_MB[last]))
    assert exact.playable[1].tolist() == short.tolist()
    least = limited(float(NEEDED_MB[0]))
    assert not least.playable[1].any()


@pytest.mark.parametrize("make", MDPS)
def test_every_env_plays_what_fits(make):
    mdp = make(limited(20.0, max_window=2, mean_tasks=5))
    worlds, twins = mdp.make(8), mdp.make(8)
    policy = RandomPolicy(mdp)
    for _ in range(5):
        actions = policy.decide(worlds.observation())
        shown = {k: v.copy() for k, v in actions.items()}
        shown["partition"] = mdp.scenario.playable[np.arange(2)[:, None], actions["partition"]]
        steps = worlds.step(actions), twins.step(shown)
        for one, two in zip(*steps, strict=True):
            if isinstance(one, np.ndarray):
                np.testing.assert_array_equal(one, two)
        beyond = int(mdp.scenario.playable[1, -1]) + 1
        assert steps[0].point_tasks[:, beyond:].sum() <= steps[0].window_size[:, 0].sum()


@pytest.mark.parametrize(
    ("make", "own"),
    [(TaskWindowMDP, {}), (TimeSlotMDP, {"observe_progress": True}), (TaskStreamMDP, {})],
)
def test_devices_that_can_only_send_the_input_see_numbers(make, own):
    mdp = make(limited(float(NEEDED_MB[0])), **own)
    worlds, policy = mdp.make(8), RandomPolicy(mdp)
    for _ in range(5):
        worlds.step(policy.decide(worlds.observation()))  # refuses others
    assert np.isfinite(worlds.observation()).all()


def test_a_limit_that_does_not_bind_changes_nothing():
    free, wide = Scenario(), Scenario(memory_mb=1e4)
    worlds, others = (TaskWindowMDP(s).make(16) for s in (free, wide))
    policy = RandomPolicy(free)
    assert np.array_equal(free.physics.stage_work, wide.physics.stage_work)
    for _ in range(5):
        actions = policy.decide(worlds.observation())
        np.testing.assert_array_equal(worlds.step(actions).reward, others.step(actions).reward)
    assert lower_bound(free).cost == lower_bound(wide).cost
    assert not TaskWindowMDP(wide).remarks


def test_local_only_is_cut_at_the_last_point_that_fits_and_a_remark_says_so():
    scenario = Scenario(partition="vertical", memory_mb=20.0, num_devices=1, shadowing_std_db=0.0)
    point = int(scenario.playable[0, -1])
    local = evaluate(LocalOnly(scenario), episodes=2)
    assert local["local_share"].mean == 0.0
    (remark,) = TaskWindowMDP(scenario).remarks
    last = scenario.tables[0].full_local
    assert f"cut at point {point} of {last} (resnet50 with 20 MB)" in remark
    assert TaskStreamMDP(scenario).remarks == (remark,)
    whole = Scenario(partition="vertical", num_devices=1, shadowing_std_db=0.0)
    cut = evaluate(FullOffload(whole), episodes=2)["local_share"].mean
    assert cut == 0.0 and evaluate(LocalOnly(whole), episodes=2)["local_share"].mean == 1.0


@pytest.mark.parametrize("rule", [Neurosurgeon, RoundRobin, ShortestQueue])
def test_rules_choose_what_fits(rule):
    scenario = limited(20.0, count=2, profile="si", distance_range_m=(1.0, 900.0))
    policy = rule(scenario)
    partition = policy.decide(TaskWindowMDP(scenario).make(64).observation())["partition"]
    assert (partition[:, 1:] <= scenario.playable[1, -1]).all()
    assert (partition[:, 0] == scenario.full_local).any()


def test_the_planner_searches_what_fits_and_nobody_beats_the_bound():
    fields = {"max_window": 2, "mean_tasks": 4, "profile": "si", "bandwidth_hz": 2e6}
    scenario = limited(5.0, **fields)
    planner = Planner(scenario, budget=QUICK)
    decided = planner.decide(TaskWindowMDP(scenario).make(32).observation())
    assert (decided["partition"][:, 1] <= scenario.playable[1, -1]).all()
    free = limited(1e4, **fields)
    tight, loose = lower_bound(scenario), lower_bound(free)
    assert tight.cost > loose.cost  # without full local the second MD has to send
    assert tight.reward < loose.reward
    for policy in (planner, LocalOnly(scenario), ShortestQueue(scenario)):
        found = evaluate(policy, episodes=20)
        assert found["cost"].mean >= tight.cost and found["reward"].mean <= tight.reward


def test_with_features_on_both_sides_the_device_holds_all_or_is_refused():
    whole_mb = float(NEEDED_MB[-1])
    scenario = limited(whole_mb, remote_feature_share=0.5)
    assert (scenario.playable == np.arange(scenario.num_points)).all()
    with pytest.raises(
        MecError,
        match=r"^devices\[1\].memory_mb must be at least 112.075 to hold all of resnet50, .* is 90",
    ):
        _ = limited(90.0, remote_feature_share=0.5).physics


def test_too_little_memory_is_refused_with_the_least_that_would_do():
    with pytest.raises(
        MecError,
        match=r"^devices\[1\].memory_mb must be at least 0.603 to hold the input of resnet50, but",
    ):
        _ = limited(0.5).physics
    with pytest.raises(MecError, match=r"^memory_mb must be at least 0.603 to hold the input"):
        _ = Scenario(memory_mb=0.5).physics
    with pytest.raises(MecError, match=r"^devices\[1\].memory_mb must be positive"):
        limited(-1.0)
    _ = limited(0.603).physics


def test_a_point_for_all_tasks_must_fit_every_device():
    scenario = limited(20.0)
    last = int(scenario.playable[1, -1])
    action_view(scenario, "continuous", fixed_partition=last)
    with pytest.raises(MecError, match=rf"memory_mb holds, one of 0.* {last}, but is {last + 1}"):
        action_view(scenario, "flat", fixed_partition=last + 1)


def test_the_load_counts_what_fits():
    fields = {"num_devices": 1, "arrival_rate_hz": 40.0, "partition": "vertical"}
    free, short = (TaskStreamMDP(Scenario(**fields, **own)) for own in ({}, {"memory_mb": 1.0}))
    load = [float(str(mdp.remarks).partition("ρ = ")[2][:4] or 0) for mdp in (free, short)]
    assert load == [0.0, 0.0]
    busy = TaskStreamMDP(Scenario(**{**fields, "arrival_rate_hz": 1e4}, memory_mb=1.0))
    assert len(busy.remarks) == 2 and "ρ = " in busy.remarks[1]


def test_each_device_is_limited_by_its_own_dnn():
    groups = [
        {"count": 1, "dnn": "mobilenet_v2", "memory_mb": 25.0},
        {"count": 1, "memory_mb": 25.0},
    ]
    scenario = Scenario.from_dict({"devices": groups, "partition": "vertical"})
    assert scenario.runs_whole.tolist() == [True, False]
    own = scenario.tables[0].full_local
    assert (scenario.playable[0, own:] == own).all()
    assert model_graph("mobilenet_v2").name == scenario.tables[0].dnn


def test_agents_see_how_much_of_its_dnn_a_device_can_run():
    mdp = TaskWindowMDP(limited(20.0, num_servers=1))
    layout, seen = mdp.observation_layout, mdp.make(2).observation()
    last, table = mdp.scenario.playable[1, -1], mdp.scenario.tables[1]
    share = table.local_latency_ms[last] / table.local_latency_ms[-1]
    assert seen[0, layout["head_share"]] == pytest.approx([1.0, share])
    least = [min(table.bits[:-1]), min(table.bits[: last + 1])]
    assert seen[0, layout["least_bits"]] == pytest.approx(np.array(least) / 1e6)
    whole = table.local_latency_ms[-1] / 1e3
    assert seen[0, layout["local_latency"]] == pytest.approx([whole, whole])
    equal = TaskWindowMDP(Scenario(memory_mb=20.0, partition="vertical"))
    assert list(equal.observation_layout.sizes) == ["queues", "distances"]
    wide = TaskWindowMDP(limited(1e4))
    assert "head_share" not in wide.observation_layout.sizes
