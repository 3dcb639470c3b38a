"""Tasks that arrive: the task window is a special case, nothing gets lost, horizons cut."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_mec.envs import TaskStreamMDP, TaskWindowMDP
from rllib_mec.envs.episodes import run_episodes
from rllib_mec.envs.reward import total_rewards
from rllib_mec.errors import MecError
from rllib_mec.network.defaults import PROFILES
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload, LocalOnly, Planner, RandomPolicy

LOCAL_MS = 43.015


def mdp_of(**fields):
    return TaskStreamMDP.from_dict({"num_devices": 2, "horizon_ms": 800.0, **fields})


@pytest.mark.parametrize("profile", PROFILES)
def test_where_all_tasks_are_there_at_the_start_it_is_the_task_window_mdp(profile):
    scenario = Scenario(profile=profile, mean_tasks=12.0)
    windows = TaskWindowMDP(scenario).make(8, 5)
    stream = TaskStreamMDP(scenario, arrivals="none", horizon_ms=1e7).make(8, 5)
    policy = RandomPolicy(windows.mdp, 3)
    ended = 0
    for _ in range(40):
        seen = windows.observation()
        np.testing.assert_array_equal(stream.observation()[:, : seen.shape[1]], seen)
        actions = policy.decide(seen)
        one, other = windows.step(actions), stream.step(actions)
        ended += one.terminated.sum()
        for name, values in one._asdict().items():
            if name in ("observation", "starts", "measured"):
                continue
            theirs = getattr(other, name)
            theirs = theirs[:, :, :5] if name == "stage_ends" else theirs
            np.testing.assert_array_equal(theirs, values, err_msg=name)
    assert ended > 8


def test_tasks_of_a_lone_local_device_by_hand():
    class Three(TaskStreamMDP):
        env_id = "three_v0"

        def draw_arrivals(self, draw):
            return np.tile([10.0, 30.0, 200.0, np.inf], (len(draw.keys), 1, 1))

    mdp = Three(Scenario(num_devices=1, max_window=3, deadline_ms=50.0), horizon_ms=1000.0)
    worlds = mdp.make(1)
    assert worlds.clock_ms[0] == 10.0 and worlds.queues[0, 0] == 1
    local = LocalOnly(mdp).decide(worlds.observation())
    first = worlds.step(local)  # the one at hand; meanwhile the second comes
    assert first.latency_ms[0] == first.elapsed_ms[0] == pytest.approx(LOCAL_MS)
    assert (first.window_size[0, 0], worlds.queues[0, 0]) == (1, 1)
    energy = 50 * 0.04089184256
    assert first.reward[0] == pytest.approx(-LOCAL_MS - energy)  # it began as it came
    second = worlds.step(local)  # it waited from 30 to 53.015 ms; then time runs on to 200 ms
    waited = 10.0 + LOCAL_MS - 30.0
    assert second.latency_ms[0] == pytest.approx(LOCAL_MS)
    assert second.elapsed_ms[0] == pytest.approx(190.0 - LOCAL_MS)
    # 66 ms after it came it is late.
    assert second.reward[0] == pytest.approx(-LOCAL_MS - energy - waited - 50.0)
    assert not second.truncated[0] and worlds.clock_ms[0] == 200.0
    last = worlds.step(local)
    assert last.truncated[0] and not last.terminated[0]
    assert last.elapsed_ms[0] == pytest.approx(800.0)
    measured = {name: values[0] for name, values in last.measured.items()}
    sojourns = [LOCAL_MS, waited + LOCAL_MS, LOCAL_MS]
    assert measured["sojourn_ms"] == pytest.approx(np.mean(sojourns))
    assert measured["sojourn_p95_ms"] == pytest.approx(np.percentile(sojourns, 95))
    assert measured["deadline_hit_rate"] == pytest.approx(2 / 3)
    assert (measured["throughput_hz"], measured["backlog"], measured["fairness"]) == (3.0, 0.0, 1.0)
    assert worlds.clock_ms[0] == 10.0  # the next episode


def test_a_task_in_flight_keeps_its_decision_and_its_device_does_not_hold_up_the_others():
    class Two(TaskStreamMDP):
        env_id = "two_v0"

        def draw_arrivals(self, draw):
            times = [[0.0, 5.0, 60.0], [30.0, np.inf, np.inf]]
            return np.tile(times, (len(draw.keys), 1, 1))

    mdp = Two(Scenario(num_devices=2, max_window=2), horizon_ms=1000.0)
    worlds = mdp.make(1)
    actions = LocalOnly(mdp).decide(worlds.observation())
    step = worlds.step(actions)
    # MD 0 is done at 43 ms and has one that came meanwhile; MD 1 began at 30 ms and goes on.
    assert step.elapsed_ms[0] == pytest.approx(LOCAL_MS)
    assert step.window_size[0].tolist() == [1, 0]
    assert step.played[0].tolist() == [[True, False], [True, False]]
    assert step.starts[0, 1, 0] == 30.0
    np.testing.assert_allclose(step.stage_ends[0, 1, 0], LOCAL_MS)  # recorded up to there
    assert worlds.queues[0].tolist() == [1, 0]
    assert worlds.state.flight.stage[0].tolist() == [0, 1]
    # Asked to send, MD 1 does not: the task in flight began locally.
    actions["partition"][0, 1] = 0
    second = worlds.step(actions)
    assert second.window_size[0].tolist() == [1, 1]
    assert second.point_tasks[0, -1] == 2
    # The energy of a task in flight is paid as it is spent.
    shares = [(LOCAL_MS - 30.0) / LOCAL_MS, 30.0 / LOCAL_MS]
    for paid, share in zip((step, second), shares, strict=True):
        assert paid.energy_j[0] == pytest.approx((1 + share) * 0.04089184256)
    # It had no task at hand when MD 0 was done, and 60 ms was before that: ready again at once.
    assert worlds.clock_ms[0] == pytest.approx(2 * LOCAL_MS)


streams = st.fixed_dictionaries(
    {
        "num_devices": st.integers(1, 4),
        "profile": st.sampled_from(list(PROFILES)),
        "arrivals": st.sampled_from(["poisson", "bursts"]),
        "arrival_rate_hz": st.sampled_from([0.5, 8.0, 40.0, 200.0]),
        "deadline_ms": st.sampled_from([None, 60.0]),
        "max_window": st.integers(1, 4),
        "horizon_ms": st.sampled_from([50.0, 400.0]),
        "remote_feature_share": st.sampled_from([1.0, 0.5]),
    }
)


@settings(max_examples=60, deadline=None)
@given(streams, st.integers(0, 2**32))
def test_no_task_gets_lost_and_littles_law_holds(fields, seed):
    mdp = TaskStreamMDP.from_dict(fields)
    worlds, policy = mdp.make(1, seed), RandomPolicy(mdp, seed)
    arrival_ms = worlds.tasks.arrival_ms[0]  # of the whole episode
    done = np.zeros(mdp.scenario.num_devices, dtype=int)
    area = 0.0  # under the number of tasks in the system
    is_over = False
    while not is_over:
        start_ms = worlds.clock_ms[0]
        in_system = worlds.queues[0] + (worlds.state.flight.stage[0] > 0)
        has_come = arrival_ms <= start_ms * (1 + 1e-12)
        np.testing.assert_array_equal(has_come.sum(1), done + in_system)
        is_ready = (worlds.queues[0] > 0) & (worlds.state.flight.stage[0] == 0)
        assert is_ready.any() or start_ms == mdp.horizon_ms

        step = worlds.step(policy.decide(worlds.observation()))
        elapsed_ms, ends = step.elapsed_ms[0], step.stage_ends[0, ..., 2]
        gone = np.arange(ends.shape[1]) < step.window_size[0, :, None]
        comes = ~has_come & (arrival_ms <= start_ms + elapsed_ms)
        area += in_system.sum() * elapsed_ms - (elapsed_ms - ends[gone]).sum()
        area += (start_ms + elapsed_ms - arrival_ms[comes]).sum()
        done += step.window_size[0]
        is_over = bool(step.truncated[0])

        assert np.isfinite(step.observation).all() and (step.observation >= 0.0).all()
        assert step.energy_j[0] >= 0.0 and 0.0 <= step.latency_ms[0] <= elapsed_ms
        assert step.reward[0] == total_rewards(step.task_rewards)[0] <= 0.0
        assert not step.terminated[0]
        assert step.played[0].sum() >= is_ready.sum()
    measured = {name: values[0] for name, values in step.measured.items()}
    times = done.sum() * measured["sojourn_ms"] if done.any() else 0.0
    for n, count in enumerate(done):  # in order
        left = arrival_ms[n, count:]
        times += (mdp.horizon_ms - left[np.isfinite(left)]).sum()
    assert area == pytest.approx(times, rel=1e-9, abs=1e-6)
    assert measured["throughput_hz"] == pytest.approx(1e3 * done.sum() / mdp.horizon_ms)
    in_flight = np.isfinite(arrival_ms).sum() - done.sum() - measured["backlog"]
    assert 0 <= in_flight <= len(done)  # arrived = done + in flight + backlog


def test_the_same_seed_has_the_same_world_whatever_the_batch_or_the_decisions():
    mdp = mdp_of(arrivals="bursts", arrival_rate_hz=50.0)
    batch, alone = mdp.make(4, 10), mdp.make(1, 12)
    policy, other = RandomPolicy(mdp, 0), LocalOnly(mdp)
    for _ in range(3):  # episodes

        def arrivals(worlds, row):
            times = worlds.tasks.arrival_ms[row]
            return times[np.isfinite(times)]

        np.testing.assert_array_equal(arrivals(batch, 2), arrivals(alone, 0))
        for worlds, decider, row in ((batch, policy, 2), (alone, other, 0)):
            while not worlds.step(decider.decide(worlds.observation())).truncated[row]:
                pass
    again = mdp.make(4, 10)
    first = run_episodes(other.decide, mdp, 4, seed=10)
    second = run_episodes(other.decide, mdp, 2, seed=12)
    for name, values in first.columns().items():
        np.testing.assert_array_equal(values[2:], second.columns()[name], err_msg=name)
    assert again.queues.sum() > 0


class Permuted(TaskStreamMDP):
    """Device n's arrivals are those of device ``order[n]``."""

    env_id = "permuted_v0"
    order = (2, 0, 1)

    def draw_arrivals(self, draw):
        return super().draw_arrivals(draw)[:, list(self.order)]


