"""The event-driven engine: every MD's tasks through its CPU, a channel and a server (Eq. 1, 2).

Between two events (some stage of some MD ends) all speeds are constant: an MD that transmits does
so at the rate of Eq. (1) among those that transmit at that instant on the same channel; a server
with k tasks gives each 1/k of its speed. An event costs O(N): a few passes over the MDs.
"""

from __future__ import annotations

import math

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.radio import rate_bps

IDLE, LOCAL, TRANSMISSION, SERVER, JOIN = 0, 1, 2, 3, 4
"""Stages of an MD. While a task's features are on their way and served, the CPU may work on the
rest of them; ``JOIN`` is what is left of that when the server's result is there.
"""

_NO_RESOURCE = 0  # resources: 0 the MD's own CPU, then the channels, then the servers
_SAME_INSTANT = 1.0 + 1e-12  # events this close are one: rounding must not make two of them


@compiled
def make_scratch(num_devices, num_channels, num_servers):
    """Working memory of :func:`advance`, made once for many calls."""
    num_resources = 1 + num_channels + num_servers
    return (
        np.empty((5, num_devices)),
        np.empty(num_devices, dtype=np.int64),
        np.empty(num_resources),
        np.empty(num_resources, dtype=np.int64),
        np.empty(num_resources, dtype=np.bool_),
    )


@compiled
def advance(
    clock,
    horizon,
    stage,
    task,
    work,
    cut_at,
    num_tasks,
    partition,
    channel,
    server,
    power_w,
    gain,
    stage_ends,
    transmission_s,
    stage_work,
    radio,
    scratch,
):
    """Advance one world from event to event until its MDs are done or the horizon is reached.

    The arguments from ``stage`` to ``cut_at`` are the resumable state and, like the records
    ``stage_ends`` and ``transmission_s``, are changed in place: a call with a finite horizon leaves
    tasks in flight, and the next call carries them on. Stages of no length are passed at once.

    Decisions and records have one column per task; tasks beyond the last column share it.

    Args:
        clock: Time now, ms.
        horizon: Time to stop at, ms; ``inf`` runs until all tasks are done.
        stage: Stage of each MD, ``(N,)`` int.
        task: Index of each MD's current task, ``(N,)`` int.
        work: Work left in the stage, ``(N,)``: ms of CPU, bits, or ms of an unshared server.
        cut_at: When each MD's current task was past its first stage, ``(N,)``, ms.
        num_tasks: Tasks of each MD, ``(N,)`` int.
        partition: Partition point of each task, ``(N, W)`` int; so ``channel`` and ``server``.
        channel: See ``partition``.
        server: See ``partition``.
        power_w: Transmit power of each task, ``(N, W)``, W.
        gain: Channel gain of each MD, ``(N,)``.
        stage_ends: Record of when each task's local stage and transmission ended, and the task
            itself, ``(N, W, 3)``, ms.
        transmission_s: Record of each task's time on air, ``(N, W)``, in real seconds whatever the
            profile; added to what it holds.
        stage_work: Work at each partition point, ``(4, S)``: ms of CPU up to the cut, bits, ms of
            server, and ms of CPU beside the last two.
        radio: ``(bandwidth_hz, noise_w, min_efficiency, num_channels, ms_per_s)``.
        scratch: From :func:`make_scratch`.

    Returns:
        The time at the end, ms.
    """
    bandwidth, noise, min_efficiency, num_channels, ms_per_s = radio
    per_device, resource, received, load, changed = scratch
    # Work per ms, ms left at this speed, start on air, received power, interference from MDs after.
    speed, left, since, own, behind = (
        per_device[0], per_device[1], per_device[2], per_device[3], per_device[4]
    )  # fmt: skip
    min_sinr = 2.0**min_efficiency - 1.0
    num_devices = len(stage)
    last = partition.shape[1] - 1
    load[:] = 0
    changed[:] = True
    for n in range(num_devices):
        x = min(task[n], last)
        resource[n] = _NO_RESOURCE
        speed[n] = 1.0
        left[n] = 0.0 if stage[n] == IDLE else work[n]
        if stage[n] == TRANSMISSION:
            resource[n] = 1 + channel[n, x]
            own[n] = power_w[n, x] * gain[n]
            since[n] = clock
        elif stage[n] == SERVER:
            resource[n] = 1 + num_channels + server[n, x]
        load[resource[n]] += 1

    while True:
        # Who is at the end of a stage goes on to the next one of some length.
        for n in range(num_devices):
            if left[n] > 0.0:
                continue
            x = min(task[n], last)
            if stage[n] != IDLE:
                stage_ends[n, x, min(stage[n], SERVER) - 1] = clock
                if stage[n] == TRANSMISSION:
                    transmission_s[n, x] += (clock - since[n]) / ms_per_s
                load[resource[n]] -= 1
                changed[resource[n]] = True
                resource[n] = _NO_RESOURCE
                load[_NO_RESOURCE] += 1
            speed[n] = 1.0
            while left[n] <= 0.0:
                if stage[n] == JOIN:
                    stage[n] = IDLE
                    task[n] += 1
                    x = min(task[n], last)
                if stage[n] == IDLE and task[n] >= num_tasks[n]:
                    left[n] = math.inf
                    break
                stage[n] += 1
                left[n] = stage_work[stage[n] - 1, partition[n, x]]
                if stage[n] == TRANSMISSION:
                    cut_at[n] = clock
                elif stage[n] == JOIN:
                    left[n] -= clock - cut_at[n]
                if left[n] <= 0.0:
                    stage_ends[n, x, min(stage[n], SERVER) - 1] = clock
            if stage[n] == TRANSMISSION or stage[n] == SERVER:
                if stage[n] == TRANSMISSION:
                    resource[n] = 1 + channel[n, x]
                    own[n] = power_w[n, x] * gain[n]
                    since[n] = clock
                else:
                    resource[n] = 1 + num_channels + server[n, x]
                load[_NO_RESOURCE] -= 1
                load[resource[n]] += 1
                changed[resource[n]] = True

        # Interference is summed from both ends: subtracting an MD's own power from the sum of all
        # would cancel the digits of weak interferers beside a strong one.
        received[:] = 0.0
        for n in range(num_devices - 1, -1, -1):
            if stage[n] == TRANSMISSION:
                behind[n] = received[resource[n]]
                received[resource[n]] += own[n]
        received[:] = 0.0
        next_event = math.inf
        for n in range(num_devices):
            r = resource[n]
            if r != _NO_RESOURCE and changed[r]:
                if stage[n] == TRANSMISSION:
                    others = received[r] + behind[n]
                    received[r] += own[n]
                    rate = rate_bps(own[n], others, noise, bandwidth, min_efficiency, min_sinr)
                    new_speed = rate / ms_per_s
                else:
                    new_speed = 1.0 / load[r]
                # A division only where the speed changes: they are the dearest part for many MDs.
                if new_speed != speed[n]:
                    left[n] = left[n] * speed[n] / new_speed
                    speed[n] = new_speed
            next_event = min(next_event, left[n])
        if next_event == math.inf:
            return clock
        changed[:] = False

        step = horizon - clock
        if step * _SAME_INSTANT < next_event:
            for n in range(num_devices):
                if stage[n] != IDLE:
                    work[n] = (left[n] - step) * speed[n]
                if stage[n] == TRANSMISSION:
                    transmission_s[n, min(task[n], last)] += (horizon - since[n]) / ms_per_s
            return horizon
        clock += next_event
        at_once = next_event * _SAME_INSTANT
        for n in range(num_devices):
            left[n] = left[n] - next_event if left[n] > at_once else 0.0
