"""Rules of practitioners, on cases small enough to be checked by hand."""

import numpy as np
import pytest

from rllib_mec.envs import TaskStreamMDP, TaskWindowMDP, TimeSlotMDP
from rllib_mec.envs.actions import power_w
from rllib_mec.envs.observation import Coming, State
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import DeadlineFirst, LocalOnly, Neurosurgeon, RoundRobin, ShortestQueue

HEURISTICS = (Neurosurgeon, RoundRobin, ShortestQueue)


def decisions(make, scenario, queues=50, distances=50.0, num_worlds=1):
    """Of all MDs in the first window."""
    worlds = TaskWindowMDP(scenario).make(num_worlds, num_tasks=queues, distance_m=distances)
    return make(scenario).decide(worlds.reset())


@pytest.mark.parametrize("profile", ["paper", "si"])
@pytest.mark.parametrize("remote", [1.0, 0.5])
def test_neurosurgeons_cut_is_the_best_of_all_points_and_powers(profile, remote):
    fields = {"num_devices": 1, "num_servers": 1, "num_channels": 1, "max_window": 1}
    scenario = Scenario(
        **fields, profile=profile, remote_feature_share=remote, shadowing_std_db=0.0
    )
    distances = np.array([3.0, 50.0, 150.0, 400.0])
    for distance in distances:
        worlds = TaskWindowMDP(scenario).make(
            31 * scenario.num_points, num_tasks=1, distance_m=distance
        )
        observation = worlds.reset()
        points, powers = np.meshgrid(np.arange(scenario.num_points), np.linspace(0, 1, 31))
        shape = (points.size, 1, 1)
        actions = {
            "partition": points.reshape(shape), "power": powers.reshape(shape),
            **{key: np.zeros(shape, dtype=int) for key in ("channel", "server")},
            "window": np.zeros(shape[:2], dtype=int),
        }  # fmt: skip
        best = worlds.simulate(actions).reward.max()
        found = worlds.simulate(Neurosurgeon(scenario).decide(observation)).reward
        np.testing.assert_allclose(found, best, rtol=1e-6)


def test_near_devices_offload_with_less_power_and_far_ones_stay_local():
    scenario = Scenario(num_devices=3, profile="si", distance_range_m=(1.0, 3000.0))
    found = decisions(Neurosurgeon, scenario, distances=[5.0, 60.0, 3000.0])
    first = found["partition"][0, :, 0]
    assert (first[:2] < scenario.full_local).all() and first[2] == scenario.full_local
    assert (found["partition"] == found["partition"][:, :, :1]).all()  # one cut per device
    thrifty = Scenario(num_devices=3)
    found = decisions(Neurosurgeon, thrifty, distances=[5.0, 60.0, 90.0])
    assert (np.diff(power_w(found["power"], thrifty)[0, :, 0]) > 0).all()


def test_neurosurgeon_deals_devices_in_turn_and_round_robin_tasks():
    scenario = Scenario(num_devices=3, num_channels=3, max_window=2)
    own, dealt = (decisions(make, scenario) for make in (Neurosurgeon, RoundRobin))
    assert own["server"][0].tolist() == [[0, 0], [1, 1], [0, 0]]
    assert own["channel"][0].tolist() == [[0, 0], [1, 1], [2, 2]]
    # All first tasks, then all second ones: 0 1 2, 3 4 5.
    assert dealt["server"][0].tolist() == [[0, 1], [1, 0], [0, 1]]
    assert dealt["channel"][0].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert (own["window"] == 1).all() and (dealt["window"] == 1).all()


def test_only_tasks_that_are_there_take_a_turn():
    scenario = Scenario(num_devices=3, max_window=2)
    found = decisions(RoundRobin, scenario, queues=[1, 0, 2])["server"][0]
    assert (found[0, 0], found[2, 0], found[2, 1]) == (0, 1, 0)
    found = decisions(ShortestQueue, scenario, queues=[1, 0, 2])["server"][0]
    assert (found[0, 0], found[2, 0], found[2, 1]) == (0, 1, 0)


def test_the_shortest_queue_is_counted_in_work_over_speed():
    # Servers of speed 1 and 3; a task is 8.603 ms of the first, 2.87 ms of the second.
    servers = [{"count": 1}, {"count": 1, "speed": 3.0}]
    scenario = Scenario(num_devices=1, servers=servers, max_window=5)
    found = decisions(ShortestQueue, scenario)
    # Done first at 2.87, 5.74, then 8.603 on both (the first wins), 8.603, 11.47.
    assert found["server"][0, 0].tolist() in ([1, 1, 0, 1, 1], [1, 1, 1, 0, 1])
    slower = [{"count": 1}, {"count": 1, "speed": 3.0, "latency_ms": 20.0}]
    found = decisions(ShortestQueue, scenario.replace(servers=slower))
    # 20 ms away: 22.87 and 25.73 ms, when the first would take 25.8; then 28.6.
    assert found["server"][0, 0].tolist() == [0, 0, 1, 1, 0]


def test_tasks_of_another_dnn_have_their_own_work_in_the_queue():
    # MobileNetV2 has 4.10 ms on a server, ResNet-50 8.603.
    devices = [{"count": 1}, {"count": 3, "dnn": "mobilenet_v2"}]
    scenario = Scenario(devices=devices, max_window=1)
    found = decisions(ShortestQueue, scenario)
    assert (found["partition"] == 0).all()
    # 8.6 on server 0; then 4.1 and 8.2 on server 1; then server 0's 12.7 against 12.3.
    assert found["server"][0, :, 0].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("make", HEURISTICS)
