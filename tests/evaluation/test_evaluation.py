import math

import numpy as np
import pytest

from rllib_mec.envs import TimeSlotMDP
from rllib_mec.errors import MecError
from rllib_mec.evaluation import Interval, comparison_table, evaluate, paper_row
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, LocalOnly


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
