"""Servers and MDs that fail and come back, and MDs that join and leave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rllib_mec.envs import TaskStreamMDP, task_stream_v0
from rllib_mec.envs.presence import USED_BY
from rllib_mec.errors import MecError
from rllib_mec.network.outages import is_up, next_up, random_outages, read_outages, read_visits
from rllib_mec.policies import FullOffload, LocalOnly, RandomPolicy

LOCAL_MS = 43.015  # ResNet-50
PRESENCE = {
    "outages": "random",
    "server_up_ms": 200.0,
    "server_down_ms": 100.0,
    "device_up_ms": 400.0,
    "device_down_ms": 50.0,
    "visits": "random",
    "present_share": 0.4,
    "stay_ms": 500.0,
}


def trace(tmp_path, *lines):
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def outages_of(tmp_path, *lines, **fields):
    """Nothing arrives: all tasks are there at the start."""
    path = trace(tmp_path, "part,from_s,to_s", *lines)
    fields = {"arrivals": "none", "num_devices": 1, "num_servers": 2, "horizon_ms": 5e3} | fields
    return TaskStreamMDP.from_dict({"outages": path, **fields})


def play(worlds, policy, steps):
    return [worlds.step(policy.decide(worlds.observation())) for _ in range(steps)]


def test_a_server_that_is_out_is_replaced_by_the_next_and_if_none_is_up_by_the_device(tmp_path):
    mdp = outages_of(tmp_path, "server_0,0,1", "server_1,0.2,2", max_window=1)
    worlds = mdp.make(1, num_tasks=40, distance_m=50.0)
    assert worlds.state.coming.present.servers_up.tolist() == [[False, True]]
    actions = FullOffload(mdp).decide(worlds.observation())
    actions["server"][:] = 0
    before = worlds.step(actions)
    assert before.point_tasks[0, 0] == 1  # at server 1
    while worlds.clock_ms[0] < 200.0:
        step = worlds.step(actions)
    assert worlds.clock_ms[0] == 200.0  # a step ends where something changes
    assert not worlds.state.coming.present.servers_up.any()
    step = worlds.step(actions)  # the task that was cut off, anew
    assert step.point_tasks[0].tolist() == [0] * (mdp.scenario.num_points - 1) + [1]
    assert step.elapsed_ms[0] == pytest.approx(LOCAL_MS)


def test_a_task_on_a_server_that_fails_is_sent_again(tmp_path):
    mdp = outages_of(tmp_path, "server_0,0.005,9", max_window=1, shadowing_std_db=0.0)
    worlds = mdp.make(1, num_tasks=1, distance_m=50.0)
    undisturbed = outages_of(tmp_path, "server_1,8,9", max_window=1, shadowing_std_db=0.0)
    alone = undisturbed.make(1, num_tasks=1, distance_m=50.0)
    actions = FullOffload(mdp).decide(worlds.observation())
    actions["server"][:] = 0
    (whole,) = [alone.step(actions)]
    first, second = worlds.step(actions), worlds.step(actions)
    assert first.elapsed_ms[0] == 5.0 and first.window_size[0, 0] == 0
    # On server 0 it was after 0.4 ms on air; what it had done there is lost.
    assert whole.stage_ends[0, 0, 0, 1] < 5.0
    assert second.elapsed_ms[0] == pytest.approx(whole.elapsed_ms[0], rel=1e-9)
    on_air_j = whole.energy_j[0]
    assert first.energy_j[0] + second.energy_j[0] == pytest.approx(2 * on_air_j, rel=1e-9)
    assert second.terminated[0]


def test_a_task_is_done_anew_on_its_device_when_the_last_server_fails(tmp_path):
    mdp = outages_of(tmp_path, "server_0,0.005,9", num_servers=1, max_window=1)
    worlds = mdp.make(1, num_tasks=1, distance_m=50.0)
    steps = play(worlds, FullOffload(mdp), 2)
    assert steps[1].elapsed_ms[0] == pytest.approx(LOCAL_MS)
    assert steps[1].energy_j[0] == pytest.approx(0.04089184256)
    assert steps[1].point_tasks[0, -1] == 1 and steps[1].terminated[0]


def test_a_device_that_fails_loses_its_task_in_flight_and_begins_it_again(tmp_path):
    mdp = outages_of(tmp_path, "md_0,0.02,0.1", num_devices=2, max_window=1)
    worlds = mdp.make(1, num_tasks=[1, 3], distance_m=50.0)
    policy = LocalOnly(mdp)
    cut = worlds.step(policy.decide(worlds.observation()))
    assert cut.elapsed_ms[0] == 20.0 and not cut.window_size.any()
    assert worlds.queues[0].tolist() == [1, 2]  # md_1's first goes on
    assert worlds.observation()[0, mdp.observation_layout["devices_up"]].tolist() == [0, 1]
    assert worlds.state.flight.stage[0].tolist() == [0, 1]
    done_at = []
    while not cut.terminated[0]:
        start = worlds.clock_ms[0]
        cut = worlds.step(policy.decide(worlds.observation()))
        if cut.window_size[0, 0]:
            done_at.append(start + cut.stage_ends[0, 0, 0, 2])
    assert done_at == [pytest.approx(100.0 + LOCAL_MS)]


def test_outages_are_up_and_down_as_long_as_they_should_be():
    keys = np.arange(400, dtype=np.uint64)
    changes = random_outages(keys, 0, np.array([300.0, 50.0]), np.array([100.0, 0.0]), 20_000.0)
    assert np.isinf(changes[:, 1]).all()  # a part without time down never fails
    times = np.linspace(0.0, 19_999.0, 200)
    up = np.mean([is_up(changes, np.full(len(keys), t))[:, 0] for t in times], axis=1)
    assert up.mean() == pytest.approx(0.75, abs=0.01)
    assert abs(up[0] - 0.75) < 0.07 and abs(up[-1] - 0.75) < 0.07  # from the start on
    gaps = np.diff(np.minimum(changes[:, 0], 1e9), axis=1)[:, :40]
    was_down = changes[:, 0, 0] == 0.0
    down = np.concatenate([gaps[was_down, 0::2].ravel(), gaps[~was_down, 0::2].ravel()])
    assert down[(down > 0.0) & (down < 1e5)].mean() == pytest.approx(100.0, rel=0.05)


def test_the_next_server_that_is_up():
    up = np.array([[True, True, True], [False, False, True], [False, False, False]])
    assert next_up(up).tolist() == [[0, 1, 2], [2, 2, 2], [-1, -1, -1]]


networks = st.fixed_dictionaries(
    {
        "num_devices": st.integers(1, 4),
        "num_servers": st.integers(1, 2),
        "arrivals": st.sampled_from(["poisson", "none"]),
        "arrival_rate_hz": st.sampled_from([8.0, 40.0]),
        "mean_tasks": st.just(5.0),
        "horizon_ms": st.sampled_from([400.0, 1000.0]),
        "outages": st.sampled_from(["none", "random"]),
        "visits": st.sampled_from(["none", "random"]),
        "device_down_ms": st.sampled_from([0.0, 50.0]),
    }
)


@settings(max_examples=60, deadline=None)
@given(networks, st.integers(0, 2**32))
@example(
    {"num_devices": 2, "num_servers": 1, "arrivals": "none", "mean_tasks": 5.0,
     "horizon_ms": 400.0, "outages": "none", "visits": "random"},
    74,
)  # fmt: skip
def test_every_task_is_done_or_waits_or_flies_or_was_left_behind(fields, seed):
    given = {**PRESENCE, **fields}
    unread = {name for name, (by, choices) in USED_BY.items() if given[by] not in choices}
    mdp = TaskStreamMDP.from_dict({k: v for k, v in given.items() if k not in unread})
    worlds, policy = mdp.make(1, seed), RandomPolicy(mdp, seed)
    come = np.isfinite(worlds.tasks.arrival_ms).sum()
    done, ended = 0, False
    while not ended:
        present = worlds.state.coming.present
        idle = ~present.devices_up[0]
        assert not worlds.state.flight.stage[0][idle].any()
        assert not worlds.queues[0][~present.joined[0]].any()
        left, clock_ms = worlds.queues.sum(), worlds.clock_ms[0]
        step = worlds.step(policy.decide(worlds.observation()))
        assert step.elapsed_ms[0] > 0.0 or clock_ms >= mdp.horizon_ms or come == 0
        assert not step.window_size[0][idle].any()
        assert step.energy_j[0] >= 0.0 and step.reward[0] <= 0.0
        done += step.window_size.sum()
        ended = bool(step.ended[0])
    measured = {name: values[0] for name, values in step.measured.items()}
    gone = done + measured["backlog"] + measured.get("abandoned", 0.0)
    assert 0 <= come - gone <= mdp.scenario.num_devices or left == 0
    if step.terminated[0] and mdp.visits == "none":
        assert come == done


def test_the_same_seed_has_the_same_presence_whatever_the_batch_and_the_decisions():
    mdp = TaskStreamMDP.from_dict({**PRESENCE, "horizon_ms": 2e3})
    alone, batch = mdp.make(1, 5), mdp.make(4, 3)
    play(alone, LocalOnly(mdp), 3)
    play(batch, RandomPolicy(mdp), 3)
    for name in ("servers_ms", "devices_ms", "visits_ms"):
        one, all_of = (worlds.get_state()["presence"][name] for worlds in (alone, batch))
        width = min(one.shape[2], all_of.shape[2])
        np.testing.assert_array_equal(one[0, :, :width], all_of[2, :, :width])


def test_a_restored_state_continues_bit_for_bit():
    mdp = TaskStreamMDP.from_dict({**PRESENCE, "horizon_ms": 1e3, "arrival_rate_hz": 40.0})
    worlds, policy = mdp.make(4, 2), RandomPolicy(mdp)
    play(worlds, policy, 5)
    state = worlds.get_state()
    actions = [policy.decide(worlds.observation()) for _ in range(60)]
    steps = [worlds.step(action) for action in actions]
    assert sum(step.ended.sum() for step in steps) > 4
    other = mdp.make(4, 77)
    other.set_state(state)
    for action, step in zip(actions, steps, strict=True):
        for name, one, two in zip(step._fields, other.step(action), step, strict=True):
            np.testing.assert_equal(one, two, err_msg=name)


def test_agents_join_and_leave(tmp_path):
    path = trace(tmp_path, "device,join_s,leave_s", "md_0,0,0.3", "1,0.1,9", "2,0.25,0.5")
    env = task_stream_v0.parallel_env(
        num_devices=4, visits=path, horizon_ms=800.0, arrival_rate_hz=50.0
    )
    observations, _ = env.reset(seed=1)
    assert env.agents == list(observations) == ["md_0"]
    space = env.action_space("md_0")
    seen, ends = [], {}
    while env.agents:
        acted = env.agents
        observations, rewards, terminations, truncations, infos = env.step(
            {agent: space.sample() for agent in acted}
        )
        for per_agent in (rewards, terminations, truncations, infos):
            assert list(per_agent) == list(observations)
        new = set(observations) - set(acted)
        assert all(rewards[agent] == 0.0 and not terminations[agent] for agent in new)
        ends |= {a: "left" for a, is_over in terminations.items() if is_over}
        ends |= {a: "cut" for a, is_over in truncations.items() if is_over}
        seen.append(tuple(env.agents))
    assert list(dict.fromkeys(seen)) == [
        ("md_0",),
        ("md_0", "md_1"),
        ("md_0", "md_1", "md_2"),
        ("md_1", "md_2"),
        ("md_1",),
        (),
    ]
    assert ends == {"md_0": "left", "md_2": "left", "md_1": "cut"}  # md_3 never came


def test_the_episode_ends_with_the_last_visit_and_time_runs_on_while_nobody_is_there(tmp_path):
    path = trace(tmp_path, "device,join_s,leave_s", "0,0.1,0.2", "1,0.5,0.6")
    mdp = TaskStreamMDP.from_dict(
        {"num_devices": 2, "visits": path, "arrival_rate_hz": 100.0, "max_window": 1}
    )
    worlds, ended, clocks = mdp.make(1, 3), False, []
    while not ended:
        assert worlds.joined.any()
        clocks.append(worlds.clock_ms[0])
        step = worlds.step(LocalOnly(mdp).decide(worlds.observation()))
        ended = bool(step.terminated[0])
    assert 100.0 <= clocks[0] < 200.0
    assert not any(200.0 <= clock < 500.0 for clock in clocks)
    assert clocks[-1] + step.elapsed_ms[0] == 600.0
    assert step.measured["abandoned"][0] > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"outages": "randm"}, "unknown outages 'randm': did you mean 'random'"),
        ({"visits": "visits.csv"}, "visits must be an absolute path"),
        ({"outages": "/no/such.csv"}, "outages: cannot read the trace '/no/such.csv'"),
        ({"visits": 3}, "visits must be one of none, random or a CSV file, not 3"),
        ({"server_up_ms": 0.0}, "server_up_ms must be positive"),
        ({"device_down_ms": -1.0}, "device_down_ms must be at least 0"),
        ({"present_share": 1.5}, "present_share must be at most 1, but is 1.5"),
        ({"stay_ms": "long"}, "stay_ms must be a number"),
    ],
)
def test_bad_settings_are_refused_in_one_line(fields, message):
    with pytest.raises(MecError, match=message) as error:
        TaskStreamMDP.from_dict(fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["part,from,to"], ":1: the first line must be part,from_s,to_s"),
        (["part,from_s,to_s", "server_2,0,1"], ":2: part must be one of 0 to 1, .*'server_2'"),
        (["part,from_s,to_s", "3,0,1"], ":2: part must be like server_0 or md_3, but is '3'"),
        (["part,from_s,to_s", "md_0,5,1"], ":2: to_s 1 must not be before 5"),
        (["part,from_s,to_s", "md_0,0,5", "md_0,4,6"], ":3: from_s 4 must not be before 5"),
        (["part,from_s,to_s", "md_0,0"], ":2: expected part,from_s,to_s, but got 'md_0,0'"),
    ],
)
def test_a_bad_trace_of_outages_is_refused_by_its_line(tmp_path, lines, message):
    with pytest.raises(MecError, match=message):
        read_outages(trace(tmp_path, *lines), 2, 3)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["device,join_s,leave_s", "3,0,1"], ":2: device must be one of 0 to 2, but is '3'"),
        (["device,join_s,leave_s", "0,2,1"], ":2: leave_s 1 must not be before 2"),
        (["device,join_s,leave_s", "0,0,1", "0,2,3"], ":3: md_0 comes a second time"),
        (["device,join_s,leave_s"], ":1: the trace has no lines after its first"),
    ],
)
def test_a_bad_trace_of_visits_is_refused_by_its_line(tmp_path, lines, message):
    with pytest.raises(MecError, match=message):
        read_visits(trace(tmp_path, *lines), 3)
