"""Views of an MD's action: other spaces, the same decisions."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo.test import parallel_api_test, parallel_seed_test

from rllib_mec.envs import task_window_v0
from rllib_mec.envs.action_views import action_view
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.registry import ENVIRONMENTS

VIEWS = [
    {"actions": "dict"},
    {"actions": "flat"},
    {"actions": "flat", "power_levels": 2},
    {"actions": "flat", "fixed_partition": 1},
    {"actions": "continuous", "fixed_partition": 0},
    {"actions": "continuous", "fixed_partition": 3, "num_channels": 1, "num_servers": 1},
]

every_view = pytest.mark.parametrize("view", VIEWS, ids=lambda v: "-".join(map(str, v.values())))
every_env = pytest.mark.parametrize("name", ENVIRONMENTS)


@every_env
@every_view
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_each_view_is_a_pettingzoo_environment(name, view):
    def make():
        return ENVIRONMENTS.load(name)(mean_tasks=4.0, **view)

    parallel_api_test(make(), num_cycles=20)
    parallel_seed_test(make, num_cycles=20)


def test_flat_columns_are_decisions_task_by_task_and_powers_are_even_levels():
    scenario = Scenario(max_window=2, num_channels=3, num_servers=2)
    view = action_view(scenario, "flat", power_levels=5)
    space = view.make_space()
    points = scenario.table.num_points
    assert space.nvec.tolist() == [points, points, 3, 3, 2, 2, 5, 5, 2]
    decided = view.decode([4, 0, 2, 1, 0, 1, 0, 3, 1])
    assert {key: value.tolist() for key, value in decided.items()} == {
        "partition": [4, 0],
        "channel": [2, 1],
        "server": [0, 1],
        "power": [0.0, 0.75],
        "window": 1,
    }


def test_what_is_no_choice_has_no_column():
    scenario = Scenario(max_window=1, num_channels=1, num_servers=4)
    flat = action_view(scenario, "flat", fixed_partition=2)
    assert flat.make_space().nvec.tolist() == [4, 11]  # the server and the power
    decided = flat.decode(np.array([[3, 10], [0, 0]]))
    assert decided["partition"].tolist() == [[2], [2]]
    assert decided["channel"].tolist() == [[0], [0]] and decided["window"].tolist() == [0, 0]
    assert decided["server"].tolist() == [[3], [0]] and decided["power"].tolist() == [[1.0], [0.0]]


def test_a_continuous_action_cuts_the_interval_into_equal_choices():
    scenario = Scenario(max_window=2, num_channels=2, num_servers=4)
    view = action_view(scenario, "continuous", fixed_partition=1)
    space = view.make_space()
    assert isinstance(space, spaces.Box) and space.shape == (7,)
    decided = view.decode([0.49, 0.5, 0.74, 0.75, 0.0, 0.3, 1.0])
    assert decided["partition"].tolist() == [1, 1]
    assert decided["channel"].tolist() == [0, 1] and decided["server"].tolist() == [2, 3]
    assert decided["power"].tolist() == [0.0, 0.3] and decided["window"] == 1


def test_a_view_changes_how_a_decision_is_written_and_nothing_else():
    fields = {"num_devices": 2, "mean_tasks": 6.0, "max_window": 2}
    plain = task_window_v0.parallel_env(**fields)
    flat = task_window_v0.parallel_env(**fields, actions="flat", power_levels=3)
    plain.reset(seed=5)
    flat.reset(seed=5)
    rng = np.random.default_rng(0)
    while plain.agents:
        rows = {a: rng.integers(flat.action_space(a).nvec) for a in flat.agents}
        as_dict = {a: flat.view.decode(row) for a, row in rows.items()}
        of_plain, of_flat = plain.step(as_dict), flat.step(rows)
        for info in (*of_plain[4].values(), *of_flat[4].values()):
            assert info.pop("action_mask")  # in the form of the view
        assert of_plain[1:] == of_flat[1:]
        for agent in rows:
            np.testing.assert_array_equal(of_plain[0][agent], of_flat[0][agent])
    assert flat.agents == []


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"actions": "flatt"}, "unknown actions 'flatt': did you mean 'flat'"),
        ({"actions": ["flat"]}, "unknown actions"),
        ({"actions": "continuous"}, "needs fixed_partition"),
        ({"actions": "continuous", "fixed_partition": 4}, r"0\.\.3, but is 4"),
        ({"actions": "continuous", "fixed_partition": -1}, r"0\.\.3, but is -1"),
        ({"actions": "flat", "fixed_partition": 1.5}, "but is 1.5"),
        ({"actions": "flat", "power_levels": 1}, "power_levels must be at least 2, but is 1"),
        ({"actions": "flat", "power_levels": "many"}, "power_levels"),
        ({"power_levels": 3}, "power_levels is an argument of actions='flat'"),
        ({"fixed_partition": 1}, "not for 'dict'"),
        ({"observe_mask": True}, "observe_mask is an argument of actions='flat', not of 'dict'"),
        ({"actions": "flat", "observe_mask": "yes"}, "observe_mask must be true or false"),
    ],
)
def test_a_bad_or_impossible_view_is_one_line(view, message):
    with pytest.raises(MecError, match=message) as error:
        task_window_v0.parallel_env(**view)
    assert "\n" not in str(error.value)


FLAT = {"actions": "flat", "num_devices": 1, "max_window": 1}
CONTINUOUS = {"actions": "continuous", "fixed_partition": 0, "num_devices": 1, "max_window": 1}


@pytest.mark.parametrize(
    ("view", "action", "message"),
    [
        (FLAT, [0, 0, 0], r"md_0 must be 4 integers, but is int64 of shape \(3,\)"),
        (FLAT, [0.0, 0.0, 0.0, 0.0], "must be 4 integers, but is float64"),
        (FLAT, [0, 2, 0, 0], r"column 1 of the action of md_0 must lie in \[0, 1\], but is 2"),
        (FLAT, [0, 0, 0, -1], "column 3"),
        (FLAT, {"power": 1}, "must be 4 integers"),
        (FLAT, [[0], [0, 1]], "must be 4 integers"),
        (CONTINUOUS, [0.0, 0.0, float("nan")], "column 2 .* but is nan"),
        (CONTINUOUS, [0.0, 1.5, 0.0], r"column 1 .* must lie in \[0, 1\], but is 1.5"),
    ],
)
def test_an_action_outside_its_space_is_one_line(view, action, message):
    env = task_window_v0.parallel_env(**view)
    env.reset(seed=0)
    with pytest.raises(MecError, match=message) as error:
        env.step({"md_0": action})
    assert "\n" not in str(error.value)
