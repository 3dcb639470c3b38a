"""The event-driven engine: windows worked out by hand, and an independent slow engine."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from reference_engine import World, run_engine, run_reference

from rllib_mec.network.defaults import PROFILES
from rllib_mec.network.scenario import Scenario

# Points: 0 sends 1 Mbit; 1 is half local and sends 0.4 Mbit; 2 only waits 10 ms and computes on
# the server; 3 the server alone; 4 full local.
STAGE_WORK = np.array(
    [[0.0, 4.0, 4.0, 0.0, 40.0], [1e6, 4e5, 0.0, 0.0, 0.0], [8.0, 8.0, 8.0, 8.0, 0.0]]
)


def world(partition, *, channel=None, server=None, power=15.0, **changes):
    partition = np.atleast_2d(partition)
    num_devices = len(partition)

    def each_device(value, dtype):
        column = np.asarray(value, dtype=dtype).reshape(-1, 1)
        return np.ascontiguousarray(np.broadcast_to(column, partition.shape))

    return World(
        num_tasks=np.full(num_devices, partition.shape[1]),
        partition=partition,
        channel=each_device(0 if channel is None else channel, np.int64),
        server=each_device(0 if server is None else server, np.int64),
        power_w=each_device(power, float),
        gain=np.ones(num_devices),
        stage_work=changes.pop("stage_work", STAGE_WORK),
        **changes,
    )


def test_a_lone_device_runs_its_stages_one_after_the_other():
    # SINR 15 / 1: log2(16) = 4 bit/s/Hz, so 4000 bits a ms, and 0.4 Mbit take 100 ms.
    result = run_engine(world([1, 4]))
    np.testing.assert_allclose(result.stage_ends[0], [[4, 104, 112], [152, 152, 152]])
    np.testing.assert_allclose(result.transmission_s[0], [0.1, 0.0])
    assert result.end_ms == pytest.approx(152.0)


def test_the_paper_profile_counts_a_second_of_transmission_as_a_millisecond():
    result = run_engine(world([1, 4], ms_per_s=1.0))
    np.testing.assert_allclose(result.stage_ends[0], [[4, 4.1, 12.1], [52.1, 52.1, 52.1]])
    np.testing.assert_allclose(result.transmission_s[0], [0.1, 0.0])  # energy has real seconds


@pytest.mark.parametrize("num_devices", [1, 2, 3, 5])
def test_a_server_with_k_tasks_makes_each_take_k_times_as_long(num_devices):
    result = run_engine(world([[3, 3]] * num_devices))
    expected = [8.0 * num_devices, 16.0 * num_devices]
    np.testing.assert_allclose(result.stage_ends[:, :, 2], [expected] * num_devices)


def test_a_server_is_shared_only_while_both_are_there():
    # MD 0 is alone until MD 1 comes at 4 ms with 4 ms of 8 left, which then take 8 ms; so MD 1 has
    # 4 ms of its 8 left at 12 ms, and is alone.
    result = run_engine(world([[3], [2]]))
    np.testing.assert_allclose(result.stage_ends[:, 0, 2], [12.0, 16.0])


def test_servers_do_not_slow_each_other():
    result = run_engine(world([[3], [2]], server=[0, 1]))
    np.testing.assert_allclose(result.stage_ends[:, 0, 2], [8.0, 12.0])


def test_interference_changes_the_rate_in_the_middle_of_a_transmission():
    # MD 0 (15 W) alone: log2(16) = 4 kbit a ms. MD 1 (4 W) comes after 100 ms: SINR 15 / (1 + 4),
    # so log2(4) = 2 kbit a ms for the 600 kbit left: 400 ms in all. MD 1 meanwhile gets
    # log2(1 + 4 / 16) for 300 ms, then log2(1 + 4) alone.
    work = np.array([[0.0, 100.0], [1e6, 1e5], [0.0, 0.0]])
    result = run_engine(world([[0], [1]], power=[15.0, 4.0], stage_work=work))
    left = 1e5 - 300.0 * 1e3 * math.log2(1.25)
    assert 0.0 < left < 1e5
    last = 400.0 + left / (1e3 * math.log2(5.0))
    np.testing.assert_allclose(result.stage_ends[:, 0, 1], [400.0, last])
    np.testing.assert_allclose(result.transmission_s[:, 0], [0.4, (last - 100.0) / 1e3])


def test_channels_do_not_interfere_with_each_other():
    work = np.array([[0.0, 100.0], [1e6, 1e5], [0.0, 0.0]])
    result = run_engine(world([[0], [1]], channel=[0, 1], power=[15.0, 4.0], stage_work=work))
    np.testing.assert_allclose(
        result.stage_ends[:, 0, 1], [250.0, 100.0 + 1e5 / (1e3 * math.log2(5.0))]
    )


def test_a_device_that_computes_does_not_interfere():
    result = run_engine(world([[0], [4]], stage_work=STAGE_WORK))
    np.testing.assert_allclose(result.stage_ends[:, 0, 1], [250.0, 40.0])


def test_a_task_may_change_channel_and_server():
    two = world([[0, 0], [0, 0]])
    two.channel[1] = [1, 0]
    two.server[1] = [1, 0]
    # First tasks apart: 250 ms on air and 8 ms of server each. Then both on channel 0 with SINR
    # 15 / 16, and on server 0 at half speed.
    result = run_engine(two)
    shared = 1e6 / (1e3 * math.log2(31 / 16))
    expected = [[250.0, 258.0], [258.0 + shared, 274.0 + shared]]
    for n in range(2):
        np.testing.assert_allclose(result.stage_ends[n, :, 1:], expected)


def test_a_weak_transmission_beside_a_strong_one_is_not_lost_in_rounding():
    # Interference at the strong MD is the weak one's power alone, 1e-12 W, not a difference.
    pair = world([[0], [0]], power=[1.0, 1e-12], noise_w=1e-13, min_efficiency=0.1)
    result = run_engine(pair)
    assert result.stage_ends[0, 0, 1] == pytest.approx(1e3 / math.log2(1 + 1 / 1.1e-12), rel=1e-9)


def test_the_floor_of_the_rate_bounds_a_transmission():
    result = run_engine(world([0], power=1e-9, min_efficiency=0.1523))
    assert result.stage_ends[0, 0, 1] == pytest.approx(1e6 / 152.3)


def test_without_a_floor_a_hopeless_channel_still_ends():
    pair = world([[0], [0]], power=[1e-20, 1e3])
    result = run_engine(pair)
    assert np.isfinite(result.stage_ends).all()


def test_a_device_without_tasks_takes_part_in_nothing():
    alone = run_engine(world([[0]]))
    pair = world([[0], [0]])
    pair.num_tasks[1] = 0
    result = run_engine(pair)
    np.testing.assert_array_equal(result.stage_ends[0], alone.stage_ends[0])
    assert not result.stage_ends[1].any() and not result.transmission_s[1].any()


def test_no_tasks_take_no_time():
    nothing = world([[0], [0]])
    nothing.num_tasks[:] = 0
    assert run_engine(nothing).end_ms == 0.0


def random_world(rng, num_devices, profile, slots=5):
    scenario = Scenario(profile=profile, partition="operator")
    table = scenario.table
    shape = (num_devices, slots)
    return World(
        num_tasks=rng.integers(0, slots + 1, num_devices),
        partition=rng.choice([0, 5, 20, table.num_points - 1], shape),
        channel=rng.integers(scenario.num_channels, size=shape),
        server=rng.integers(scenario.num_servers, size=shape),
        power_w=10 ** rng.uniform(-3, 0, shape),
        gain=rng.uniform(1, 100, num_devices) ** -3 * 10 ** (0.8 * rng.normal(size=num_devices)),
        stage_work=np.array([table.local_latency_ms, table.bits, table.server_latency_ms]),
        bandwidth_hz=scenario.bandwidth_hz,
        noise_w=scenario.noise_w,
        min_efficiency=scenario.min_spectral_efficiency,
        ms_per_s=scenario.transmission_ms_per_s,
    )


@pytest.mark.parametrize("unlike", [False, True])
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("num_devices", [1, 2, 3, 6, 17])
def test_it_agrees_with_an_independent_engine_in_plain_python(num_devices, profile, unlike):
    rng = np.random.default_rng(num_devices)
    for _ in range(20):
        window = random_world(rng, num_devices, profile)
        if unlike:
            window = dataclasses.replace(
                window,
                slowness=rng.uniform(0.3, 4.0, num_devices),
                bandwidth_hz=window.bandwidth_hz * rng.uniform(0.2, 3.0, window.num_channels),
                server_speed=rng.uniform(0.5, 3.0, window.num_servers),
                server_delay_ms=rng.choice([0.0, 0.5, 20.0], window.num_servers),
            )
        fast, slow = run_engine(window), run_reference(window)
        np.testing.assert_allclose(fast.stage_ends, slow.stage_ends, rtol=1e-9)
        np.testing.assert_allclose(fast.transmission_s, slow.transmission_s, rtol=1e-9, atol=1e-12)
        assert fast.end_ms == pytest.approx(slow.end_ms)
        assert fast.end_ms == fast.stage_ends.max()


@pytest.mark.parametrize("profile", PROFILES)
def test_stopping_at_horizons_and_going_on_changes_nothing(profile):
    rng = np.random.default_rng(1)
    for _ in range(20):
        window = random_world(rng, 4, profile)
        at_once = run_engine(window)
        slices = np.sort(rng.uniform(0, at_once.end_ms, 7))
        resumed = run_engine(window, [*slices, slices[-1], math.inf])
        np.testing.assert_allclose(resumed.stage_ends, at_once.stage_ends, rtol=1e-9)
        np.testing.assert_allclose(
            resumed.transmission_s, at_once.transmission_s, rtol=1e-9, atol=1e-12
        )


def test_at_a_horizon_the_clock_is_the_horizon_and_later_stages_are_not_recorded():
    result = run_engine(world([1, 4]), [104.0])
    assert result.end_ms == 104.0
    np.testing.assert_allclose(result.stage_ends[0], [[4, 104, 0], [0, 0, 0]])
    partly = run_engine(world([1, 4]), [54.0])
    assert partly.transmission_s[0, 0] == pytest.approx(0.05)


def test_the_order_of_the_devices_does_not_matter():
    rng = np.random.default_rng(2)
    for _ in range(20):
        window = random_world(rng, 5, "paper")
        order = rng.permutation(5)
        result, permuted = run_engine(window), run_engine(window.permuted(order))
        np.testing.assert_allclose(permuted.stage_ends, result.stage_ends[order], rtol=1e-9)


def test_twins_finish_at_the_very_same_time():
    # In a tie rounding must not let one of the two be alone for an instant.
    twins = world([[1, 0, 3]] * 2, power=0.1)
    result = run_engine(dataclasses.replace(twins, ms_per_s=1.0))
    np.testing.assert_array_equal(result.stage_ends[0], result.stage_ends[1])
