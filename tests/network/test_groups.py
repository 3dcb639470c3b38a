"""Unlike devices, servers and channels: what a scenario takes, and what the network makes of it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_mec.envs import TaskWindowMDP, TimeSlotMDP
from rllib_mec.envs.action_views import action_view
from rllib_mec.errors import MecError
from rllib_mec.network.consistency import USED_BY
from rllib_mec.network.defaults import SERVER_LATENCY_MS
from rllib_mec.network.groups import ChannelGroup, DeviceGroup, ServerGroup
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import RandomPolicy
from rllib_mec.policies.planner.policy import check_plannable
from rllib_mec.testbed.options import ServerOptions

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
    assert not {"bandwidth", "head_share", "least_bits"} & layout.sizes.keys()


SPECS = {
    "devices": [{}, {"local_slowdown": 8}, {"mean_tasks": 9, "max_power_dbm": 20.0}],
    "servers": [{}, {"speed": 2.0}],
    "channels": [{}, {"bandwidth_hz": 5e6}],
}
drawn_groups = st.fixed_dictionaries(
    {
        kind: st.lists(st.tuples(st.sampled_from(specs), st.integers(1, 2)), min_size=1, max_size=3)
        for kind, specs in SPECS.items()
    }
)


@settings(max_examples=15, deadline=None)
@given(drawn_groups, st.sampled_from([None, "phone"]))
def test_splitting_and_naming_groups_changes_nothing(groups, name):
    fields = {"mean_tasks": 5.0, "max_window": 2}
    whole = {
        kind: [{**spec, "count": count} for spec, count in drawn] for kind, drawn in groups.items()
    }
    split = {
        kind: [
            {**spec, "count": 1, "name": name and f"{name} {i}"}
            for spec, count in drawn
            for i in range(count)
        ]
        for kind, drawn in groups.items()
    }
    mdps = [TaskWindowMDP(Scenario.from_dict({**fields, **each})) for each in (whole, split)]
    assert mdps[0].shape == mdps[1].shape
    assert mdps[0].scenario.unlike == mdps[1].scenario.unlike
    assert mdps[0].scenario.members == mdps[1].scenario.members
    runs = []
    for mdp in mdps:
        worlds, policy = mdp.make(2, 3), RandomPolicy(mdp)
        steps = [worlds.step(policy.decide(worlds.observation())) for _ in range(4)]
        runs.append([value for step in steps for value in step])
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)


def test_names_alone_are_kept_and_make_nothing_unlike():
    groups = [{"count": 2, "name": "phone"}, {"count": 1, "name": "pi"}]
    mdp = TaskWindowMDP(Scenario.from_dict({"devices": groups}))
    check_plannable(mdp)
    assert mdp.observation_size == TaskWindowMDP(Scenario()).observation_size
    assert "devices 2 phone + 1 pi" in mdp.scenario.caption
    assert Scenario.from_dict(mdp.scenario.to_dict()).caption == mdp.scenario.caption


def test_a_scenario_tells_of_groups_what_is_set():
    groups = ({"count": 1}, {"count": 2, "name": "pi", "local_slowdown": 8.0})
    assert Scenario.from_dict({"devices": groups}).to_dict()["devices"] == groups


EXTREMES = (1e300, 1e16, 1e15, 1e9, 200.0, 5.0, 1.0, 1e-3, 1e-20, 1e-300, -200.0, -1e300)
REALS = [
    *(("", Scenario, field) for field in dataclasses.fields(Scenario)),
    *(("devices", DeviceGroup, field) for field in dataclasses.fields(DeviceGroup)),
    *(("servers", ServerGroup, field) for field in dataclasses.fields(ServerGroup)),
    *(("channels", ChannelGroup, field) for field in dataclasses.fields(ChannelGroup)),
]


@pytest.mark.parametrize(
    ("groups", "field"),
    [
        (groups, field.name)
        for groups, _, field in REALS
        if any(
            word in str(field.type)
            for word in (
                "Quantity",
                "Positive",
                "Number",
                "NonNeg",
                "Metres",
                "Speed",
                "Pause",
                "Height",
            )
        )
    ],
)
def test_a_number_is_borne_or_refused_by_its_path(groups, field):
    assert field != "count"
    borne = 0
    for value in EXTREMES:
        value = (value, value) if "range" in field else value
        chooser, choices = USED_BY.get(field, ("profile", ("paper",)))
        fields = {field: value, chooser: choices[-1]}
        if groups:
            fields = {groups: [{"count": 1}, {"count": 1, field: value}]}
        try:
            scenario = Scenario.from_dict(fields)
        except MecError as error:
            path = f"{groups}[1].{field}" if groups else field
            assert str(error).startswith(path) and "\n" not in str(error)
            continue
        for mdp in (TaskWindowMDP(scenario), TimeSlotMDP(scenario)):
            worlds = mdp.make(2, num_tasks=2)
            step = worlds.step(RandomPolicy(mdp).decide(worlds.observation()))
            assert np.isfinite(step.reward).all() and np.isfinite(step.observation).all()
        borne += 1
    assert borne


def test_whole_numbers_beyond_memory_are_refused_by_their_path():
    for field in ("num_devices", "num_servers", "num_channels", "max_window"):
        with pytest.raises(MecError, match=f"^{field} must be at most 100000"):
            Scenario.from_dict({field: 10**30})
    with pytest.raises(MecError, match=r"^devices\[0\].max_window must be at most 100000"):
        Scenario.from_dict({"devices": [{"count": 1, "max_window": 10**30}]})


def test_a_point_for_all_is_one_of_every_device_of_unlike_ones():
    groups = [{"count": 1}, {"count": 1, "dnn": "mobilenet_v2"}]
    fields = {"devices": groups, "partition": "operator"}
    scenario = Scenario.from_dict(fields)
    last = min(table.num_points for table in scenario.tables) - 2
    assert action_view(scenario, "continuous", fixed_partition=last)
    for bad in (last + 1, None):
        with pytest.raises(MecError, match=rf"mobilenet_v2.*0\.\.{last}|0\.\.{last} of mobile"):
            action_view(scenario, "continuous", fixed_partition=bad)
    of_all = Scenario.from_dict({**fields, "devices": [{"count": 3, "dnn": "mobilenet_v2"}]})
    with pytest.raises(MecError, match="point of mobilenet_v2 but full local"):
        action_view(of_all, "flat", fixed_partition=999)


def test_windows_of_groups_are_taken_as_1_in_time_slots_and_refused_where_set():
    groups = [{"count": 1}, {"count": 2, "max_window": 3}]
    windows = Scenario.from_dict({"devices": groups})
    slots = TimeSlotMDP(windows)
    assert slots.scenario.of_devices("max_window").tolist() == [1, 1, 1]
    assert not slots.scenario.unlike
    assert TimeSlotMDP(Scenario(num_devices=4)).scenario.num_devices == 4
    for own in (groups, windows.devices):
        with pytest.raises(MecError, match=r"^devices\[1\].max_window must be 1 in a time slot"):
            TimeSlotMDP.from_dict({"devices": own})
    TimeSlotMDP.from_dict({"devices": [{"count": 1, "max_window": 1}, {"count": 1}]})


def resolved(scenario, monkeypatch, **options):
    policy = RandomPolicy(scenario)
    monkeypatch.setattr(ServerOptions, "load_policy", lambda self: policy)
    return ServerOptions(checkpoint="trained", **options).resolved()


def test_a_server_takes_the_dnn_of_equal_devices_and_refuses_unlike_ones(monkeypatch):
    equal = Scenario.from_dict({"devices": [{"count": 2, "dnn": "mobilenet_v2", "name": "pi"}]})
    assert resolved(equal, monkeypatch).model == "mobilenet_v2"
    with pytest.raises(MecError, match="trained for 'mobilenet_v2', not for 'resnet50'"):
        resolved(equal, monkeypatch, model="resnet50")
    for unlike in ({"dnn": "mobilenet_v2"}, {"local_slowdown": 9}):
        groups = [{"count": 2, "name": "phone"}, {"count": 1, "name": "pi", **unlike}]
        with pytest.raises(MecError, match=r"unlike devices \(.*2 phone \+ 1 pi.*equal devices$"):
            resolved(Scenario.from_dict({"devices": groups}), monkeypatch)
