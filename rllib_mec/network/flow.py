"""Task windows of tasks that arrive: who is ready decides, the others go on as they can.

A step begins when some MD is ready: it has a task at hand and none in flight. Every MD does up to
its window of tasks, as they come, until those that were ready have done theirs. What is in flight
then goes on, under the decision that it began with, until some MD is ready again. A step also ends
where the network changes: something fails or comes back, an MD joins or leaves.
"""

from __future__ import annotations

import math

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.engine import Coming, Decisions, Devices, Records, advance, make_scratch
from rllib_mec.network.slots import cpu_share_done
from rllib_mec.network.stages import IDLE, SERVER
from rllib_mec.network.tasks import has_come
from rllib_mec.network.windows import summarise


@compiled
def play_flow(
    now_ms, until_ms, ends_when_done, tasks, flight, windows, partition, channel, server, power_w,
    deadline_ms, gain, physics, out,
):  # fmt: skip
    """Run one step in every world, up to the next decision, change of the network or horizon.

    Gains are those of the step, also for tasks in flight.

    Args:
        now_ms: When it begins in each world, ``(B,)``, ms since the episode's start.
        until_ms: When the step ends at the latest in each world, ``(B,)``.
        ends_when_done: Whether an episode ends as soon as all its tasks are done.
        tasks: A :class:`~rllib_mec.network.tasks.Tasks`, changed in place.
        flight: A :class:`~rllib_mec.network.slots.Flight`, changed in place.
        windows: The most tasks that each MD begins, ``(B, N)`` int; 0 of those that cannot.
        partition: Partition points, ``(B, N, W_max)`` int64.
        channel: Channels, likewise.
        server: MEC servers, likewise.
        power_w: Transmit powers, ``(B, N, W_max)``, W.
        deadline_ms: What a task may take from when it comes, ``(N,)``.
        gain: Channel gains, ``(B, N)``.
        physics: A :class:`~rllib_mec.network.physics.Physics`.
        out: A :class:`~rllib_mec.network.tasks.FlowOutcome` of zeros.
    """
    num_envs, num_devices, max_window = partition.shape
    most = tasks.arrival_ms.shape[2]
    last_point = out.point_tasks.shape[1] - 1
    scratch = make_scratch(num_devices, len(physics.radio.noise_w), len(physics.servers.speed))
    shape = (num_devices, max_window + 1)
    own = Decisions(
        np.empty(shape, dtype=np.int64),
        np.empty(shape, dtype=np.int64),
        np.empty(shape, dtype=np.int64),
        np.empty(shape),
    )
    on_air_s = np.empty(shape)
    paid_j = np.empty(num_devices)  # for what is in flight, by earlier steps
    release = np.empty(shape)
    awaited = np.empty(num_devices, dtype=np.bool_)
    was_flying = np.empty(num_devices, dtype=np.bool_)
    task = np.empty(num_devices, dtype=np.int64)
    limit = np.empty(num_devices, dtype=np.int64)
    ready_tasks = np.empty(num_devices, dtype=np.int64)
    for b in range(num_envs):
        start = now_ms[b]
        span = until_ms[b] - start
        arrival_ms, begun = tasks.arrival_ms[b], tasks.begun[b]
        stage, work, cut_at = flight.stage[b], flight.work[b], flight.cut_at[b]
        on_air_s[:] = 0.0
        num_ready = 0
        for n in range(num_devices):
            for x in range(max_window):
                own.partition[n, x] = partition[b, n, x]
                own.channel[n, x] = channel[b, n, x]
                own.server[n, x] = server[b, n, x]
                own.power_w[n, x] = power_w[b, n, x]
                i = begun[n] + x
                release[n, x] = max(arrival_ms[n, i] - start, 0.0) if i < most else math.inf
            release[n, max_window] = 0.0
            was_flying[n] = stage[n] != IDLE
            paid_j[n] = 0.0
            task[n] = 0
            limit[n] = windows[b, n]
            if was_flying[n]:
                task[n] = -1
                s = flight.partition[b, n]
                own.partition[n, max_window] = s
                own.channel[n, max_window] = flight.channel[b, n]
                own.server[n, max_window] = flight.server[b, n]
                own.power_w[n, max_window] = flight.power_w[b, n]
                paid_j[n] = physics.local_energy_j[n, s] * cpu_share_done(
                    n, stage[n], work[n], -cut_at[n], physics.stage_work, s
                )
            awaited[n] = (
                limit[n] > 0 and not was_flying[n] and begun[n] < most
                and has_come(arrival_ms[n, begun[n]], start)
            )  # fmt: skip
            if awaited[n]:  # the window is of tasks at hand
                num_ready += 1
                x = 1
                while x < limit[n] and begun[n] + x < most and (
                    has_come(arrival_ms[n, begun[n] + x], start)
                ):  # fmt: skip
                    x += 1
                limit[n] = min(limit[n], x)
        devices = Devices(stage, task, work, cut_at)
        records = Records(out.stage_ends[b], on_air_s)
        clock = 0.0
        until = span
        goes_on = num_ready > 0
        stop_after = num_ready
        is_window = True
        while True:
            if goes_on:
                clock = advance(
                    clock, until, devices, limit, Coming(release, awaited, stop_after), own,
                    gain[b], physics, records, scratch,
                )  # fmt: skip
            if is_window:
                for n in range(num_devices):
                    begun_now = task[n] + (1 if stage[n] != IDLE else 0)
                    ready_tasks[n] = begun_now if awaited[n] else 0
                is_window = False
            if clock >= span:
                break
            # Nobody begins another task: time runs on until an MD whose task is done has the next
            # one at hand, or one that is idle gets one.
            is_ready = False
            soonest = math.inf
            goes_on = False
            has_left = False
            stop_after = 0
            for n in range(num_devices):
                is_flying = stage[n] != IDLE
                awaited[n] = False
                limit[n] = task[n] + (1 if is_flying else 0)
                goes_on = goes_on or is_flying
                i = begun[n] + limit[n]
                if i >= most or arrival_ms[n, i] == math.inf:
                    continue
                has_left = True
                if windows[b, n] == 0:
                    continue
                if not has_come(arrival_ms[n, i], start + clock):
                    soonest = min(soonest, arrival_ms[n, i] - start)
                elif is_flying:
                    awaited[n] = True
                    stop_after = 1
                else:
                    is_ready = True
            if is_ready:
                break
            if ends_when_done and not goes_on and not has_left:
                out.is_over[b] = True
                break
            until = min(soonest, span)
            if not goes_on:
                clock = until
        out.is_cut[b] = clock >= span
        out.elapsed_ms[b] = clock
        _account(
            b, start, clock, tasks, flight, own, on_air_s, paid_j, was_flying, task, deadline_ms,
            physics, last_point, out,
        )  # fmt: skip
        summarise(b, ready_tasks, out)