def test_permuting_the_devices_permutes_the_results():
    scenario = Scenario(num_devices=3, shadowing_std_db=0.0, arrival_rate_hz=40.0)
    ours, theirs = (
        TaskStreamMDP(scenario).make(2, 3, distance_m=40.0),
        Permuted(scenario).make(2, 3, distance_m=40.0),
    )
    order, policy = list(Permuted.order), RandomPolicy(ours.mdp, 8)
    for _ in range(30):
        actions = policy.decide(ours.observation())
        one = ours.step(actions)
        other = theirs.step({key: values[:, order] for key, values in actions.items()})
        np.testing.assert_allclose(other.stage_ends, one.stage_ends[:, order], rtol=1e-9)
        np.testing.assert_array_equal(other.window_size, one.window_size[:, order])
        np.testing.assert_allclose(other.reward, one.reward, rtol=1e-9)


def test_a_restored_state_continues_bit_for_bit_over_the_end_of_episodes():
    mdp = mdp_of(arrival_rate_hz=40.0, deadline_ms=80.0)
    worlds, policy = mdp.make(4, 2), RandomPolicy(mdp)
    for _ in range(5):
        worlds.step(policy.decide(worlds.observation()))
    state = worlds.get_state()
    actions = [policy.decide(worlds.observation()) for _ in range(60)]
    steps = [worlds.step(action) for action in actions]
    assert sum(step.truncated.sum() for step in steps) > 4
    other = mdp.make(4, 77)
    other.step(actions[5])
    other.set_state(state)
    for action, step in zip(actions, steps, strict=True):
        for name, one, two in zip(step._fields, other.step(action), step, strict=True):
            np.testing.assert_equal(one, two, err_msg=name)


