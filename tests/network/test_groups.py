"""Unlike devices, servers and channels: what a scenario takes, and what the network makes of it."""

import numpy as np
import pytest

from rllib_mec.envs import TaskWindowMDP
from rllib_mec.errors import MecError
from rllib_mec.network.defaults import SERVER_LATENCY_MS
from rllib_mec.network.scenario import Scenario

QUIET = {"shadowing_std_db": 0.0, "num_servers": 1, "num_channels": 1, "max_window": 1}


def play(scenario: Scenario, partition, num_tasks=1, **decisions):
    """One window of one world, at 50 m; decisions per MD."""
    worlds = TaskWindowMDP(scenario).make(1, num_tasks=num_tasks, distance_m=50.0)
    shape = (1, scenario.num_devices, scenario.max_window)

    def of_all(values):
        return np.broadcast_to(np.reshape(values, (-1, 1)), shape[1:])[None].copy()

    defaults = {"channel": 0, "server": 0, "power": 0.5}
    actions = {k: of_all(decisions.get(k, v)) for k, v in defaults.items()}
    window = np.full(shape[:2], scenario.max_window - 1)
    return worlds.step({**actions, "partition": of_all(partition), "window": window})


def test_a_number_is_the_short_form():
    assert Scenario.from_dict({"devices": 4, "servers": 1, "channels": 3}) == Scenario(
        num_devices=4, num_servers=1, num_channels=3
    )
    assert Scenario.from_dict({"devices": [{"count": 1}, {"count": 2}]}) == Scenario(num_devices=3)


def test_a_scenario_survives_its_dict():
    scenario = Scenario.from_dict(
        {
            "devices": [{"count": 2}, {"count": 1, "dnn": "mobilenet_v2", "name": "pi"}],
            "servers": [{"count": 1, "speed": 2}],
            "channels": [{"count": 2, "bandwidth_hz": 2e6}],
        }
    )
    assert (scenario.num_devices, scenario.num_servers, scenario.num_channels) == (3, 1, 2)
    assert Scenario.from_dict(scenario.to_dict()) == scenario
    assert scenario.replace(energy_weight=1.0).mobile_devices[2].name == "pi"
    assert scenario.replace(devices=5).num_devices == 5
    with pytest.raises(MecError, match="num_devices is 4, but devices has 3"):
        scenario.replace(num_devices=4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"devices": []}, "devices must have at least one group"),
        ({"servers": ()}, "servers must have at least one group"),
        ({"devices": [{"count": 1, "dnn": ""}]}, r"devices\[0\].dnn: unknown dnn ''"),
        ({"devices": 0}, "devices must be at least 1, but is 0"),
        ({"devices": "three"}, "devices must be a whole number"),
        ({"devices": [{"dnn": "resnet50"}]}, r"devices\[0\].count is missing"),
        ({"devices": [{"count": 1}, {"count": 0}]}, r"devices\[1\].count must be at least 1"),
        ({"devices": [{"count": 1, "dnm": "x"}]}, r"unknown field of devices\[0\] 'dnm'.*'dnn'"),
        ({"devices": [{"count": 1, "dnn": "resnet51"}]}, r"devices\[0\].dnn: .*'resnet50'"),
        ({"devices": [{"count": 1, "dnn": "vgg11"}]}, r"devices\[0\].server_latency_ms of vgg11"),
        ({"devices": [{"count": 1}, {"count": 1, "max_window": 9}]}, r"devices\[1\].max_window"),
        ({"devices": [{"count": 1, "max_power_dbm": -3.0}]}, r"devices\[0\].max_power_dbm must"),
        ({"devices": [{"count": 1, "device_profile": "pi.json"}]}, r"devices\[0\].device_profile"),
        ({"devices": [3]}, r"devices\[0\] must be a group like \{count: 3\}, but is 3"),
        ({"devices": 2, "num_devices": 3}, "num_devices is 3, but devices has 2"),
        ({"servers": [{"count": 1, "speed": -1}]}, r"servers\[0\].speed must be positive"),
        ({"channels": [{"count": 1, "noise_w": 0}]}, r"channels\[0\].noise_w must be positive"),
    ],
)
def test_a_bad_group_is_one_line_that_names_its_path(fields, message):
    with pytest.raises(MecError, match=message) as error:
        Scenario.from_dict(fields)
    assert "\n" not in str(error.value)


def test_a_device_twice_as_slow_takes_twice_as_long():
    groups = [{"count": 1, "local_slowdown": 5}, {"count": 1, "local_slowdown": 10}]
    scenario = Scenario.from_dict({"devices": groups, **QUIET})
    first, second = play(scenario, scenario.full_local).stage_ends[0, :, 0, 2]
    assert second == pytest.approx(2 * first)


def test_each_device_runs_its_own_dnn_and_a_point_beyond_its_own_is_full_local():
    groups = [{"count": 1}, {"count": 1, "dnn": "mobilenet_v2"}]
    scenario = Scenario.from_dict({"devices": groups, "partition": "operator", **QUIET})
    big, small = (
        Scenario(dnn=dnn, partition="operator").table for dnn in ("resnet50", "mobilenet_v2")
    )
    assert scenario.num_points == big.num_points > small.num_points
    for point in (scenario.full_local, small.full_local):
        step = play(scenario, [scenario.full_local, point])
        assert step.stage_ends[0, :, 0, 2] == pytest.approx(
            [5 * SERVER_LATENCY_MS["resnet50"], 5 * SERVER_LATENCY_MS["mobilenet_v2"]]
        )
        assert step.point_tasks[0, -1] == 2 and step.local_share[0] == 1
        energy = 1e-5 * (big.local_mmacs[-1] + small.local_mmacs[-1])
        assert step.energy_j[0] == pytest.approx(energy)


