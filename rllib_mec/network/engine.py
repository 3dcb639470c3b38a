"""The event-driven engine: every MD's tasks through its CPU, a channel and a server (Eq. 1, 2).

Between two events (some stage of some MD ends) all speeds are constant: an MD that transmits does
so at the rate of Eq. (1) among those that transmit at that instant on the same channel; a server
with k tasks gives each 1/k of its speed. An event costs O(N): a few passes over the MDs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.radio import rate_bps

IDLE, LOCAL, TRANSMISSION, SERVER, JOIN = 0, 1, 2, 3, 4
"""Stages of a task on its way. While its features are sent and served, the MD's CPU may work on the
rest of them; ``JOIN`` is what is left of that, or the result's way back, when the server is done.
"""

_NO_RESOURCE = 0  # resources: 0 the MD's own CPU, then the channels, then the servers
SAME_INSTANT = 1.0 + 1e-12
"""Events this close are one: rounding must not make two of them."""


class Devices(NamedTuple):
    """What every MD is at: the engine's state, changed in place and resumable.

    Attributes:
        stage: Stage of each MD's current task, ``(N,)`` int; ``IDLE`` if it has none.
        task: Index of the current task, ``(N,)`` int.
        work: Work left in the stage, ``(N,)``: ms of CPU, bits, or ms of an unshared server.
        cut_at: When the current task was past its local stage, ``(N,)``, ms.
    """

    stage: np.ndarray
    task: np.ndarray
    work: np.ndarray
    cut_at: np.ndarray


class Decisions(NamedTuple):
    """How each task is done; one column per task, tasks beyond the last column share it.

    Attributes:
        partition: Partition points, ``(N, W)`` int.
        channel: Channels, ``(N, W)`` int.
        server: MEC servers, ``(N, W)`` int.
        power_w: Transmit powers, ``(N, W)``, W.
    """

    partition: np.ndarray
    channel: np.ndarray
    server: np.ndarray
    power_w: np.ndarray


class Records(NamedTuple):
    """What is written down of each task, one column per task as in :class:`Decisions`.

    Attributes:
        stage_ends: When its local stage and its transmission ended, and the task itself,
            ``(N, W, 3)``, ms.
        transmission_s: Its time on air, ``(N, W)``, in real seconds whatever the profile; added to
            what it holds.
    """

    stage_ends: np.ndarray
    transmission_s: np.ndarray


class Coming(NamedTuple):
    """Tasks that are not there yet, and whom a call of :func:`advance` waits for.

    Attributes:
        release: When each task may begin, one column per task as in :class:`Decisions`, ``(N, W)``,
            ms; ``(0, 0)`` where all are there.
        awaited: Whose tasks are waited for, ``(N,)`` bool.
        stop_after: The call ends when so many of the awaited MDs have done their tasks; 0: when all
            MDs have done theirs.
    """

    release: np.ndarray
    awaited: np.ndarray
    stop_after: int


@compiled
def all_there():
    """Nothing is to come, and all MDs are waited for."""
    return Coming(np.empty((0, 0)), np.empty(0, dtype=np.bool_), 0)


class Scratch(NamedTuple):
    """Working memory of :func:`advance`, made once for many calls.

    Attributes:
        speed: Work per ms of each MD's stage, ``(N,)``.
        left: Time to the stage's end at that speed, ``(N,)``, ms.
        since: When the MD went on air, ``(N,)``, ms.
        own: Received power of the MD's transmission, ``(N,)``, W.
        behind: Received power of the MDs after it on its channel, ``(N,)``, W.
        resource: What the stage needs, ``(N,)`` int.
        received: Running sum of received powers on each resource, W.
        load: How many MDs each resource has.
        changed: Whether a resource's MDs have to be timed anew.
    """

    speed: np.ndarray
    left: np.ndarray
    since: np.ndarray
    own: np.ndarray
    behind: np.ndarray
    resource: np.ndarray
    received: np.ndarray
    load: np.ndarray
    changed: np.ndarray


@compiled
def make_scratch(num_devices, num_channels, num_servers):
    """Working memory of :func:`advance`, not initialised.

    Args:
        num_devices: N.
        num_channels: C.
        num_servers: M.
    """
    num_resources = 1 + num_channels + num_servers
    return Scratch(
        np.empty(num_devices),
        np.empty(num_devices),
        np.empty(num_devices),
        np.empty(num_devices),
        np.empty(num_devices),
        np.empty(num_devices, dtype=np.int64),
        np.empty(num_resources),
        np.empty(num_resources, dtype=np.int64),
        np.empty(num_resources, dtype=np.bool_),
    )


@compiled
def advance(clock, horizon, devices, num_tasks, coming, decisions, gain, physics, records, scratch):
    """Advance one world from event to event until its MDs are done or the horizon is reached.

    ``devices`` and ``records`` are changed in place: a call with a finite horizon leaves tasks in
    flight, and the next call carries them on. Stages of no length are passed at once. A task of -1
    is one from before the first: it has the last column.

    Args:
        clock: Time now, ms.
        horizon: Time to stop at, ms; ``inf`` runs until all tasks are done.
        devices: A :class:`Devices`.
        num_tasks: Tasks of each MD, ``(N,)`` int.
        coming: A :class:`Coming`.
        decisions: A :class:`Decisions`.
        gain: Channel gain of each MD, ``(N,)``.
        physics: A :class:`~rllib_mec.network.physics.Physics`.
        records: A :class:`Records`.
        scratch: From :func:`make_scratch`.

    Returns:
        The time at the end, ms.
    """
    # One loop over plain arrays: functions called from it would count references to each of them.
    stage, task, work, cut_at = devices
    partition, channel, server, power_w = decisions
    stage_ends, transmission_s = records
    release, awaited, stop_after = coming
    some_come = len(release) > 0
    to_go = stop_after
    speed, left, since, own, behind, resource, received, load, changed = scratch
    stage_work, full_local = physics.stage_work, physics.full_local
    bandwidth_hz, noise_w, min_efficiency, ms_per_s = physics.radio
    server_speed, server_delay_ms, server_row = physics.servers
    num_channels = len(bandwidth_hz)
    min_sinr = 2.0**min_efficiency - 1.0
    num_devices = len(left)
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
                    if stop_after > 0 and awaited[n]:
                        to_go -= 1
                    break
                if some_come and stage[n] == IDLE and release[n, x] > clock * SAME_INSTANT:
                    left[n] = release[n, x] - clock  # on its CPU, which does nothing else
                    break
                stage[n] += 1
                point = partition[n, x]
                row = server_row[server[n, x]] if stage[n] == SERVER else stage[n] - 1
                left[n] = stage_work[n, row, point]
                if stage[n] == TRANSMISSION:
                    cut_at[n] = clock
                elif stage[n] == JOIN:
                    left[n] -= clock - cut_at[n]
                    if point < full_local[n]:
                        left[n] = max(left[n], server_delay_ms[server[n, x]])
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

        if stop_after > 0 and to_go <= 0:
            for n in range(num_devices):
                if stage[n] != IDLE:
                    work[n] = left[n] * speed[n]
                if stage[n] == TRANSMISSION:
                    transmission_s[n, min(task[n], last)] += (clock - since[n]) / ms_per_s
            return clock

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
                    c = r - 1
                    rate = rate_bps(
                        own[n], others, bandwidth_hz[c], noise_w[c], min_efficiency, min_sinr
                    )
                    new_speed = rate / ms_per_s
                else:
                    new_speed = server_speed[r - 1 - num_channels] / load[r]
                # A division only where the speed changes: they are the dearest part for many MDs.
                if new_speed != speed[n]:
                    left[n] = left[n] * speed[n] / new_speed
                    speed[n] = new_speed
            next_event = min(next_event, left[n])
        if next_event == math.inf:
            return clock
        changed[:] = False

        step = horizon - clock
        if step * SAME_INSTANT < next_event:
            for n in range(num_devices):
                if stage[n] != IDLE:
                    work[n] = (left[n] - step) * speed[n]
                if stage[n] == TRANSMISSION:
                    transmission_s[n, min(task[n], last)] += (horizon - since[n]) / ms_per_s
            return horizon
        clock += next_event
        at_once = next_event * SAME_INSTANT
        for n in range(num_devices):
            left[n] = left[n] - next_event if left[n] > at_once else 0.0
