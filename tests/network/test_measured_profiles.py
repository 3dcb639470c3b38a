import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from rllib_mec.dnn import LatencyProfile, build_model, measure_latency, model_graph, trace
from rllib_mec.envs import TaskStreamMDP, TaskWindowMDP, TimeSlotMDP
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.evaluation.bound import lower_bound
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import RandomPolicy, ShortestQueue


def test_a_scenario_takes_measured_latencies_in_place_of_mac_shares(tmp_path):
    graph = trace(build_model("mobilenet_v2"), torch.rand(1, 3, 224, 224))
    measured = measure_latency(graph, runs=1, warmup=0)
    path = tmp_path / "device.json"
    measured.save(path)
    by_macs = Scenario(dnn="mobilenet_v2").table
    table = Scenario(dnn="mobilenet_v2", device_profile=str(path)).table
    assert table.local_latency_ms[-1] == pytest.approx(measured.total_ms)
    assert table.server_latency_ms[0] == by_macs.server_latency_ms[0]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("profile.json", r"must be an absolute path.*did you mean '/"),
        ("/nowhere/profile.json", "no such file '/nowhere/profile.json'"),
        (3, "must be a text, but is 3"),
    ],
)
def test_a_bad_profile_path_is_named(path, message):
    with pytest.raises(MecError, match=message):
        Scenario(device_profile=path)


def save_profile(path: Path, latency_ms, dnn: str = "mobilenet_v2") -> str:
    """A profile whose operators take so long, one number for all or one each; its path."""
    graph = model_graph(dnn)
    each = tuple(np.broadcast_to(latency_ms, len(graph)).tolist())
    LatencyProfile(
        dnn=dnn,
        operators=tuple(operator.name for operator in graph.operators),
        latency_ms=each,
        low_ms=each,
        high_ms=each,
        whole_ms=sum(each),
        runs=1,
        warmup=0,
        input_shapes=((1, 3, 224, 224),),
        machine={},
    ).save(path)
    return str(path)


QUIET = {"dnn": "mobilenet_v2", "shadowing_std_db": 0.0, "num_channels": 1, "max_window": 1}
SHARE = {"server_model": "share", "energy_weight": 0.0}


def played(scenario, point, server):
    """How long a lone task is served, ms."""
    shape = (1, scenario.num_devices, 1)
    decision = {"partition": point, "channel": 0, "server": server, "power": 0.5}
    actions = {name: np.full(shape, value) for name, value in decision.items()}
    worlds = TaskWindowMDP(scenario).make(1, num_tasks=1, distance_m=10.0)
    step = worlds.step({**actions, "window": np.zeros(shape[:2], dtype=int)})
    return step.stage_ends[0, 0, 0, 2] - step.stage_ends[0, 0, 0, 1]


