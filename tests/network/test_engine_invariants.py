"""What must hold for any decisions on any channels, searched with Hypothesis."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_engine import World, run_engine, run_reference


@st.composite
def worlds(draw):
    """Up to 6 MDs; gains over many decades or all equal; stages of no length among the points.

    All tasks are there at once, or come within some time.
    """
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    channels, servers = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    equal, spread = draw(st.booleans()), draw(st.sampled_from([0.0, 20.0, 200.0]))
    return World(
        num_tasks=rng.integers(0, shape[1] + 1, size=shape[0]),
        partition=rng.integers(4, size=shape),
        channel=rng.integers(channels, size=shape),
        server=rng.integers(servers, size=shape),
        power_w=np.full(shape, 0.1) if equal else 10.0 ** rng.uniform(-3, 0, shape),
        gain=np.full(shape[0], 1e-6) if equal else 10.0 ** rng.uniform(-9, -2, shape[0]),
        stage_work=rng.choice([0.0, 3.0, 8.603, 43.015], (3, 4)) * [[1.0], [1e5], [1.0]],
        beside_ms=rng.choice([0.0, 3.0, 50.0], 4) if draw(st.booleans()) else 0.0,
        server_work=rng.choice([0.0, 3.0, 8.603], (servers, 4)) if draw(st.booleans()) else None,
        noise_w=1e-9,
        min_efficiency=draw(st.sampled_from([0.0, 0.1523])),
        num_channels=channels,
        num_servers=servers,
        ms_per_s=draw(st.sampled_from([1.0, 1000.0])),
        release_ms=np.sort(rng.uniform(0.0, spread, shape), axis=1) if spread else None,
    )


def assert_same(a, b):
    np.testing.assert_allclose(a.stage_ends, b.stage_ends, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(a.transmission_s, b.transmission_s, rtol=1e-7, atol=1e-8)


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_it_agrees_with_the_reference(world):
    assert_same(run_engine(world), run_reference(world))


@settings(max_examples=50, deadline=None)
@given(worlds())
def test_every_task_is_done_and_time_only_goes_forward(world):
    result = run_engine(world)
    clock = np.zeros(len(world.gain))
    for x in range(world.partition.shape[1]):
        there = x < world.num_tasks
        for stage in range(3):
            assert (result.stage_ends[there, x, stage] >= clock[there]).all()
            clock[there] = result.stage_ends[there, x, stage]
        assert not result.stage_ends[~there, x].any()
        assert not result.transmission_s[~there, x].any()
    assert np.isfinite(result.stage_ends).all()
    assert (result.transmission_s >= 0.0).all()


@settings(max_examples=50, deadline=None)
@given(worlds())
def test_nobody_is_faster_than_alone(world):
    result = run_engine(world)
    for n in range(len(world.gain)):
        alone = run_engine(world.permuted([n]))
        assert (result.stage_ends[n] >= alone.stage_ends[0] * (1 - 1e-9)).all()


@settings(max_examples=50, deadline=None)
@given(worlds(), st.randoms())
def test_permuting_the_devices_permutes_the_result(world, random):
    order = list(range(len(world.gain)))
    random.shuffle(order)
    result, permuted = run_engine(world), run_engine(world.permuted(order))
    np.testing.assert_allclose(permuted.stage_ends, result.stage_ends[order], rtol=1e-8, atol=1e-8)


@settings(max_examples=50, deadline=None)
@given(worlds(), st.floats(0.01, 50.0))
def test_slots_of_any_length_change_nothing(world, slot):
    whole = run_engine(world)
    count = min(math.ceil(whole.end_ms / slot), 200)
    assert_same(run_engine(world, [*(slot * (i + 1) for i in range(count)), math.inf]), whole)


@settings(max_examples=50, deadline=None)
@given(worlds())
def test_no_task_begins_before_it_has_come(world):
    result = run_engine(world)
    if world.release_ms is None:
        return
    for n, x in np.argwhere(np.arange(world.partition.shape[1]) < world.num_tasks[:, None]):
        alone = world.stage_work[0, world.partition[n, x]]
        assert result.stage_ends[n, x, 0] >= world.release_ms[n, x] + alone - 1e-9


@settings(max_examples=50, deadline=None)
@given(worlds(), st.integers(0, 2**6 - 1), st.integers(1, 6))
def test_it_stops_when_those_are_done_who_are_waited_for(world, mask, count):
    busy = np.flatnonzero(world.num_tasks)
    awaited = (mask >> np.arange(len(world.gain)) & 1).astype(bool) & (world.num_tasks > 0)
    count = min(count, int(awaited.sum()))
    if not count:
        return
    whole = run_engine(world)
    ends = whole.stage_ends[busy, world.num_tasks[busy] - 1, 2]
    own = np.sort(ends[awaited[busy]])
    stopped = run_engine(world, awaited=awaited, stop_after=count)
    assert stopped.end_ms == pytest.approx(own[count - 1], abs=1e-9)
    done = whole.stage_ends <= stopped.end_ms * (1 + 1e-12)
    np.testing.assert_array_equal(stopped.stage_ends[done], whole.stage_ends[done])


def test_tasks_beyond_the_last_decision_share_it():
    world = World(
        num_tasks=np.array([4]),
        partition=np.array([[0, 1]]),
        channel=np.zeros((1, 2), dtype=int),
        server=np.zeros((1, 2), dtype=int),
        power_w=np.ones((1, 2)),
        gain=np.ones(1),
        stage_work=np.array([[40.0, 0.0], [0.0, 1e6], [0.0, 8.0]]),
        ms_per_s=1.0,
    )
    result = run_engine(world)  # SINR 1: a megabit takes a second, which counts as 1 ms
    np.testing.assert_allclose(result.stage_ends[0, :, 2], [40.0, 40.0 + 3 * 9.0])
    np.testing.assert_allclose(result.transmission_s[0], [0.0, 3.0])
