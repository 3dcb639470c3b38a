"""Task windows of a batch of worlds: what the network does with the decisions, and nothing more."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.engine import Decisions, Devices, Records, advance, all_there, make_scratch


class WindowOutcome(NamedTuple):
    """What happened in one task window of B worlds.

    Attributes:
        num_tasks: Tasks done, W_{n,k}, ``(B, N)`` int.
        stage_ends: When each task's stages (local, transmission, server) ended,
            ``(B, N, W_max, 3)``, ms since the window's start; 0 where there was no task.
        task_energy_j: Energy of each task, ``(B, N, W_max)``; 0 where there was none.
        point_tasks: Tasks done at each partition point, ``(B, S)`` int; full local ones
            at the last, whatever DNN an MD has.
        critical: The MD that finished last, ``(B,)`` int.
        latency_ms: When it finished, max_n L_{n,k}, ``(B,)``.
        waiting_ms: Mean waiting time of the MDs that had a task, ``(B,)``.
        energy_j: Energy of all MDs, ``(B,)``.
    """

    num_tasks: np.ndarray
    stage_ends: np.ndarray
    task_energy_j: np.ndarray
    point_tasks: np.ndarray
    critical: np.ndarray
    latency_ms: np.ndarray
    waiting_ms: np.ndarray
    energy_j: np.ndarray

    @classmethod
    def of(cls, num_tasks: np.ndarray, max_window: int, num_points: int) -> WindowOutcome:
        """An outcome to be filled by :func:`play_windows`.

        Args:
            num_tasks: Tasks to do, ``(B, N)`` int64.
            max_window: W_max.
            num_points: S.
        """
        worlds, devices = num_tasks.shape
        return cls(
            num_tasks=num_tasks,
            stage_ends=np.zeros((worlds, devices, max_window, 3)),
            task_energy_j=np.zeros((worlds, devices, max_window)),
            point_tasks=np.zeros((worlds, num_points), dtype=np.int64),
            critical=np.zeros(worlds, dtype=np.int64),
            latency_ms=np.zeros(worlds),
            waiting_ms=np.zeros(worlds),
            energy_j=np.zeros(worlds),
        )


@compiled
def play_windows(partition, channel, server, power_w, gain, physics, out):
    """Run one task window of every world to its end.

    Args:
        partition: Partition points, ``(B, N, W_max)`` int64.
        channel: Channels, likewise.
        server: MEC servers, likewise.
        power_w: Transmit powers, ``(B, N, W_max)``, W.
        gain: Channel gains, ``(B, N)``.
        physics: A :class:`~rllib_mec.network.physics.Physics`.
        out: A :class:`WindowOutcome` of zeros that says how many tasks there are.
    """
    num_envs, num_devices, max_window = partition.shape
    scratch = make_scratch(num_devices, len(physics.radio.noise_w), len(physics.servers.speed))
    coming = all_there()
    devices = Devices(
        np.empty(num_devices, dtype=np.int64),
        np.empty(num_devices, dtype=np.int64),
        np.empty(num_devices),
        np.empty(num_devices),
    )
    transmission_s = np.empty((num_devices, max_window))
    last_point = out.point_tasks.shape[1] - 1
    for b in range(num_envs):
        devices.stage[:] = 0
        devices.task[:] = 0
        transmission_s[:] = 0.0
        decisions = Decisions(partition[b], channel[b], server[b], power_w[b])
        records = Records(out.stage_ends[b], transmission_s)
        num_tasks = out.num_tasks[b]
        advance(
            0.0, math.inf, devices, num_tasks, coming, decisions, gain[b], physics, records,
            scratch,
        )  # fmt: skip
        energy_j = out.task_energy_j[b]
        for n in range(num_devices):
            for x in range(num_tasks[n]):
                point = partition[b, n, x]
                is_local = point >= physics.full_local[n]
                out.point_tasks[b, last_point if is_local else point] += 1
                energy_j[n, x] = physics.local_energy_j[n, point]
                if transmission_s[n, x] > 0.0:
                    energy_j[n, x] += power_w[b, n, x] * transmission_s[n, x]
        summarise(b, num_tasks, out)


@compiled
def summarise(b, num_tasks, out):
    """Work out who finished last and when, how long the others waited, and the energy.

    Args:
        b: The world.
        num_tasks: Tasks of the MDs that are waited for, ``(N,)`` int; 0 of the others.
        out: A :class:`WindowOutcome`, of whose world b ``stage_ends`` and ``task_energy_j`` are
            given, and the rest is filled.
    """
    ends, energy_j = out.stage_ends[b], out.task_energy_j[b]
    num_devices, max_window = energy_j.shape
    latency = 0.0
    participants = 0
    for n in range(num_devices):
        if num_tasks[n] == 0:
            continue
        participants += 1
        finished = ends[n, num_tasks[n] - 1, 2]
        if finished > latency:
            latency = finished
            out.critical[b] = n
    waiting = 0.0  # summed as differences: exactly 0 where all finish together
    for n in range(num_devices):
        if num_tasks[n] > 0:
            waiting += (latency - ends[n, num_tasks[n] - 1, 2]) / participants
    energy = 0.0
    for x in range(max_window):
        of_column = 0.0
        for n in range(num_devices):
            of_column += energy_j[n, x]
        energy += of_column
    out.latency_ms[b] = latency
    out.waiting_ms[b] = waiting
    out.energy_j[b] = energy
