"""Scenarios: Table III, the two profiles, and one clear line for every bad value."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from rllib_mec.errors import MecError
from rllib_mec.network.defaults import SERVER_LATENCY_MS
from rllib_mec.network.scenario import Scenario


def test_the_defaults_are_table_iii():
    s = Scenario()
    assert (s.num_devices, s.num_servers, s.num_channels, s.max_window) == (3, 2, 2, 5)
    assert (s.mean_tasks, s.distance_range_m) == (50.0, (1.0, 100.0))
    assert (s.max_power_dbm, s.bandwidth_hz, s.noise_w) == (30.0, 1e6, 1e-9)
    assert (s.path_loss_exponent, s.reference_distance_m, s.shadowing_std_db) == (3.0, 1.0, 8.0)
    assert (s.energy_per_mmac_j, s.energy_weight, s.waiting_weight) == (1e-5, 50.0, 0.05)


def test_profiles_set_what_is_left_open():
    paper, si = Scenario(), Scenario(profile="si")
    assert (paper.feature_bits, paper.server_model, paper.max_power_dbm) == (32, "constant", 30.0)
    assert (si.feature_bits, si.server_model, si.max_power_dbm) == (8, "share", 23.0)
    assert (paper.transmission_ms_per_s, si.transmission_ms_per_s) == (1.0, 1000.0)
    assert si.bandwidth_hz == 20e6
    assert Scenario(profile="si", bandwidth_hz=5e6).bandwidth_hz == 5e6


def test_profiles_differ_only_in_the_radio_the_feature_bits_and_the_server():
    paper, si = Scenario().to_dict(), Scenario(profile="si").to_dict()
    differing = {name for name in paper if paper[name] != si[name]}
    assert differing == {
        "profile", "bandwidth_hz", "max_power_dbm", "feature_bits", "server_model"
    }  # fmt: skip


@pytest.mark.parametrize("dnn", SERVER_LATENCY_MS)
def test_full_local_takes_five_times_l0(dnn):
    table = Scenario(dnn=dnn).table
    assert table.local_latency_ms[-1] == pytest.approx(5 * SERVER_LATENCY_MS[dnn], rel=1e-12)
    assert table.bits[0] == 32 * 3 * 224 * 224
    assert (table.bits[-1], table.server_latency_ms[-1]) == (0.0, 0.0)


def test_the_table_is_made_once():
    scenario = Scenario()
    assert scenario.table is scenario.table


def test_a_dictionary_makes_the_same_scenario_through_json_too():
    scenario = Scenario(profile="si", num_devices=4, distance_range_m=(5.0, 6.0))
    assert Scenario.from_dict(json.loads(json.dumps(scenario.to_dict()))) == scenario
    assert hash(Scenario()) == hash(Scenario())


def test_replacing_the_profile_or_the_dnn_takes_along_what_came_with_it():
    assert Scenario().replace(profile="si") == Scenario(profile="si")
    assert Scenario().replace(dnn="googlenet").server_latency_ms == 5.11
    own = Scenario(bandwidth_hz=3e6, server_latency_ms=7.0)
    assert own.replace(profile="si").bandwidth_hz == 3e6
    assert own.replace(dnn="googlenet").server_latency_ms == 7.0
    assert Scenario().replace(num_devices=5) == Scenario(num_devices=5)


BAD = {
    "num_devices": [0, -1, 2.5, "3", True],
    "num_channels": [0],
    "num_servers": [0],
    "max_window": [0],
    "feature_bits": [0],
    "bandwidth_hz": [-1e6, 0.0, "1e6"],
    "noise_w": [0.0],
    "energy_weight": [math.nan, math.inf, "fifty", True, -1.0, [50]],
    "waiting_weight": [-0.1],
    "mean_tasks": [0, 1e9],
    "shadowing_std_db": [-8.0, 1e6],
    "path_loss": ["UMa", None],
    "shadowing": ["gudmundson"],
    "mobility": ["walk", None, ["uniform"]],
    "speed_range_mps": [(1.0,), 3.0, (0.0, 1.0), (1.0, 1e3)],
    "pause_range_s": [(-1.0, 1.0)],
    "velocity_memory": [1.0, -0.1],
    "velocity_interval_s": [0.0],
    "decorrelation_distance_m": [0.0],
    "carrier_frequency_hz": [3.5, 1e12],
    "clutter_density": [1.0, 0.0],
    "distance_range_m": [(0.0, 100.0), (100.0, 1.0), (1.0,), 50.0, "ab", ("1", "2"), None],
    "max_power_dbm": [0.0, math.nan, 1e4],
    "server_latency_ms": [-1.0, "8.6"],
    "local_slowdown": [0],
    "dnn": ["resnet-50", 50, None],
    "profile": ["papre", None, ["paper"]],
    "partition": ["parreto", None],
    "power_scale": ["dBm", None],
    "server_model": ["shared"],
    "device_profile": [5],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in BAD.items() for value in values]
)
def test_a_bad_value_is_one_line_that_names_its_field(field, value):
    with pytest.raises(MecError, match=field) as error:
        Scenario(**{field: value})
    assert "\n" not in str(error.value)


def test_an_unknown_field_suggests_the_nearest():
    with pytest.raises(MecError, match="did you mean 'num_devices'"):
        Scenario.from_dict({"num_device": 3})
    with pytest.raises(MecError, match="mapping"):
        Scenario.from_dict([("num_devices", 3)])  # type: ignore[arg-type]


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(MecError, match="did you mean 'resnet50'"):
        Scenario(dnn="resnet-50")
    with pytest.raises(MecError, match="did you mean 'paper'"):
        Scenario(profile="papre")


def test_another_torchvision_model_needs_its_server_latency():
    with pytest.raises(MecError, match="server_latency_ms of alexnet is not known"):
        Scenario(dnn="alexnet")
    assert Scenario(dnn="alexnet", server_latency_ms=2.0).server_latency_ms == 2.0


def test_replacing_the_dnn_by_one_of_unknown_latency_asks_for_it():
    with pytest.raises(MecError, match="server_latency_ms of alexnet is not known"):
        Scenario().replace(dnn="alexnet")
    with pytest.raises(MecError, match="did you mean 'num_devices'"):
        Scenario().replace(num_device=3)


def test_a_missing_profile_file_is_reported():
    with pytest.raises(MecError, match=r"nowhere\.json"):
        _ = Scenario(device_profile="nowhere.json").table


@pytest.mark.parametrize(("mean", "usual"), [(50.0, 50), (0.4, 1), (2.6, 3)])
def test_an_episode_of_the_evaluation_has_at_least_one_task(mean, usual):
    assert Scenario(mean_tasks=mean).usual_tasks == usual


def test_numbers_of_numpy_are_numbers():
    scenario = Scenario(num_devices=np.int64(4), energy_weight=np.float32(2.0))
    assert scenario == Scenario(num_devices=4, energy_weight=2.0)
    assert type(scenario.num_devices) is int