def test_what_a_cut_step_led_to_is_the_state_at_the_horizon_and_not_the_next_episodes():
    mdp = mdp_of(arrival_rate_hz=60.0, horizon_ms=300.0)
    worlds, policy = mdp.make(3, 1), LocalOnly(mdp)
    layout, seen = mdp.observation_layout, 0
    while not seen:
        step = worlds.step(policy.decide(worlds.observation()))
        led_to = worlds.led_to(step)
        np.testing.assert_array_equal(led_to[~step.truncated], step.observation[~step.truncated])
        assert not led_to[step.truncated][:, layout["time_left"]].any()
        # Overloaded: tasks wait at the end, of which the next episode knows nothing.
        assert (led_to[step.truncated][:, layout["queues"]] > 0).all()
        assert (step.observation[step.truncated][:, layout["time_left"]] > 0.9).all()
        seen = step.truncated.sum()


def test_an_episode_to_which_nothing_comes_is_cut_at_once():
    mdp = mdp_of(arrival_rate_hz=1e-6)
    episodes = run_episodes(LocalOnly(mdp).decide, mdp, 2)
    np.testing.assert_array_equal(episodes.num_windows, 1)
    np.testing.assert_array_equal(episodes.reward, 0.0)
    np.testing.assert_array_equal(episodes.energy_j, 0.0)
    assert np.isnan(episodes.measured["sojourn_ms"]).all()


def test_tasks_at_the_start_come_besides_those_that_arrive_and_their_wait_costs_nothing():
    mdp = mdp_of(num_devices=1, arrival_rate_hz=1e-6, horizon_ms=1e4)
    step = mdp.make(1, num_tasks=7).step(LocalOnly(mdp).decide(np.zeros((1, 1))))
    assert step.window_size[0, 0] == 5
    assert step.reward[0] == pytest.approx(-LOCAL_MS - 50 * 0.04089184256)


