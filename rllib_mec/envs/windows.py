"""Task windows and episodes of a batch of worlds, in compiled calls that loop over the worlds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.envs.reward import window_cost
from rllib_mec.network.engine import advance, make_scratch
from rllib_mec.network.radio import channel_gain, transmit_power_w
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.streams import (
    DISTANCE,
    SHADOWING,
    TASKS,
    normal,
    poisson,
    poisson_cdf,
    stream,
    uniform,
)


class Physics(NamedTuple):
    """A scenario's numbers as the kernels take them.

    Attributes:
        stage_work: Work at each partition point, ``(4, S)``; see
            :func:`~rllib_mec.network.engine.advance`.
        local_energy_j: Energy of the MD's computing at each partition point, ``(S,)``.
        radio: See :func:`~rllib_mec.network.engine.advance`.
        num_servers: M.
        fading: Shadowing's standard deviation in dB, reference distance in m, path loss exponent.
        power: P_limit in dBm, and whether actions are on the dBm scale.
        weights: α and β.
    """

    stage_work: np.ndarray
    local_energy_j: np.ndarray
    radio: tuple[float, float, float, int, float]
    num_servers: int
    fading: tuple[float, float, float]
    power: tuple[float, bool]
    weights: tuple[float, float]

    @classmethod
    def of(cls, scenario: Scenario) -> Physics:
        """The numbers of ``scenario``; traces its DNN on the first use."""
        table = scenario.table
        local_ms, local_mmacs = np.array([table.local_latency_ms, table.local_mmacs], dtype=float)
        bits, server_ms = np.array([table.bits, table.server_latency_ms], dtype=float)
        # Of what comes after the cut, the MD keeps this share to itself.
        remote = scenario.remote_feature_share
        kept_ms, kept_mmacs = ((1.0 - remote) * (v[-1] - v) for v in (local_ms, local_mmacs))
        if scenario.server_model == "share":
            server_ms = remote * server_ms
        return cls(
            stage_work=np.array([local_ms, remote * bits, server_ms, kept_ms]),
            local_energy_j=scenario.energy_per_mmac_j * (local_mmacs + kept_mmacs),
            radio=(
                scenario.bandwidth_hz,
                scenario.noise_w,
                scenario.min_spectral_efficiency,
                scenario.num_channels,
                scenario.transmission_ms_per_s,
            ),
            num_servers=scenario.num_servers,
            fading=(
                scenario.shadowing_std_db,
                scenario.reference_distance_m,
                scenario.path_loss_exponent,
            ),
            power=(scenario.max_power_dbm, scenario.power_scale == "dbm"),
            weights=(scenario.waiting_weight, scenario.energy_weight),
        )


class Draws(NamedTuple):
    """What a world draws its tasks and distances from.

    Attributes:
        num_tasks: Tasks of every MD; 0 to draw them.
        distance_m: Distance of every MD; 0 to draw them.
        distance_range_m: Least and largest distance.
        mean_tasks: λ.
        tasks_cdf: Distribution function of the tasks.
    """

    num_tasks: int
    distance_m: float
    distance_range_m: tuple[float, float]
    mean_tasks: float
    tasks_cdf: np.ndarray

    @classmethod
    def of(cls, scenario: Scenario, num_tasks: int | None, distance_m: float | None) -> Draws:
        """What ``scenario`` says, unless the tasks or the distance are given."""
        return cls(
            num_tasks=0 if num_tasks is None else int(num_tasks),
            distance_m=0.0 if distance_m is None else float(distance_m),
            distance_range_m=scenario.distance_range_m,
            mean_tasks=scenario.mean_tasks,
            tasks_cdf=poisson_cdf(scenario.mean_tasks),
        )


@compiled
def draw_distances(key, distances, draws):
    """Draw one world's distances of a window, into ``distances`` ``(N,)``, m."""
    low, high = draws.distance_range_m
    for n in range(len(distances)):
        if draws.distance_m > 0.0:
            distances[n] = draws.distance_m
        else:
            distances[n] = low + (high - low) * uniform(key, n, DISTANCE)


@compiled
def draw_queues(key, queues, draws):
    """Draw one world's tasks of an episode, into ``queues`` ``(N,)``; at least one for each MD."""
    for n in range(len(queues)):
        if draws.num_tasks > 0:
            queues[n] = draws.num_tasks
        else:
            queues[n] = max(poisson(draws.tasks_cdf, uniform(key, n, TASKS)), 1)


@compiled
def draw_gains(key, sample, distances, fading, gain):
    """Draw one world's channel gains of a window, into ``gain`` ``(N,)``; ``sample`` 0 is real."""
    std, reference, exponent = fading
    for n in range(len(gain)):
        shadowing_db = 0.0
        if std > 0.0:
            shadowing_db = std * normal(key, n, SHADOWING + 2 * sample)
        gain[n] = channel_gain(distances[n], shadowing_db, reference, exponent)


