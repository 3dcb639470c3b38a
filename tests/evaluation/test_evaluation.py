import math
import re

import numpy as np
import pytest

from rllib_mec.envs import TaskStreamMDP, TaskWindowMDP, TimeSlotMDP
from rllib_mec.errors import MecError
from rllib_mec.evaluation import Interval, comparison_table, evaluate, optimality_gap, paper_row
from rllib_mec.evaluation.table import cut_summary
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, LocalOnly, Policy


def test_the_interval_is_students():
    interval = Interval.of([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.half_width == pytest.approx(4.3027 * 1.0 / math.sqrt(3), rel=1e-4)
    assert math.isnan(Interval.of([1.0]).half_width)


@pytest.mark.parametrize("num_devices", [1, 3])
def test_local_only_is_the_papers_row_exactly(num_devices):
    evaluation = evaluate(LocalOnly(Scenario(num_devices=num_devices)), episodes=3)
    assert evaluation["latency_ms"].mean == pytest.approx(2150.75, abs=1e-9)
    assert round(evaluation["energy_j"].mean, 4) == 0.0409
    assert evaluation["reward"].mean == pytest.approx(-45.06, abs=5e-3)
    cost = 2150.75 + 50.0 * 50 * 0.04089184256  # Eq. (4): 50 tasks an MD, at a β of 50
    assert evaluation["cost"].mean == pytest.approx(cost)
    assert evaluation.to_dict()["cost"]["mean"] == evaluation["cost"].mean
    assert evaluation["waiting_ms"].mean == 0.0
    assert evaluation["local_share"].mean == 1.0


def test_local_only_takes_the_same_in_time_slots():
    slots = TimeSlotMDP(Scenario(), slot_ms=300.0)
    evaluation = evaluate(LocalOnly(slots), episodes=3)
    assert evaluation["latency_ms"].mean == pytest.approx(2150.75, abs=1e-9)
    assert round(evaluation["energy_j"].mean, 4) == 0.0409
    assert evaluation["window_size"].mean == 50 / 8
    assert evaluation.to_dict()["env"] == "mec_time_slot_v0"
    assert evaluation.to_dict()["slot_ms"] == 300.0
    assert paper_row(slots, 50) is None


def test_the_same_seed_gives_the_same_episodes_and_another_seed_others():
    policy = FullOffload(Scenario())
    first, again, other = (evaluate(policy, episodes=5, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.episodes.reward, again.episodes.reward)
    assert not np.array_equal(first.episodes.reward, other.episodes.reward)


def test_episode_i_does_not_depend_on_how_many_there_are():
    policy = FullOffload(Scenario())
    few, many = (evaluate(policy, episodes=n).episodes.reward for n in (3, 9))
    np.testing.assert_array_equal(few, many[:3])


def test_a_policy_of_another_scenario_is_refused():
    with pytest.raises(MecError, match=r"made for num_devices=2, but .* has num_devices=3"):
        evaluate(LocalOnly(Scenario(num_devices=2)), Scenario(num_devices=3))
    with pytest.raises(MecError, match=r"made for max_window=5, but .* has max_window=1"):
        evaluate(LocalOnly(Scenario()), TimeSlotMDP(Scenario()))
    with pytest.raises(MecError, match="episodes must be at least 1"):
        evaluate(LocalOnly(Scenario()), episodes=0)


def test_the_papers_numbers_stand_only_beside_the_papers_setting():
    assert paper_row(Scenario(), 50) == {
        "reward": -17.94,
        "latency_ms": 787.81,
        "energy_j": 0.0251,
    }
    assert paper_row(Scenario(), 200)["latency_ms"] == 3164.64
    assert paper_row(Scenario(num_devices=6, dnn="googlenet"), 50)["reward"] == -21.05
    assert paper_row(Scenario(num_devices=6, partition="vertical"), 50)["reward"] == -34.72
    assert paper_row(Scenario(profile="si"), 50) is None
    assert paper_row(Scenario(energy_weight=1.0), 50) is None
    assert paper_row(Scenario(num_devices=7), 50) is None
    assert paper_row(Scenario(), 51) is None
    assert paper_row(Scenario(), 50, 80.0) is None
    assert paper_row(Scenario(), None, None) is None


def test_the_table_has_savings_and_the_papers_row():
    scenario = Scenario()
    evaluations = [evaluate(p(scenario), episodes=4) for p in (LocalOnly, FullOffload)]
    lines = comparison_table(evaluations).splitlines()
    assert lines[0].split("  ")[0] == "policy" and "Eq. (4)" in lines[0]
    paper = next(line for line in lines if line.startswith("the paper's"))
    assert "-63.4 %" in paper
    assert f"{787.81 + 50 * 50 * 0.0251:.2f}" in paper.split()
    assert "2150.75 ± 0.00" in next(line for line in lines if line.startswith("local only"))
    assert "profile 'paper'" in lines[-1] and "4 episodes" in lines[-1]
    without = comparison_table(evaluations, paper=False)
    assert "the paper's" not in without


@pytest.mark.parametrize(
    "mdp", [TaskStreamMDP(Scenario(arrival_rate_hz=0.0)), Scenario(energy_per_mmac_j=0.0)]
)
def test_of_what_took_nothing_there_is_no_saving_and_no_gap(mdp):
    local, offload = (evaluate(p(mdp), episodes=2) for p in (LocalOnly, FullOffload))
    assert local["energy_j"].mean == 0.0
    assert "energy_j" not in optimality_gap(offload, local)
    table = comparison_table([local, offload])
    assert re.search(r"full offload .*  -  ", table)
    assert "other" not in table and "inf" not in table and "nan" not in table


class OfEachMD(FullOffload):
    """Each MD cuts at a point of its own: at 0, at 2, and not at all."""

    name = "of each MD"

    def decide(self, observation):
        last = self.scenario.table.num_points - 1
        actions = super().decide(observation)
        actions["partition"][:] = np.array([0, 2, last])[:, None]
        return actions


def test_which_points_tasks_were_cut_at():
    scenario = Scenario(num_devices=3)  # 5 points
    evaluation = evaluate(OfEachMD(scenario), episodes=2, num_tasks=(62, 30, 8))
    np.testing.assert_allclose(evaluation.point_share, [0.62, 0, 0.30, 0, 0.08])
    assert evaluation["local_share"].mean == evaluation.point_share[-1]
    assert evaluation.to_dict()["point_share"] == evaluation.point_share.tolist()
    lines = comparison_table([evaluate(LocalOnly(scenario), episodes=2), evaluation]).splitlines()
    assert [line for line in lines if "%" in line and "±" not in line][-2:] == [
        "local only           local: 100 %",
        "of each MD           0: 62 %, 2: 30 %, local: 8 %",
    ]


@pytest.mark.parametrize(
    ("point_share", "summary"),
    [
        ([0.0, 1.0], "local: 100 %"),
        ([0.004, 0.996], "local: 100 %"),
        ([0.1, 0.2, 0.3, 0.15, 0.25], "1: 20 %, 2: 30 %, local: 25 %, other: 25 %"),
        ([0.25, 0.25, 0.25, 0.25], "0: 25 %, 1: 25 %, 2: 25 %, other: 25 %"),
        ([0.0, 0.9, 0.1, 0.0], "1: 90 %, 2: 10 %"),
    ],
)
def test_the_cuts_of_most_tasks_are_named_in_the_order_of_the_points(point_share, summary):
    assert cut_summary(np.array(point_share)) == summary


class Watched(Policy):
    """Full offload, keeping the distances and queues that it is shown."""

    name = "planner"

    def __init__(self, where):
        super().__init__(where)
        self.seen = []

    def decide(self, observation):
        self.seen.append(observation)
        return FullOffload(self.mdp).decide(observation)

    @property
    def first_queues(self):
        return self.seen[0][:, : self.scenario.num_devices] * self.scenario.mean_tasks

    @property
    def distances_m(self):
        shown = np.array(self.seen)[:, :, self.scenario.num_devices :]
        return shown * self.scenario.distance_range_m[1]


@pytest.mark.parametrize(
    ("distance_range_m", "usual"),
    [((1.0, 100.0), 50.0), ((100.0, 200.0), 150.0), ((1.0, 40.0), 20.5)],
)
def test_devices_stand_at_50_m_on_the_papers_range_and_else_at_its_mean(distance_range_m, usual):
    policy = Watched(Scenario(num_devices=2, distance_range_m=distance_range_m))
    evaluation = evaluate(policy, episodes=2, num_tasks=3)
    assert evaluation.distance_m == evaluation.to_dict()["distance_m"] == usual
    np.testing.assert_allclose(policy.distances_m, usual, rtol=1e-6)
    last = comparison_table([evaluation]).splitlines()[-1]
    low, high = distance_range_m
    assert f"3 tasks an MD, {usual:g} m" in last
    assert (f"(the mean of {low:g} to {high:g} m)" in last) == (usual != 50.0)


@pytest.mark.parametrize("where", [Scenario(num_devices=2), TimeSlotMDP(Scenario(num_devices=2))])
def test_queues_and_distances_can_be_set_in_every_mdp(where):
    policy = Watched(where)
    evaluation = evaluate(policy, episodes=2, num_tasks=7, distance_m=80.0)
    np.testing.assert_allclose(policy.first_queues, 7.0, rtol=1e-6)
    np.testing.assert_allclose(policy.distances_m, 80.0, rtol=1e-6)
    assert (evaluation.num_tasks, evaluation.distance_m) == (7, 80.0)


def test_queues_and_distances_are_drawn_as_in_training():
    policy = Watched(Scenario())
    evaluation = evaluate(policy, episodes=4, seed=5, draw=True)
    worlds = TaskWindowMDP(Scenario()).make(4, 5)
    np.testing.assert_allclose(policy.first_queues, worlds.queues, rtol=1e-5)
    np.testing.assert_allclose(policy.distances_m[0], worlds.distances_m, rtol=1e-5)
    entry = evaluation.to_dict()
    assert entry["num_tasks"] is None and entry["distance_m"] is None
    table = comparison_table([evaluation])
    assert re.search(r"drawn as in training \(mean (4\d|5\d)\.\d tasks an MD\)", table)
    assert "the paper's" not in table


@pytest.mark.parametrize("given", [{"num_tasks": 3}, {"distance_m": 50.0}])
def test_what_is_drawn_cannot_be_set_as_well(given):
    with pytest.raises(MecError, match="leave out num_tasks and distance_m"):
        evaluate(LocalOnly(Scenario()), episodes=1, draw=True, **given)


@pytest.mark.parametrize(
    ("asked", "is_yardstick"),
    [
        ({}, True),
        ({"num_tasks": 4}, True),
        ({"distance_m": 51.0}, True),
        ({"distance_m": (5.0, 51.0, 90.0)}, True),
        ({"draw": True}, False),
        ({"num_devices": 7}, False),
    ],
)
def test_the_planner_is_called_near_optimal_only_where_it_is(asked, is_yardstick):
    scenario = Scenario(num_devices=asked.pop("num_devices", 3))
    evaluations = [evaluate(Watched(scenario), episodes=2, **asked)]
    lines = comparison_table(evaluations).splitlines()
    assert ("near-optimal" in lines[-1]) == is_yardstick
    assert any("there may be far better ones" in line for line in lines) != is_yardstick