def test_unlike_devices_have_rates_and_deadlines_of_their_own_and_show_them():
    groups = [{"count": 1}, {"count": 1, "arrival_rate_hz": 5.0, "deadline_ms": 20.0}]
    mdp = mdp_of(num_devices=2, devices=groups, arrival_rate_hz=80.0, horizon_ms=20_000.0)
    worlds = mdp.make(10, 0)
    counts = np.isfinite(worlds.tasks.arrival_ms).sum(2).mean(0)
    np.testing.assert_allclose(counts, [1600, 100], rtol=0.1)
    layout, seen = mdp.observation_layout, worlds.observation()
    rates, urgency = (seen[0, layout[name]] for name in ("arrival_rate", "urgency"))
    np.testing.assert_allclose(rates, np.array([80.0, 5.0]) * LOCAL_MS / 1e3, rtol=1e-6)
    np.testing.assert_allclose(urgency, [0.0, LOCAL_MS / 20.0], rtol=1e-6)
    assert mdp.deadlines_ms.tolist() == [np.inf, 20.0]
    assert "arrival_rate" not in mdp_of().observation_layout.sizes
    assert "recent" in mdp_of(arrivals="bursts").observation_layout.sizes


def test_the_planner_refuses_what_has_not_come():
    with pytest.raises(MecError, match="cannot plan what has not come"):
        Planner(mdp_of())


def test_more_than_anyone_can_serve_is_remarked_on_with_the_load():
    # 2 MDs alone: 46.5 tasks/s; 2 servers: 232.5. No cut takes less than a task's whole of both.
    [remark] = mdp_of(arrival_rate_hz=300.0).remarks
    assert "ρ = 2.15" in remark and "\n" not in remark
    assert mdp_of(arrival_rate_hz=130.0).remarks == ()
    assert mdp_of(arrivals="none", arrival_rate_hz=1e5).remarks == ()
    offload = mdp_of(arrival_rate_hz=130.0, horizon_ms=2000.0)
    found = run_episodes(FullOffload(offload).decide, offload, 2, distance_m=50.0)
    assert (found.measured["throughput_hz"] > 150.0).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"horizon_ms": 0}, "horizon_ms must be positive"),
        ({"delay_weight": -1}, "delay_weight must be at least 0"),
        ({"deadline_weight": "x"}, "deadline_weight must be a"),
        ({"arrivals": "bursts", "burst_share": 1.0}, "burst_share must be below 1"),
        ({"burst_factor": 20.0}, r"burst_factor must lie in \[1, 10\]"),
        ({"arrivals": "poison"}, "unknown arrivals 'poison': did you mean 'poisson'"),
        ({"arrivals": 3}, "arrivals must be one of"),
        ({"arrivals": "trace.csv"}, "arrivals must be an absolute path.*did you mean"),
        ({"arrivals": "/nowhere/trace.csv"}, "cannot read the trace '/nowhere/trace.csv'"),
        ({"arrival_rate_hz": -1.0}, "arrival_rate_hz must be at least 0"),
        ({"deadline_ms": 0.0}, "deadline_ms must be positive"),
        ({"devices": [{"count": 2, "deadline_ms": -1}]}, r"devices\[0\].deadline_ms must be"),
        (
            {"horizon_ms": 1e300},
            r"horizon_ms must be at most 5e\+08 with the arrival_rate_hz given",
        ),
        ({"arrivals": "bursts", "burst_mean_ms": 1e-300}, "at most .* with burst_mean_ms"),
        ({"outages": "random", "server_up_ms": 1e-9, "server_down_ms": 1e-9}, "with server_up_ms"),
        ({"outages": "random", "device_up_ms": 1e-9, "device_down_ms": 1e-9}, "with device_up_ms"),
        ({"stay_ms": 5.0}, "stay_ms has no effect with visits 'none': leave it out, or choose"),
        ({"server_up_ms": 5.0}, "server_up_ms has no effect with outages 'none'"),
        ({"burst_factor": 2.0}, "burst_factor has no effect with arrivals 'poisson'"),
        ({"horizonms": 3}, "did you mean 'horizon_ms'"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_in_one_line(fields, message):
    with pytest.raises(MecError, match=message) as raised:
        mdp_of(**fields)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.zeros((1, 3, 2)), r"but gave one of shape \(1, 3, 2\)"),
        (np.full((1, 2, 1), np.nan), "but gave others"),
        (np.array([[[2.0, 1.0], [0.0, 1.0]]]), "but gave others"),
        (np.full((1, 2, 1), -1.0), "but gave others"),
        ("soon", "but gave a str"),
    ],
)
def test_a_law_of_arrivals_that_gives_what_it_must_not_is_refused(times, message):
    @dataclasses.dataclass(frozen=True)
    class Own(TaskStreamMDP):
        env_id = "own_arrivals_v0"

        def draw_arrivals(self, draw):
            return times

    with pytest.raises(MecError, match=f"Own.draw_arrivals must give .*{message}"):
        Own(Scenario(num_devices=2)).make(1)