@compiled
def begin_episodes(seeds, counters, queues, distances, draws):
    """Begin the episode that ``counters`` ``(B, 2)`` (episode, window) says in every world."""
    for b in range(len(queues)):
        key = stream(seeds[b], counters[b, 0], counters[b, 1])
        draw_queues(key, queues[b], draws)
        draw_distances(key, distances[b], draws)


@compiled
def observe(queues, distances, draws, observation):
    """Write the observation of every world, ``(B, 2N)``: X_n/λ, then d_n/d_max (Eq. 6)."""
    num_worlds, num_devices = queues.shape
    for b in range(num_worlds):
        for n in range(num_devices):
            observation[b, n] = queues[b, n] / draws.mean_tasks
            observation[b, num_devices + n] = distances[b, n] / draws.distance_range_m[1]


@compiled
def end_windows(seeds, counters, queues, distances, draws, window_size, terminated):
    """Take the tasks done off the queues and go on to the next window, or episode, of each world.

    ``terminated`` ``(B,)`` is set where all queues are empty.
    """
    num_worlds, num_devices = queues.shape
    for b in range(num_worlds):
        left = 0
        for n in range(num_devices):
            queues[b, n] -= window_size[b, n]
            left += queues[b, n]
        terminated[b] = left == 0
        if terminated[b]:
            counters[b, 0] += 1
            counters[b, 1] = 0
        else:
            counters[b, 1] += 1
        key = stream(seeds[b], counters[b, 0], counters[b, 1])
        if terminated[b]:
            draw_queues(key, queues[b], draws)
        draw_distances(key, distances[b], draws)


@compiled
def play_windows(
    seeds, counters, queues, distances, actions, physics, shadowing_sample, out
):  # fmt: skip
    """Run the current task window of every world to its end.

    Args:
        seeds: Of the worlds, ``(B,)`` uint64.
        counters: Episode and window of each world, ``(B, 2)`` int.
        queues: Tasks left, ``(B, N)`` int.
        distances: To the base station, ``(B, N)``, m.
        actions: ``(partition, channel, server, power, window)``; ``(B, N, W_max)``, the last
            ``(B, N)``.
        physics: A :class:`Physics`.
        shadowing_sample: 0 for the window's real shadowing, else an independent draw of it.
        out: A :class:`~rllib_mec.envs.vector_windows.VectorStep` of zeros, filled here but for
            ``observation`` and ``terminated``.
    """
    partition, channel, server, power, window = actions
    max_power_dbm, is_dbm = physics.power
    waiting_weight, energy_weight = physics.weights
    num_worlds, num_devices, max_window = partition.shape
    full_local = len(physics.local_energy_j) - 1
    scratch = make_scratch(num_devices, physics.radio[3], physics.num_servers)
    stage = np.empty(num_devices, dtype=np.int64)
    task = np.empty(num_devices, dtype=np.int64)
    work = np.empty(num_devices)
    cut_at = np.empty(num_devices)
    gain = np.empty(num_devices)
    power_w = np.empty((num_devices, max_window))
    transmission_s = np.empty((num_devices, max_window))
    energy_j = np.empty((num_devices, max_window))
    for b in range(num_worlds):
        stage[:] = 0
        task[:] = 0
        tasks = 0
        local = 0
        for n in range(num_devices):
            size = min(window[b, n] + 1, queues[b, n])
            out.window_size[b, n] = size
            tasks += size
            for x in range(max_window):
                transmission_s[n, x] = 0.0
                energy_j[n, x] = 0.0
                if x >= size:
                    continue
                out.played[b, n, x] = True
                if partition[b, n, x] == full_local:
                    local += 1
                else:
                    power_w[n, x] = transmit_power_w(power[b, n, x], max_power_dbm, is_dbm)
        key = stream(seeds[b], counters[b, 0], counters[b, 1])
        draw_gains(key, shadowing_sample, distances[b], physics.fading, gain)
        advance(
            0.0, math.inf, stage, task, work, cut_at, out.window_size[b], partition[b], channel[b],
            server[b], power_w, gain, out.stage_ends[b], transmission_s, physics.stage_work,
            physics.radio, scratch,
        )  # fmt: skip
        for n in range(num_devices):
            for x in range(out.window_size[b, n]):
                energy_j[n, x] = physics.local_energy_j[partition[b, n, x]]
                if transmission_s[n, x] > 0.0:
                    energy_j[n, x] += power_w[n, x] * transmission_s[n, x]
        reward, latency, waiting, energy = window_cost(
            out.window_size[b], out.stage_ends[b], energy_j, waiting_weight, energy_weight,
            out.task_rewards[b],
        )  # fmt: skip
        out.local_share[b] = local / max(tasks, 1)
        out.reward[b] = reward
        out.latency_ms[b] = latency
        out.waiting_ms[b] = waiting
        out.energy_j[b] = energy