def test_a_server_twice_as_fast_takes_half_as_long_and_a_distant_one_its_way_more():
    servers = [{"count": 1}, {"count": 1, "speed": 2.0}, {"count": 1, "latency_ms": 7.0}]
    fields = {**QUIET, "num_servers": None, "servers": servers, "num_channels": 3}
    ends = play(Scenario.from_dict(fields), 0, server=[0, 1, 2], channel=[0, 1, 2]).stage_ends[
        0, :, 0
    ]
    at_server = ends[:, 2] - ends[:, 1]
    whole = SERVER_LATENCY_MS["resnet50"]
    assert at_server == pytest.approx([whole, whole / 2, whole + 7.0])


def test_what_stays_on_the_device_has_no_way_to_a_server():
    fields = {**QUIET, "num_servers": None, "servers": [{"count": 1, "latency_ms": 7.0}]}
    near = Scenario.from_dict(QUIET)
    ends = play(Scenario.from_dict(fields), near.full_local).stage_ends
    assert np.array_equal(ends, play(near, near.full_local).stage_ends)


def test_a_channel_twice_as_wide_takes_half_as_long():
    channels = [{"count": 1, "bandwidth_hz": 1e6}, {"count": 1, "bandwidth_hz": 2e6}]
    fields = {**QUIET, "num_devices": 2, "num_channels": None, "channels": channels}
    on_air = play(Scenario.from_dict(fields), 0, channel=[0, 1]).stage_ends[0, :, 0, 1]
    assert on_air[1] == pytest.approx(on_air[0] / 2)


def test_a_power_is_a_share_of_the_devices_own_limit():
    groups = [{"count": 1, "max_power_dbm": 10.0}, {"count": 1, "max_power_dbm": 20.0}]
    scenario = Scenario.from_dict({**QUIET, "devices": groups, "num_channels": 2})
    step = play(scenario, 0, channel=[0, 1], power=[1.0, 0.5])  # both 10 dBm
    assert step.stage_ends[0, 0, 0, 1] == pytest.approx(step.stage_ends[0, 1, 0, 1])


def test_queues_and_windows_are_each_devices_own():
    groups = [{"count": 1, "mean_tasks": 100}, {"count": 1, "mean_tasks": 4, "max_window": 2}]
    scenario = Scenario.from_dict({**QUIET, "devices": groups, "max_window": 5})
    worlds = TaskWindowMDP(scenario).make(2000)
    assert worlds.queues.mean(0) == pytest.approx([100, 4], rel=0.05)
    assert scenario.usual_tasks == (100, 4)
    assert play(scenario, scenario.full_local, num_tasks=9).window_size.tolist() == [[5, 2]]
    mdp = TaskWindowMDP(scenario)
    seen = worlds.observation()
    assert np.array_equal(mdp.decode(seen).queues, worlds.queues)


def test_equal_groups_are_one_group_and_their_order_is_that_of_the_results():
    slow, fast = {"count": 1, "local_slowdown": 8}, {"count": 1, "local_slowdown": 3}
    both = {**QUIET, "max_window": 3}
    twice = play(Scenario.from_dict({**both, "devices": [slow, slow, fast]}), 2)
    once = play(Scenario.from_dict({**both, "devices": [{**slow, "count": 2}, fast]}), 2)
    assert np.array_equal(twice.stage_ends, once.stage_ends)
    turned = play(Scenario.from_dict({**both, "devices": [fast, slow, slow]}), 2)
    assert turned.stage_ends[0] == pytest.approx(once.stage_ends[0][[2, 0, 1]])
    assert turned.reward == pytest.approx(once.reward)


def test_what_networks_depend_on_is_what_the_devices_have():
    def shape(**fields):
        return TaskWindowMDP(Scenario.from_dict(fields)).shape

    other = shape(devices=[{"count": 3, "dnn": "mobilenet_v2"}])
    assert (other["dnn"], shape()["dnn"]) == ("mobilenet_v2", "resnet50")
    # Of one size, but other parts.
    servers = shape(servers=[{"count": 1}, {"count": 1, "speed": 3}])
    channels = shape(channels=[{"count": 1}, {"count": 1, "bandwidth_hz": 5e6}])
    assert servers["observation"] != channels["observation"]


def test_agents_see_what_tells_unlike_ones_apart_and_nothing_more():
    assert list(TaskWindowMDP(Scenario()).observation_layout.sizes) == ["queues", "distances"]
    groups = [{"count": 2, "local_slowdown": 4}, {"count": 1, "dnn": "mobilenet_v2"}]
    fields = {"devices": groups, "servers": [{"count": 1}, {"count": 1, "speed": 3}]}
    mdp = TaskWindowMDP(Scenario.from_dict(fields))
    layout = mdp.observation_layout
    seen = mdp.make(4).observation()
    assert seen.shape == (4, layout.size) == (4, 2 * 3 + 6 * 3 + 2 * 2)
    assert seen[1, layout["server_speed"]].tolist() == [1, 3]
    latency_s = np.array([4 * 8.603, 4 * 8.603, 5 * 4.10]) / 1e3
    assert seen[2, layout["local_latency"]] == pytest.approx(latency_s)
    assert "bandwidth" not in layout.sizes
