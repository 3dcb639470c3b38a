"""The engine's kernel for many MDs: an event costs what it touches, however many others there are.

A CPU's stages have fixed ends. A channel's MDs are timed anew when one comes or goes, since all
interfere with all. A server has a time of its own, which runs slower the more tasks it has: by it
their order never changes, and a heap keeps them. One tree has the next end of each CPU, channel and
server.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rllib_mec.compiled import compiled, inlined
from rllib_mec.network.radio import rate_bps
from rllib_mec.network.stages import IDLE, SAME_INSTANT, SERVER, TRANSMISSION, go_on, shared_speed

_NONE = -1


class ManyScratch(NamedTuple):
    """Working memory of :func:`advance_many`.

    Attributes:
        next_ms: Tree of the next ends of each CPU, channel and server: leaves in its second half,
            in every node the smaller of the two below it.
        speed: Bits per ms of each MD on air, ``(N,)``.
        left: Time to the transmission's end at that speed, ``(N,)``, from ``at`` on, ms.
        at: See ``left``.
        since: When the MD went on air, ``(N,)``, ms.
        own: Received power of its transmission, ``(N,)``, W.
        others: Received power of others on its channel, ``(N,)``, W.
        nodes: Those of the tree still to be searched, int.
        links: The next and the previous MD on a channel, or those below one in a server's heap,
            ``(2, N)`` int.
        due: When the MD's task is served by its server's time, ``(N,)``.
        ended: MDs whose stage has ended, ``(N,)`` int.
        first: The first MD of each channel, or the next one to be served of each server, int.
        touched: Channels and servers to be timed anew, int.
        is_touched: Whether one is among them.
        served: Each server's time, ``(M,)``.
        served_at: When it was that, ``(M,)``, ms.
        load: Tasks of each server, ``(M,)`` int.
    """

    next_ms: np.ndarray
    speed: np.ndarray
    left: np.ndarray
    at: np.ndarray
    since: np.ndarray
    own: np.ndarray
    others: np.ndarray
    nodes: np.ndarray
    links: np.ndarray
    due: np.ndarray
    ended: np.ndarray
    first: np.ndarray
    touched: np.ndarray
    is_touched: np.ndarray
    served: np.ndarray
    served_at: np.ndarray
    load: np.ndarray


@compiled
def many_scratch(num_devices, num_channels, num_servers):
    """Working memory of :func:`advance_many`, not initialised.

    Args:
        num_devices: N.
        num_channels: C.
        num_servers: M.
    """
    shared = num_channels + num_servers
    leaves = 1
    while leaves < num_devices + shared:
        leaves *= 2
    return ManyScratch(
        np.empty(2 * leaves),
        np.empty(num_devices),
        np.empty(num_devices),
        np.empty(num_devices),
        np.empty(num_devices),
        np.empty(num_devices),
        np.empty(num_devices),
        np.empty(64, dtype=np.int64),
        np.empty((2, num_devices), dtype=np.int64),
        np.empty(num_devices),
        np.empty(num_devices, dtype=np.int64),
        np.empty(shared, dtype=np.int64),
        np.empty(shared, dtype=np.int64),
        np.empty(shared, dtype=np.bool_),
        np.empty(num_servers),
        np.empty(num_servers),
        np.empty(num_servers, dtype=np.int64),
    )


@inlined
def _set(tree, leaf, value):
    """Give a leaf another value."""
    i = leaf
    tree[i] = value
    while i > 1:
        value = min(value, tree[i ^ 1])
        i >>= 1
        if tree[i] == value:
            break
        tree[i] = value


@inlined
def _merged(a, b, due, left, right):
    """The root of two skew heaps made one."""
    root = _NONE
    above = _NONE
    while a != _NONE or b != _NONE:
        if a == _NONE or (b != _NONE and due[b] < due[a]):
            a, b = b, a
        if above == _NONE:
            root = a
        else:
            left[above] = a
        if b == _NONE:
            break
        above = a
        a = right[above]
        right[above] = left[above]
    return root


@compiled
def advance_many(
    clock, horizon, devices, num_tasks, coming, decisions, gain, physics, records, scratch
):  # fmt: skip
    """As :func:`~rllib_mec.network.engine.advance`: O(N/C + log N) an event.

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
        scratch: A :class:`ManyScratch`.

    Returns:
        The time at the end, ms.
    """
    stage, task, work, cut_at = devices
    partition, channel, server, power_w = decisions
    stage_ends, transmission_s = records
    release, awaited, stop_after = coming
    (
        next_ms, speed, left, at, since, own, others, nodes, links, due, ended, first, touched,
        is_touched, served, served_at, load,
    ) = scratch  # fmt: skip
    behind, before = links[0], links[1]
    stage_work, full_local = physics.stage_work, physics.full_local
    bandwidth_hz, noise_w, min_efficiency, ms_per_s = physics.radio
    server_speed, server_delay_ms, server_row = physics.servers
    min_sinr = 2.0**min_efficiency - 1.0
    num_devices, num_channels = len(left), len(bandwidth_hz)
    num_leaves = len(next_ms) // 2
    last = partition.shape[1] - 1
    to_go = stop_after
    num_touched = 0
    next_ms[:] = math.inf
    first[:] = _NONE
    is_touched[:] = False
    load[:] = 0
    served[:] = 0.0
    served_at[:] = clock
    for n in range(num_devices):
        ended[n] = n  # one that is under way enters its stage anew, with what is left of it
    num_ended = num_devices
    is_new = True

    while True:
        for i in range(num_ended):
            n = ended[i]
            if is_new and stage[n] != IDLE and work[n] > 0.0:
                length = work[n]
            else:
                x = min(task[n], last)
                if stage[n] != IDLE:
                    stage_ends[n, x, min(stage[n], SERVER) - 1] = clock
                    if stage[n] == TRANSMISSION and not is_new:
                        transmission_s[n, x] += (clock - since[n]) / ms_per_s
                length = go_on(
                    n, clock, stage, task, cut_at, num_tasks, release, partition, server,
                    stage_work, full_local, server_delay_ms, server_row, stage_ends,
                )  # fmt: skip
                if length == math.inf and stop_after > 0 and awaited[n]:
                    to_go -= 1
            x = min(task[n], last)
            is_shared = stage[n] == TRANSMISSION or stage[n] == SERVER
            ends = math.inf if is_shared else clock + length
            if ends != next_ms[num_leaves + n]:
                _set(next_ms, num_leaves + n, ends)
            if not is_shared:
                continue
            if stage[n] == TRANSMISSION:
                r = channel[n, x]
                own[n] = power_w[n, x] * gain[n]
                since[n] = clock
                at[n] = clock
                speed[n] = 1.0
                left[n] = length
                behind[n] = first[r]
                before[n] = _NONE
                if first[r] != _NONE:
                    before[first[r]] = n
                first[r] = n
            else:
                m = server[n, x]
                r = num_channels + m
                if load[m] == 0:
                    served[m] = 0.0
                else:
                    served[m] += (clock - served_at[m]) * shared_speed(server_speed[m], load[m])
                served_at[m] = clock
                due[n] = served[m] + length
                behind[n] = _NONE
                before[n] = _NONE
                first[r] = _merged(first[r], n, due, behind, before)
                load[m] += 1
            if not is_touched[r]:
                is_touched[r] = True
                touched[num_touched] = r
                num_touched += 1
        is_new = False
        num_ended = 0
        if stop_after > 0 and to_go <= 0:
            break

        for i in range(num_touched):
            r = touched[i]
            is_touched[r] = False
            soonest = math.inf
            if r < num_channels:
                # Interference is summed from both ends: subtracting an MD's own power from the sum
                # of all would cancel the digits of weak interferers beside a strong one.
                end = _NONE
                received = 0.0
                n = first[r]
                while n != _NONE:
                    others[n] = received
                    received += own[n]
                    end = n
                    n = behind[n]
                received = 0.0
                n = end
                while n != _NONE:
                    rate = rate_bps(
                        own[n], others[n] + received, bandwidth_hz[r], noise_w[r], min_efficiency,
                        min_sinr,
                    )  # fmt: skip
                    received += own[n]
                    new_speed = rate / ms_per_s
                    left[n] -= clock - at[n]
                    at[n] = clock
                    if new_speed != speed[n]:
                        left[n] = left[n] * speed[n] / new_speed
                        speed[n] = new_speed
                    soonest = min(soonest, left[n])
                    n = before[n]
            elif first[r] != _NONE:
                m = r - num_channels
                rest = due[first[r]] - served[m]
                soonest = rest / shared_speed(server_speed[m], load[m])
            _set(next_ms, num_leaves + num_devices + r, clock + soonest)
        num_touched = 0

        if next_ms[1] == math.inf:
            return clock
        if next_ms[1] > horizon * SAME_INSTANT:
            clock = horizon
            break
        clock = max(next_ms[1], clock)
        instant = clock * SAME_INSTANT
        nodes[0] = 1
        num_nodes = 1
        while num_nodes > 0:
            num_nodes -= 1
            i = nodes[num_nodes]
            while i < num_leaves:  # down to the leaf of what ends, past the other ones that do
                i *= 2
                if next_ms[i] > instant:
                    i += 1
                elif next_ms[i + 1] <= instant:
                    nodes[num_nodes] = i + 1
                    num_nodes += 1
            r = i - num_leaves - num_devices
            if r < 0:
                ended[num_ended] = r + num_devices
                num_ended += 1
                continue
            is_touched[r] = True
            touched[num_touched] = r
            num_touched += 1
            if r < num_channels:
                n = first[r]
                while n != _NONE:
                    if at[n] + left[n] <= instant:
                        ended[num_ended] = n
                        num_ended += 1
                        if before[n] == _NONE:
                            first[r] = behind[n]
                        else:
                            behind[before[n]] = behind[n]
                        if behind[n] != _NONE:
                            before[behind[n]] = before[n]
                    n = behind[n]
                continue
            m = r - num_channels
            shared = shared_speed(server_speed[m], load[m])
            instant_of_it = due[first[r]] + (instant - clock) * shared
            served[m] = due[first[r]]
            served_at[m] = clock
            while first[r] != _NONE and due[first[r]] <= instant_of_it:
                n = first[r]
                ended[num_ended] = n
                num_ended += 1
                load[m] -= 1
                first[r] = _merged(behind[n], before[n], due, behind, before)

    # What is under way is left for the next call.
    for n in range(num_devices):
        x = min(task[n], last)
        if stage[n] == TRANSMISSION:
            work[n] = (left[n] - (clock - at[n])) * speed[n]
            transmission_s[n, x] += (clock - since[n]) / ms_per_s
        elif stage[n] == SERVER:
            m = server[n, x]
            done = served[m] + (clock - served_at[m]) * shared_speed(server_speed[m], load[m])
            work[n] = due[n] - done
        elif stage[n] != IDLE:
            work[n] = next_ms[num_leaves + n] - clock
    return clock
