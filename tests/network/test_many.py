"""The kernel for many MDs does what the one for few does, and what the slow reference does."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_engine import World, run_engine, run_reference
from test_engine import STAGE_WORK
from test_engine_invariants import worlds


def assert_same(found, expected):
    assert found.end_ms == pytest.approx(expected.end_ms, rel=1e-9)
    for name in ("stage_ends", "transmission_s"):
        one, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_it_agrees_with_the_reference(world):
    found, expected = run_engine(world, kernel="many"), run_reference(world)
    np.testing.assert_allclose(found.stage_ends, expected.stage_ends, rtol=1e-8, atol=1e-8)


def unlike_world(seed):
    """Up to 120 MDs; nothing is equal, but for stages of no length; tasks are there or come."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 120)), int(rng.integers(1, 5)))
    channels, servers = int(rng.integers(1, 12)), int(rng.integers(1, 12))
    return World(
        num_tasks=rng.integers(0, shape[1] + 1, size=shape[0]),
        partition=rng.integers(5, size=shape),
        channel=rng.integers(channels, size=shape),
        server=rng.integers(servers, size=shape),
        power_w=10.0 ** rng.uniform(-3, 0, shape),
        gain=10.0 ** rng.uniform(-9, -2, shape[0]),
        stage_work=STAGE_WORK,
        bandwidth_hz=rng.uniform(1e5, 1e7, channels),
        noise_w=1e-9,
        min_efficiency=float(rng.choice([0.0, 0.1523])),
        num_channels=channels,
        num_servers=servers,
        ms_per_s=float(rng.choice([1.0, 1000.0])),
        beside_ms=rng.uniform(0.0, 50.0, 5) if rng.random() < 0.5 else 0.0,
        slowness=rng.uniform(0.3, 4.0, shape[0]),
        server_speed=rng.uniform(0.5, 3.0, servers),
        server_delay_ms=rng.choice([0.0, 0.5, 20.0], servers),
        release_ms=np.sort(rng.uniform(0, 300, shape), axis=1) if rng.random() < 0.5 else None,
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 5))
def test_it_agrees_with_the_kernel_for_few(seed, stops):
    world = unlike_world(seed)
    whole = run_engine(world, kernel="few")
    horizons = [*np.linspace(0.0, whole.end_ms, stops + 1)[1:], math.inf]
    assert_same(run_engine(world, horizons, kernel="many"), whole)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_it_stops_when_as_many_are_done_as_are_waited_for(seed):
    world = unlike_world(seed)
    rng = np.random.default_rng(seed)
    awaited = (rng.random(len(world.gain)) < 0.5) & (world.num_tasks > 0)
    if not awaited.any():
        return
    count = int(rng.integers(awaited.sum())) + 1
    assert_same(
        run_engine(world, awaited=awaited, stop_after=count, kernel="many"),
        run_engine(world, awaited=awaited, stop_after=count, kernel="few"),
    )


def test_it_leaves_the_same_in_flight_as_the_kernel_for_few():
    for seed in range(20):
        world = unlike_world(seed)
        end_ms = run_engine(world, kernel="few").end_ms
        stopped = [run_engine(world, [0.4 * end_ms], kernel=kernel) for kernel in ("few", "many")]
        assert_same(stopped[1], stopped[0])


@pytest.mark.parametrize("num_devices", [2, 40, 200])
def test_equal_mds_end_at_the_very_same_time(num_devices):
    # In a tie rounding must not let one of them be alone for an instant.
    shape = (num_devices, 3)
    world = World(
        num_tasks=np.full(num_devices, 3),
        partition=np.tile([1, 0, 3], (num_devices, 1)),
        channel=np.zeros(shape, dtype=np.int64),
        server=np.zeros(shape, dtype=np.int64),
        power_w=np.full(shape, 0.1),
        gain=np.ones(num_devices),
        stage_work=STAGE_WORK,
        num_channels=2,
        num_servers=2,
    )
    for each in (world, dataclasses.replace(world, ms_per_s=1.0)):
        ends = run_engine(each, kernel="many").stage_ends
        np.testing.assert_array_equal(ends, np.broadcast_to(ends[0], ends.shape))


def test_a_weak_transmission_beside_a_strong_one_is_not_lost_in_rounding():
    # Interference at the strong MD is the weak one's power alone, 1e-12 W, not a difference.
    pair = World(
        num_tasks=np.ones(2, dtype=np.int64),
        partition=np.zeros((2, 1), dtype=np.int64),
        channel=np.zeros((2, 1), dtype=np.int64),
        server=np.zeros((2, 1), dtype=np.int64),
        power_w=np.array([[1.0], [1e-12]]),
        gain=np.ones(2),
        stage_work=STAGE_WORK,
        noise_w=1e-13,
        min_efficiency=0.1,
    )
    result = run_engine(pair, kernel="many")
    assert result.stage_ends[0, 0, 1] == pytest.approx(1e3 / math.log2(1 + 1 / 1.1e-12), rel=1e-9)
