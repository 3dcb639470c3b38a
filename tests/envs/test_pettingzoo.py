"""PettingZoo's own test suite, over every registered environment and many scenarios."""

from __future__ import annotations

import importlib

import pytest
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, render_test
from pettingzoo.test.seed_test import seed_test

from rllib_mec.registry import ENVIRONMENTS

SHORT = {"mean_tasks": 4.0}
SCENARIOS = [
    {"num_devices": 1},
    {"num_devices": 3},
    {"num_devices": 1, "profile": "si"},
    {"num_devices": 3, "profile": "si"},
    {"partition": "operator"},
    {"partition": "vertical", "power_scale": "linear"},
    {"partition": "layer", "dnn": "mobilenet_v2"},
    {"num_channels": 1, "num_servers": 1, "max_window": 1},
    {"devices": [{"count": 1}, {"count": 2, "dnn": "mobilenet_v2"}], "servers": [{"count": 2}]},
    {"num_devices": 2, "profile": "si", "power_scale": "linear", "min_spectral_efficiency": 0.0},
    {"mobility": "random_waypoint", "shadowing": "correlated", "path_loss": "umi_street_canyon"},
    {"mobility": "gauss_markov", "profile": "si"},
]


PRESENCE = {"horizon_ms": 2000.0, "server_up_ms": 300.0, "device_down_ms": 100.0}
OWN_ARGUMENTS = {
    "mec_task_stream_v0": [
        {"outages": "random", **PRESENCE},
        {"visits": "random", "stay_ms": 400.0, "num_devices": 6, "horizon_ms": 2000.0},
        {"outages": "random", "visits": "random", "num_devices": 1, "stay_ms": 100.0, **PRESENCE},
    ],
    "mec_time_slot_v0": [
        {"slot_ms": 10.0},
        {"slot_ms": 300.0, "min_mean_tasks": 0.5},
        {"slot_ms": 10.0, "observe_progress": True},
        {"slot_ms": 50.0, "observe_progress": True, "num_devices": 1, "profile": "si"},
    ],
}


def scenario_id(scenario):
    return "-".join(f"{key}={value}" for key, value in scenario.items())


every_env = pytest.mark.parametrize("name", ENVIRONMENTS)
every_scenario = pytest.mark.parametrize(
    ("name", "scenario"),
    [
        pytest.param(name, scenario, id=f"{name}-{scenario_id(scenario)}")
        for name in ENVIRONMENTS
        for scenario in SCENARIOS + OWN_ARGUMENTS.get(name, [])
    ],
)
# A warning of the suite is a convention broken; but a hybrid action is a Dict, and queues, drawn
# from a Poisson distribution, have no upper bound.
pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning",
    "ignore:Action space for each agent probably should be",
    "ignore:Agent.s maximum observation space value is infinity",
)


@every_scenario
def test_parallel_api(name, scenario):
    parallel_api_test(ENVIRONMENTS.load(name)(**SHORT, **scenario), num_cycles=40)


@every_scenario
def test_the_seed_determines_the_episode(name, scenario):
    parallel_seed_test(lambda: ENVIRONMENTS.load(name)(**SHORT, **scenario), num_cycles=40)


def aec_env(name, **kwargs):
    module = ENVIRONMENTS[name].partition(":")[0]
    return importlib.import_module(module).env(**kwargs)


@every_scenario
def test_agent_environment_cycle_api(name, scenario):
    api_test(aec_env(name, **SHORT, **scenario), num_cycles=40)


@every_env
def test_the_seed_determines_the_agent_environment_cycle(name):
    seed_test(lambda: aec_env(name, **SHORT), num_cycles=20)


@every_env
def test_render_modes(name):
    render_test(lambda render_mode: aec_env(name, render_mode=render_mode))


@every_env
def test_metadata_names_the_environment(name):
    env = ENVIRONMENTS.load(name)()
    assert env.metadata["name"] == name
    assert env.metadata["render_modes"] == ["human", "ansi", "rgb_array"]
    assert env.metadata["is_parallelizable"]
    assert f"* v{name[-1]}:" in type(env).__doc__