def test_unlike_devices_have_cuts_of_their_own_on_their_channel_and_server(make):
    scenario = Scenario(
        profile="si",
        devices=[
            {"count": 2},
            {"count": 1, "local_slowdown": 0.2},
            {"count": 2, "dnn": "mobilenet_v2", "max_window": 2},
        ],
        servers=[{"count": 1}, {"count": 2, "speed": 0.02}],
        channels=[{"count": 1}, {"count": 1, "bandwidth_hz": 1e3}],
    )
    found = decisions(make, scenario, num_worlds=3)
    for key, values in found.items():
        assert (values == values[:1]).all(), key
    # Faster than its server, over a channel of no use, or with a server of no use: all is local.
    full_local = scenario.physics.full_local[:, None]
    is_local = (found["partition"] >= full_local)[0]
    useless = (found["channel"] == 1) | (found["server"] > 0)
    assert is_local[2].all() and is_local[useless[0]].all() and not is_local.all()


@pytest.mark.parametrize("make", HEURISTICS)
def test_they_play_whole_episodes_at_every_size(make):
    for num_devices in (1, 3, 300):
        scenario = Scenario(num_devices=num_devices)
        found = evaluate(make(scenario), episodes=2, num_tasks=6)
        assert np.isfinite(found["reward"].mean)
    light = Scenario(num_devices=2)
    local, rule = (evaluate(policy(light), episodes=10) for policy in (LocalOnly, make))
    assert rule["reward"].mean > 2 * local["reward"].mean / 3


URGENT = {
    "devices": [
        {"count": 2, "deadline_ms": 100.0},
        {"count": 1, "deadline_ms": 50.0},
        {"count": 1},
    ],
    "servers": [{"count": 1}, {"count": 1, "speed": 3.0}],
    "channels": [{"count": 1}, {"count": 1, "bandwidth_hz": 5e6}],
    "max_window": 2,
    "distance_range_m": (1.0, 50.0),
}


def in_stream(make, waited_ms, queues=(1, 1, 1, 1)):
    """What is decided where the oldest tasks have waited so long."""
    mdp = TaskStreamMDP(Scenario.from_dict(URGENT))
    coming = Coming(np.array([waited_ms], dtype=float), np.zeros((1, 4)), np.ones(1))
    state = State(np.array([queues]), np.full((1, 4), 20.0), None, coming)
    return make(mdp).decide(mdp.observe(state))


def test_deadline_first_gives_the_fast_server_and_the_wide_channel_to_the_most_urgent():
    # Time left: 100, 10, 50, for ever.
    found = in_stream(DeadlineFirst, [0.0, 90.0, 0.0, 500.0])
    # In the order 1, 2, 0, 3: channels in turn, the wide one first.
    assert found["channel"][0, :, 0].tolist() == [1, 1, 0, 0]
    assert found["server"][0, 1, 0] == 1
    found = in_stream(DeadlineFirst, [0.0, 0.0, 49.0, 0.0])
    assert found["channel"][0, 2, 0] == 1 and found["server"][0, 2, 0] == 1
    assert found["channel"][0, :, 0].tolist() == [0, 1, 1, 0]
    # Who has no task at hand takes nothing from the others.
    found = in_stream(DeadlineFirst, [0.0, 0.0, 0.0, 0.0], queues=(1, 0, 0, 0))
    assert found["channel"][0, 0, 0] == 1 and found["server"][0, 0, 0] == 1


def test_deadline_first_decides_task_by_task_where_there_are_deadlines():
    found = in_stream(DeadlineFirst, [0.0, 0.0, 0.0, 0.0], queues=(2, 2, 2, 2))
    assert found["window"][0].tolist() == [0, 0, 0, 1]


def test_deadline_first_meets_more_deadlines_than_the_shortest_queue():
    mdp = TaskStreamMDP(Scenario.from_dict({**URGENT, "arrival_rate_hz": 30.0}), arrivals="bursts")
    first, shortest = (
        evaluate(make(mdp), episodes=8)["deadline_hit_rate"].mean
        for make in (DeadlineFirst, ShortestQueue)
    )
    assert first > shortest


def test_deadline_first_is_refused_without_deadlines():
    for mdp in (
        TaskWindowMDP(Scenario(deadline_ms=50.0)),
        TimeSlotMDP(Scenario(deadline_ms=50.0)),
        TaskStreamMDP(Scenario()),
    ):
        with pytest.raises(MecError, match=f"first needs deadlines.*{mdp.env_id} has none"):
            DeadlineFirst(mdp)


def test_observations_tell_how_long_tasks_have_waited():
    mdp = TaskStreamMDP(Scenario(arrival_rate_hz=150.0, deadline_ms=50.0), arrivals="bursts")
    worlds = mdp.make(16)
    for _ in range(6):
        worlds.step(ShortestQueue(mdp).decide(worlds.observation()))
    seen, state = mdp.decode(worlds.observation()), worlds.state
    assert state.coming.oldest_ms.any()
    for one, two in zip(seen.coming[:3], state.coming[:3], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)
