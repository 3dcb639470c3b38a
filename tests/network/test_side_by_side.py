"""Side-by-side inference: the server works on a share of the features, the MD on the others."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from reference_engine import World, run_engine, run_reference

from rllib_mec.envs.task_window import TaskWindowMDP
from rllib_mec.envs.time_slot import TimeSlotMDP
from rllib_mec.errors import MecError
from rllib_mec.network.defaults import PROFILES
from rllib_mec.network.scenario import Scenario

L0_MS = 8.603
INPUT_MBIT_PER_FEATURE_BIT = 3 * 224 * 224 / 1e6


def lone(beside_ms, points=(0, 0)):
    # Point 0: 4 ms of CPU, then 0.4 Mbit at 4 kbit a ms (100 ms), then 8 ms of server.
    # Point 1: the server's 8 ms alone.
    shape = (1, len(points))
    return World(
        num_tasks=np.array([len(points)]),
        partition=np.array([points]),
        channel=np.zeros(shape, dtype=int),
        server=np.zeros(shape, dtype=int),
        power_w=np.full(shape, 15.0),
        gain=np.ones(1),
        stage_work=np.array([[4.0, 0.0], [4e5, 0.0], [8.0, 8.0]]),
        beside_ms=np.array(beside_ms),
    )


def test_a_task_ends_when_both_sides_are_done():
    slow_server = run_engine(lone([50.0, 0.0]))
    np.testing.assert_allclose(slow_server.stage_ends[0], [[4, 104, 112], [116, 216, 224]])
    slow_device = run_engine(lone([150.0, 0.0]))
    np.testing.assert_allclose(slow_device.stage_ends[0], [[4, 104, 154], [158, 258, 308]])
    np.testing.assert_allclose(slow_device.transmission_s[0], [0.1, 0.1])


def test_without_a_local_stage_the_sides_begin_together():
    result = run_engine(lone([0.0, 20.0], points=(1, 1)))
    np.testing.assert_allclose(result.stage_ends[0, :, 2], [20.0, 40.0])


def test_waiting_for_the_own_cpu_takes_no_server():
    # Alone on the server, each result is there after 16 ms; MD 0 then has 4 ms of its own left,
    # in which MD 1's second task has the whole server.
    pair = lone([0.0, 0.0], points=(1, 1))
    twice = {
        name: np.repeat(getattr(pair, name), 2, axis=0)
        for name in ("num_tasks", "partition", "channel", "server", "power_w", "gain")
    }
    pair = dataclasses.replace(pair, **twice, beside_ms=np.array([20.0, 0.0]))
    pair.partition[0] = 0
    pair.stage_work[:, 0] = [0.0, 0.0, 8.0]
    result = run_engine(pair)
    # MD 1: 16, then alone for 4 ms (4 of 8 done), then shared: 4 more take 8 ms, at 28.
    np.testing.assert_allclose(result.stage_ends[1, :, 2], [16.0, 28.0])
    # MD 0's second: begins at 20 with half the server until 28 (4 of 8), then alone: 32 < 40.
    np.testing.assert_allclose(result.stage_ends[0, :, 2], [20.0, 40.0])


@pytest.mark.parametrize("stop", [2.0, 50.0, 105.0, 120.0, 154.0, 200.0])
def test_it_goes_on_from_any_moment_as_if_uninterrupted(stop):
    window = lone([150.0, 0.0])
    resumed = run_engine(window, [stop, math.inf])
    np.testing.assert_allclose(resumed.stage_ends, run_engine(window).stage_ends)
    np.testing.assert_allclose(resumed.stage_ends, run_reference(window).stage_ends)


def quiet(profile, **fields):
    """A lone MD on a channel that is as its distance says."""
    return Scenario(
        profile=profile, num_devices=1, shadowing_std_db=0.0, remote_feature_share=0.5, **fields
    )


def play(scenario, point, power=1.0):
    worlds = TaskWindowMDP(scenario).make(1, num_tasks=5, distance_m=50.0)
    action = {head: np.zeros((1, 1, 5), int) for head in ("channel", "server")}
    action["partition"] = np.full((1, 1, 5), point)
    action["power"] = np.full((1, 1, 5), power)
    return worlds.step({**action, "window": np.array([[4]])})


@pytest.mark.parametrize(
    ("profile", "ms_per_s", "bits", "bandwidth_hz", "max_power_w", "server_ms"),
    [
        ("paper", 1.0, 32, 1e6, 1.0, L0_MS),
        ("si", 1000.0, 8, 20e6, 10**-0.7, L0_MS / 2),
    ],
)
def test_half_of_the_input_by_hand(profile, ms_per_s, bits, bandwidth_hz, max_power_w, server_ms):
    step = play(quiet(profile), point=0)
    rate_bps = bandwidth_hz * math.log2(1 + max_power_w * 50.0**-3 / 1e-9)
    on_air_s = 0.5 * bits * INPUT_MBIT_PER_FEATURE_BIT * 1e6 / rate_bps
    local_ms = 0.5 * 5 * L0_MS  # half of the features go through the whole DNN here
    assert on_air_s * ms_per_s + server_ms < local_ms
    ends = local_ms * np.arange(1, 6)
    np.testing.assert_allclose(step.stage_ends[0, 0, :, 2], ends)
    on_air = step.stage_ends[0, 0, :, 1] - np.array([0.0, *ends[:-1]])
    np.testing.assert_allclose(on_air, on_air_s * ms_per_s)
    half_dnn_j = 0.5 * 1e-5 * Scenario().table.local_mmacs[-1]
    assert step.energy_j[0] == pytest.approx(5 * (half_dnn_j + max_power_w * on_air_s))
    assert step.local_share[0] == 0.0


def test_a_channel_that_is_slower_than_the_cpu_sets_the_pace():
    scenario = quiet("si", bandwidth_hz=1e6)
    rate_bps = 1e6 * math.log2(1 + 10**-0.7 * 50.0**-3 / 1e-9)
    on_air_ms = 1000 * 4 * INPUT_MBIT_PER_FEATURE_BIT * 1e6 / rate_bps
    assert on_air_ms > 0.5 * 5 * L0_MS
    ends = play(scenario, point=0).stage_ends[0, 0, :, 2]
    np.testing.assert_allclose(ends, (on_air_ms + L0_MS / 2) * np.arange(1, 6))


def test_past_the_cut_only_half_of_what_is_left_stays():
    scenario = quiet("paper", partition="operator")
    table = scenario.table
    point = table.num_points // 2
    step = play(scenario, point)
    head_ms, whole_ms = table.local_latency_ms[point], table.local_latency_ms[-1]
    assert 0 < head_ms < whole_ms
    np.testing.assert_allclose(step.stage_ends[0, 0, 0, 0], head_ms)
    kept_ms = 0.5 * (whole_ms - head_ms)
    remote_ms = step.stage_ends[0, 0, 0, 1] - head_ms + L0_MS
    np.testing.assert_allclose(step.stage_ends[0, 0, 0, 2], head_ms + max(kept_ms, remote_ms))


@pytest.mark.parametrize("profile", PROFILES)
def test_local_only_stays_what_it_is(profile):
    step = play(quiet(profile), point=Scenario(profile=profile).table.num_points - 1)
    assert step.latency_ms[0] == pytest.approx(5 * 5 * L0_MS, rel=1e-12)
    assert step.energy_j[0] / 5 == pytest.approx(1e-5 * Scenario().table.local_mmacs[-1])
    assert step.local_share[0] == 1.0


@pytest.mark.parametrize("slot_ms", [3.0, 10.0, 21.0])
@pytest.mark.parametrize("profile", PROFILES)
def test_slots_add_up_to_the_same_time_and_energy(profile, slot_ms):
    scenario = quiet(profile)
    mdp = TimeSlotMDP(scenario, slot_ms=slot_ms, observe_progress=True)
    worlds = mdp.make(1, num_tasks=5, distance_m=50.0)
    action = {head: np.zeros((1, 1, 1), int) for head in ("partition", "channel", "server")}
    action |= {"power": np.ones((1, 1, 1)), "window": np.zeros((1, 1), int)}
    whole, energy, latency = play(scenario, point=0), 0.0, 0.0
    terminated = False
    cpu_ms_left = 0.0
    while not terminated:
        step = worlds.step(action)
        energy += step.energy_j[0]
        latency += step.latency_ms[0]
        terminated = step.terminated[0]
        if not terminated:
            # Half of the DNN is done on the CPU without a break.
            task_ms = 0.5 * 5 * L0_MS
            cpu_ms_left = task_ms - latency % task_ms
            assert step.observation[0, 2] == pytest.approx(cpu_ms_left / (5 * L0_MS), rel=1e-4)
    assert cpu_ms_left > 0
    assert latency == pytest.approx(whole.latency_ms[0])
    assert energy == pytest.approx(whole.energy_j[0])


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (0, "remote_feature_share must be positive, but is 0"),
        (1.5, "remote_feature_share must be at most 1, but is 1.5"),
        ("half", "remote_feature_share must be a number, but is 'half'"),
    ],
)
def test_a_bad_share_is_named(share, message):
    with pytest.raises(MecError, match=message):
        Scenario(remote_feature_share=share)
