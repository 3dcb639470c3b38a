"""The event-driven engine: every MD's tasks through its CPU, a channel and a server (Eq. 1, 2).

Between two events (some stage of some MD ends) all speeds are constant: an MD that transmits does
so at the rate of Eq. (1) among those that transmit at that instant on the same channel; a server
with k tasks gives each 1/k of its speed. An event costs O(N): one pass over the MDs.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from rllib_mec.simulator.radio import rate_bps

IDLE, LOCAL, TRANSMISSION, SERVER = 0, 1, 2, 3
"""Stages of an MD; ``stage_ends[..., stage - 1]`` is when a task's stage ended."""


@njit(cache=True, nogil=True)
def _enter_next_stage(n, clock, stage, task, work, num_tasks, partition, stage_ends, table):
    """Move MD n on to its next stage of some length, maybe that of its next task."""
    local_ms, bits, server_ms = table
    while True:
        if stage[n] == SERVER:
            task[n] += 1
            stage[n] = IDLE
        if stage[n] == IDLE and task[n] >= num_tasks[n]:
            return
        x = task[n]
        s = partition[n, x]
        stage[n] += 1
        if stage[n] == LOCAL:
            work[n] = local_ms[s]
        elif stage[n] == TRANSMISSION:
            work[n] = bits[s]
        else:
            work[n] = server_ms[s]
        if work[n] > 0.0:
            return
        stage_ends[n, x, stage[n] - 1] = clock


@njit(cache=True, nogil=True)
def advance(
    clock,
    horizon,
    stage,
    task,
    work,
    num_tasks,
    partition,
    channel,
    server,
    power_w,
    gain,
    stage_ends,
    transmission_s,
    table,
    radio,
):
    """Advance one world from event to event until its MDs are done or the horizon is reached.

    The arguments from ``stage`` to ``work`` are the resumable state and, like the records
    ``stage_ends`` and ``transmission_s``, are changed in place: a call with a finite horizon leaves
    tasks in flight, and the next call carries them on.

    Args:
        clock: Time now, ms.
        horizon: Time to stop at, ms; ``inf`` runs until all tasks are done.
        stage: Stage of each MD, ``(N,)`` int.
        task: Index of each MD's current task, ``(N,)`` int.
        work: Work left in the stage, ``(N,)``: ms of CPU, bits, or ms of an unshared server.
        num_tasks: Tasks of each MD in this window, ``(N,)`` int.
        partition: Partition point of each task, ``(N, W_max)`` int; so ``channel`` and ``server``.
        channel: See ``partition``.
        server: See ``partition``.
        power_w: Transmit power of each task, ``(N, W_max)``, W.
        gain: Channel gain of each MD, ``(N,)``.
        stage_ends: Record of when each task's stages ended, ``(N, W_max, 3)``, ms.
        transmission_s: Record of each task's time on air in real seconds, ``(N, W_max)``.
        table: ``(local_ms, bits, server_ms)`` of the partition points, ``(S,)`` each.
        radio: ``(bandwidth_hz, noise_w, min_efficiency, num_channels, num_servers, ms_per_s)``.

    Returns:
        The time at the end, ms.
    """
    bandwidth, noise, min_efficiency, num_channels, num_servers, ms_per_s = radio
    min_sinr = 2.0**min_efficiency - 1.0
    num_devices = len(stage)
    speed = np.ones(num_devices)  # work per ms
    left = np.empty(num_devices)  # ms until the stage's end at this speed
    on_air_since = np.full(num_devices, clock)
    received = np.zeros(num_channels)
    load = np.zeros(num_servers, dtype=np.int64)
    channel_changed = np.ones(num_channels, dtype=np.bool_)
    server_changed = np.ones(num_servers, dtype=np.bool_)
    for n in range(num_devices):
        if stage[n] == IDLE:
            _enter_next_stage(n, clock, stage, task, work, num_tasks, partition, stage_ends, table)
        if stage[n] == SERVER:
            load[server[n, task[n]]] += 1
        left[n] = work[n]
    while True:
        # Received power per channel, summed afresh: subtracting what left would cancel digits.
        for c in range(num_channels):
            if channel_changed[c]:
                received[c] = 0.0
        for n in range(num_devices):
            if stage[n] == TRANSMISSION and channel_changed[channel[n, task[n]]]:
                received[channel[n, task[n]]] += power_w[n, task[n]] * gain[n]
        next_event = math.inf
        for n in range(num_devices):
            if stage[n] == IDLE:
                continue
            x = task[n]
            # A division only where the speed changes: at 64 MDs they are half of an event's time.
            if stage[n] == SERVER:
                if server_changed[server[n, x]]:
                    work[n] = left[n] * speed[n]
                    speed[n] = 1.0 / load[server[n, x]]
                    left[n] = work[n] / speed[n]
            elif stage[n] == TRANSMISSION and channel_changed[channel[n, x]]:
                work[n] = left[n] * speed[n]
                own = power_w[n, x] * gain[n]
                others = max(received[channel[n, x]] - own, 0.0)
                rate = rate_bps(own, others, noise, bandwidth, min_efficiency, min_sinr)
                speed[n] = rate / ms_per_s
                left[n] = work[n] / speed[n]
            next_event = min(next_event, left[n])
        if next_event == math.inf:
            return clock
        reached_horizon = horizon - clock < next_event
        step = horizon - clock if reached_horizon else next_event
        clock = horizon if reached_horizon else clock + step
        channel_changed[:] = False
        server_changed[:] = False
        for n in range(num_devices):
            if stage[n] == IDLE:
                continue
            x = task[n]
            if reached_horizon or left[n] > next_event * (1.0 + 1e-12):
                left[n] -= step
                continue
            stage_ends[n, x, stage[n] - 1] = clock
            if stage[n] == TRANSMISSION:
                transmission_s[n, x] += (clock - on_air_since[n]) / ms_per_s
                channel_changed[channel[n, x]] = True
            elif stage[n] == SERVER:
                load[server[n, x]] -= 1
                server_changed[server[n, x]] = True
            _enter_next_stage(n, clock, stage, task, work, num_tasks, partition, stage_ends, table)
            speed[n] = 1.0
            left[n] = work[n]
            if stage[n] == TRANSMISSION:
                on_air_since[n] = clock
                channel_changed[channel[n, task[n]]] = True
            elif stage[n] == SERVER:
                load[server[n, task[n]]] += 1
                server_changed[server[n, task[n]]] = True
        if reached_horizon:
            for n in range(num_devices):
                if stage[n] != IDLE:
                    work[n] = left[n] * speed[n]
                if stage[n] == TRANSMISSION:
                    transmission_s[n, task[n]] += (clock - on_air_since[n]) / ms_per_s
            return clock