@compiled
def _account(
    b, start, clock, tasks, flight, own, on_air_s, paid_j, was_flying, task, deadline_ms, physics,
    last_point, out,
):  # fmt: skip
    """Write down what a step has done in world b, and what is in flight after it."""
    num_devices, columns = on_air_s.shape
    last = columns - 1
    arrival_ms, end_ms, begun = tasks.arrival_ms[b], tasks.end_ms[b], tasks.begun[b]
    ends, starts, energy_j = out.stage_ends[b], out.starts[b], out.task_energy_j[b]
    for n in range(num_devices):
        stage, work, cut_at = flight.stage[b, n], flight.work[b, n], flight.cut_at[b, n] - clock
        in_flight = stage != IDLE
        first = -1 if was_flying[n] else 0
        out.num_done[b, n] = task[n] - first
        out.num_tasks[b, n] = task[n] + (1 if in_flight else 0)
        before = 0.0  # when the task before was done
        for x in range(first, task[n] + (1 if in_flight else 0)):
            s = own.partition[n, x]
            i = begun[n] + x
            slot = max(x, 0)
            is_done = x < task[n]
            share = 1.0
            if x >= 0:
                begins = before
                if arrival_ms[n, i] > 0.0:
                    begins = max(before, arrival_ms[n, i] - start)
                    out.delay_ms[b, slot] += max(begins - (arrival_ms[n, i] - start), 0.0)
                    out.num_delayed[b] += 1
                starts[n, x] = begins
            if is_done:
                before = ends[n, x, 2]
                end_ms[n, i] = start + before
                out.point_tasks[b, last_point if s >= physics.full_local[n] else s] += 1
                if end_ms[n, i] - arrival_ms[n, i] > deadline_ms[n]:
                    out.late[b, slot] += 1
            else:
                share = cpu_share_done(n, stage, work, -cut_at, physics.stage_work, s)
                for k in range(min(stage, SERVER) - 1, 3):  # recorded up to here
                    ends[n, x, k] = clock
            energy = physics.local_energy_j[n, s] * share
            if on_air_s[n, x] > 0.0:
                energy += own.power_w[n, x] * on_air_s[n, x]
            if x < 0:
                energy -= paid_j[n]
            energy_j[n, slot] += max(energy, 0.0)
        flight.cut_at[b, n] = cut_at
        if in_flight:
            x = task[n] if task[n] >= 0 else last
            flight.partition[b, n] = own.partition[n, x]
            flight.channel[b, n] = own.channel[n, x]
            flight.server[b, n] = own.server[n, x]
            flight.power_w[b, n] = own.power_w[n, x]
        begun[n] += out.num_tasks[b, n]
