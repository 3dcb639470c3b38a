"""Networks by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rllib_mec.envs import TaskStreamMDP, TaskWindowMDP, networks, task_window_v0
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import LocalOnly, RandomPolicy

OTHERS = [name for name in networks.names() if name != networks.PAPER]


def test_the_paper_s_is_the_default():
    assert TaskWindowMDP.from_dict({"network": "paper"}) == TaskWindowMDP.from_dict({})


@pytest.mark.parametrize("name", OTHERS)
def test_every_field_counts_where_tasks_arrive_and_its_load_can_be_served(name):
    fields = networks._fields(name)
    known = {field.name for kind in (Scenario, TaskStreamMDP) for field in dataclasses.fields(kind)}
    assert set(fields) <= known
    mdp = TaskStreamMDP.from_dict({"network": name})
    assert mdp == TaskStreamMDP.from_dict(fields)
    assert mdp.scenario.profile == "si" and not mdp.remarks
    assert 10 <= mdp.scenario.num_devices <= 60 and len(mdp.scenario.dnns) == 3


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("kind", [TaskStreamMDP, TaskWindowMDP])
def test_it_plays(name, kind):
    mdp = kind.from_dict({"network": name})
    worlds = mdp.make(2, 1)
    for policy in (RandomPolicy(mdp), LocalOnly(mdp)):
        step = worlds.step(policy.decide(worlds.observation()))
        assert np.isfinite(step.reward).all() and np.isfinite(step.observation).all()


def test_what_is_set_besides_takes_the_place_of_the_network_s():
    scenario = TaskWindowMDP.from_dict(
        {"network": "rush_hour", "num_devices": 2, "profile": "paper", "max_power_dbm": 10.0}
    ).scenario
    assert scenario.num_devices == 2 and scenario.devices is None
    assert scenario.num_servers == 4 and scenario.max_power_dbm == 10.0
    assert scenario.profile == "paper" and scenario.path_loss == "umi_street_canyon"
    assert task_window_v0.parallel_env(network="factory_5g").possible_agents[-1] == "md_29"


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("chooser", sorted({chooser for chooser, _ in networks._USED_BY.values()}))
def test_any_law_takes_the_place_of_the_network_s(name, chooser):
    """What only the network's law reads goes with it: nobody can leave it out."""
    every = [choices for by, choices in networks._USED_BY.values() if by == chooser]
    others = {"outages": ("none",), "visits": ("none",), "arrivals": ("none", "poisson")}
    for choice in sorted(set().union(*every, others.get(chooser, ()))):
        mdp = TaskStreamMDP.from_dict({"network": name, chooser: choice})
        assert getattr(mdp, chooser, getattr(mdp.scenario, chooser, None)) == choice
    with pytest.raises(MecError, match="no effect with mobility 'uniform'"):
        TaskWindowMDP.from_dict({"network": name, "mobility": "uniform", "pause_range_s": (0, 1)})


@pytest.mark.parametrize("name", ["campus", 3, None, ["paper"], np.arange(2)])
def test_an_unknown_network_is_refused_in_one_line(name):
    with pytest.raises(MecError, match=r"unknown network .*campus_wifi") as error:
        TaskWindowMDP.from_dict({"network": name})
    assert "\n" not in str(error.value)
