"""The engine's kernel for few MDs: an event is a few passes over all of them, without branches."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rllib_mec.compiled import compiled, inlined
from rllib_mec.network.radio import rate_bps
from rllib_mec.network.stages import IDLE, SAME_INSTANT, SERVER, TRANSMISSION, go_on, shared_speed

_NO_RESOURCE = 0  # resources: 0 the MD's own CPU, then the channels, then the servers


class FewScratch(NamedTuple):
    """Working memory of :func:`advance_few`.

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
def few_scratch(num_devices, num_channels, num_servers):
    """Working memory of :func:`advance_few`, not initialised.

    Args:
        num_devices: N.
        num_channels: C.
        num_servers: M.
    """
    num_resources = 1 + num_channels + num_servers
    return FewScratch(
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


@inlined
def advance_few(
    clock, horizon, devices, num_tasks, coming, decisions, gain, physics, records, scratch
):  # fmt: skip
    """As :func:`~rllib_mec.network.engine.advance`, in O(N) an event.

    Args:
        clock: See there, as for the others.
        horizon: When to stop.
        devices: Where the MDs are.
        num_tasks: Tasks of each MD.
        coming: What is to come.
        decisions: Of the tasks.
        gain: Channel gains.
        physics: Of the scenario.
        records: Filled.
        scratch: A :class:`FewScratch`.

    Returns:
        The time at the end, ms.
    """
    # One loop over plain arrays: functions called from it would count references to each of them.
    stage, task, work, cut_at = devices
    partition, channel, server, power_w = decisions
    stage_ends, transmission_s = records
    release, awaited, stop_after = coming
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
            left[n] = go_on(
                n, clock, stage, task, cut_at, num_tasks, release, partition, server, stage_work,
                full_local, server_delay_ms, server_row, stage_ends,
            )  # fmt: skip
            x = min(task[n], last)
            if left[n] == math.inf and stop_after > 0 and awaited[n]:
                to_go -= 1
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
                    new_speed = shared_speed(server_speed[r - 1 - num_channels], load[r])
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