def test_each_server_is_as_fast_at_every_cut_as_was_measured_on_it(tmp_path):
    graph = model_graph("mobilenet_v2")
    even = save_profile(tmp_path / "even.json", 0.1)
    late = save_profile(tmp_path / "late.json", [0.0] * (len(graph) - 1) + [7.0])
    own = [{"speed": 2.0}, {"server_profile": even}, {"server_profile": late}]
    groups = [{"count": 1, **each} for each in own]
    scenario = Scenario.from_dict({**QUIET, **SHARE, "num_devices": 1, "servers": groups})
    table = scenario.table
    for point in (0, table.num_points // 2, table.full_local - 1):
        left = len(table.point(point).tail_operators)
        expected = (table.server_share[point] * 4.10 / 2.0, 0.1 * left, 7.0)
        for server, ms in enumerate(expected):
            assert played(scenario, point, server) == pytest.approx(ms), (point, server)
    speeds = [2.0, 4.10 / (0.1 * len(graph)), 4.10 / 7.0]
    assert scenario.physics.server_speeds == pytest.approx(speeds)
    seen = TaskWindowMDP(scenario).make(1).observation()
    layout = TaskWindowMDP(scenario).observation_layout
    assert seen[0, layout["server_speed"]] == pytest.approx(speeds)


def test_the_front_has_the_best_cuts_of_every_server(tmp_path):
    rng = np.random.default_rng(0)
    graph = model_graph("mobilenet_v2")
    paths = [save_profile(tmp_path / f"{i}.json", rng.random(len(graph))) for i in range(2)]
    groups = [{"count": 1}, *({"count": 1, "server_profile": path} for path in paths)]
    scenario = Scenario.from_dict({**QUIET, **SHARE, "servers": groups})
    heads = {point.head for point in scenario.table.points}
    for path in (None, *paths):
        alone = Scenario.from_dict({**QUIET, **SHARE, "num_servers": 1, "server_profile": path})
        assert {point.head for point in alone.table.points} <= heads
    assert scenario.table.other_servers_ms.shape == (2, scenario.num_points)


def test_a_profile_in_a_group_that_says_what_the_speed_does_changes_nothing(tmp_path):
    graph = model_graph("mobilenet_v2")
    macs = np.array([operator.macs for operator in graph.operators])
    twice = save_profile(tmp_path / "twice.json", 4.10 / 2 * macs / macs.sum())
    fields = {**QUIET, **SHARE, "max_window": 3, "arrival_rate_hz": 30.0}
    by_speed, by_profile = (
        Scenario.from_dict({**fields, "servers": [{"count": 1}, {"count": 1, **own}]})
        for own in ({"speed": 2.0}, {"server_profile": twice})
    )
    for make in (TaskWindowMDP, TimeSlotMDP, TaskStreamMDP):
        own = {"observe_progress": True} if make is TimeSlotMDP else {}
        one, two = (make(each, **own) for each in (by_speed, by_profile))
        assert one.shape == two.shape
        worlds, others = one.make(4), two.make(4)
        policy = RandomPolicy(one)
        for _ in range(6):
            actions = policy.decide(worlds.observation())
            a, b = worlds.step(actions), others.step(actions)
            np.testing.assert_allclose(a.reward, b.reward, rtol=1e-9)
            np.testing.assert_allclose(a.observation, b.observation, rtol=1e-5)
        assert one.remarks == two.remarks
    bounds = [lower_bound(each) for each in (by_speed, by_profile)]
    assert bounds[0].cost == pytest.approx(bounds[1].cost)
    costs = [evaluate(ShortestQueue(each), episodes=4)["cost"] for each in (by_speed, by_profile)]
    assert costs[0].mean == pytest.approx(costs[1].mean)


def test_what_a_group_of_servers_cannot_have_is_refused_by_its_path(tmp_path):
    path = save_profile(tmp_path / "mobilenet.json", 0.1)
    first = {"count": 1, "latency_ms": 3.0}

    def scenario(own, **fields):
        return Scenario.from_dict({"servers": [first, {"count": 1, **own}], **fields})

    with pytest.raises(MecError, match=r"^servers\[1\].speed is 2, but its server_profile says"):
        scenario({"server_profile": path, "speed": 2.0})
    with pytest.raises(MecError, match=r"^servers\[1\].server_profile must be an absolute path"):
        scenario({"server_profile": "mobilenet.json"})
    with pytest.raises(MecError, match=r"^servers\[1\].server_profile: no such file"):
        scenario({"server_profile": "/nowhere.json"})
    fits = r"the profile of 'mobilenet_v2' does not fit 'resnet50'"
    with pytest.raises(MecError, match=rf"^servers\[1\].server_profile: {fits}"):
        _ = scenario({"server_profile": path}).physics
    groups = [{"count": 1, "dnn": "mobilenet_v2"}, {"count": 1, "dnn": "resnet50"}]
    with pytest.raises(MecError, match=rf"^servers\[1\].server_profile: {fits}"):
        _ = scenario({"server_profile": path}, devices=groups).physics
    with pytest.raises(MecError, match=rf"^server_profile: {fits}"):
        _ = Scenario(server_profile=path).physics
    with pytest.raises(MecError, match=rf"^devices\[1\].device_profile: {fits}"):
        _ = Scenario.from_dict(
            {"devices": [{"count": 1}, {"count": 1, "device_profile": path}]}
        ).physics
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(MecError, match=r"^servers\[1\].server_profile: "):
        _ = scenario({"server_profile": str(broken)}).physics


def test_a_group_without_a_profile_has_the_scenarios(tmp_path):
    path = save_profile(tmp_path / "all.json", 0.1)
    groups = [{"count": 1}, {"count": 1, "speed": 2.0}]
    fields = {**QUIET, "num_devices": 1, "server_profile": path, "servers": groups}
    scenario = Scenario.from_dict(fields)
    assert not scenario.server_profiles
    whole = scenario.table.server_latency_ms[0]
    assert [played(scenario, 0, m) for m in range(2)] == pytest.approx([whole, whole / 2])
    same = dataclasses.replace(scenario, servers=[{"count": 2, "server_profile": path}])
    assert not same.unlike
