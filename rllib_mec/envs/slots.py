"""Time slots of a batch of worlds: the discrete-time MDP on the same engine, tasks in flight."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.envs.windows import draw_gains
from rllib_mec.network.engine import IDLE, JOIN, LOCAL, SERVER, advance, make_scratch
from rllib_mec.network.radio import transmit_power_w
from rllib_mec.network.streams import stream

_MOST_RECORDS = 64


class Flight(NamedTuple):
    """What every MD is at, from one slot to the next.

    Attributes:
        stage: Stage of the MD's current task, ``(B, N)`` int; 0 if it has none.
        work: Work left in that stage, ``(B, N)``: ms of CPU, bits, or ms of an unshared server.
        cut_at: When the task was past its first stage, ``(B, N)``, ms after the slot's start and so
            never positive.
        partition: Its partition point, ``(B, N)`` int; so ``channel`` and ``server``.
        channel: See ``partition``.
        server: See ``partition``.
        power_w: Its transmit power, ``(B, N)``, W.
    """

    stage: np.ndarray
    work: np.ndarray
    cut_at: np.ndarray
    partition: np.ndarray
    channel: np.ndarray
    server: np.ndarray
    power_w: np.ndarray

    @classmethod
    def none(cls, num_worlds: int, num_devices: int) -> Flight:
        """No task in flight."""
        shape = (num_worlds, num_devices)
        whole, real = np.zeros(shape, dtype=np.int64), np.zeros(shape)
        return cls(
            stage=whole.copy(),
            work=real.copy(),
            cut_at=real.copy(),
            partition=whole.copy(),
            channel=whole.copy(),
            server=whole.copy(),
            power_w=real.copy(),
        )

    def copy(self) -> Flight:
        """A copy that shares no memory."""
        return Flight(*(array.copy() for array in self))


def most_tasks(slot_ms: float, stage_work: np.ndarray) -> int:
    """The most tasks an MD can have in a slot: one in flight, those that fit, and one begun."""
    fastest = float((stage_work[0] + np.maximum(stage_work[2], stage_work[3])).min())
    fit = slot_ms / fastest if fastest > 0.0 else _MOST_RECORDS
    return int(min(2 + fit, _MOST_RECORDS))


@compiled
def _cpu_ms_left(stage, work, since_cut_ms, stage_work, point):
    """What a task has left to do on its MD's CPU, before and beside what is done elsewhere."""
    if stage == IDLE:
        return 0.0
    if stage == LOCAL:
        return work + stage_work[JOIN - 1, point]
    return max(stage_work[JOIN - 1, point] - since_cut_ms, 0.0)


@compiled
def _cpu_share_done(stage, work, since_cut_ms, stage_work, point):
    """Which share of its work on its MD's CPU a task in flight has done."""
    whole = stage_work[LOCAL - 1, point] + stage_work[JOIN - 1, point]
    if whole <= 0.0:
        return 1.0
    return 1.0 - _cpu_ms_left(stage, work, since_cut_ms, stage_work, point) / whole


@compiled
def play_slots(
    seeds, counters, queues, distances, flight, actions, physics, slot_ms, min_mean_tasks, out
):  # fmt: skip
    """Run one time slot in every world, or less where all tasks are done before it ends.

    A task keeps the decision that it began with; all tasks that an MD begins in this slot take
    this slot's decision. Distances and gains are those of the slot, also for tasks in flight.

    Args:
        seeds: Of the worlds, ``(B,)`` uint64.
        counters: Episode and slot of each world, ``(B, 2)`` int.
        queues: Tasks not yet done, ``(B, N)`` int.
        distances: To the base station, ``(B, N)``, m.
        flight: A :class:`Flight`, changed in place.
        actions: ``(partition, channel, server, power, window)``; ``(B, N, 1)``, the last ``(B, N)``
            and not used.
        physics: A :class:`~rllib_mec.envs.windows.Physics`.
        slot_ms: τ.
        min_mean_tasks: The mean number of finished tasks that the reward divides by is not below.
        out: A :class:`~rllib_mec.envs.vector_windows.VectorStep` of zeros, filled here but for
            ``observation`` and ``terminated``; ``stage_ends`` has room for :func:`most_tasks`.
    """
    max_power_dbm, is_dbm = physics.power
    num_worlds, num_devices, records, _ = out.stage_ends.shape
    last = records - 1
    full_local = len(physics.local_energy_j) - 1
    scratch = make_scratch(num_devices, physics.radio[3], physics.num_servers)
    shape = (num_devices, records)
    partition = np.empty(shape, dtype=np.int64)
    channel = np.empty(shape, dtype=np.int64)
    server = np.empty(shape, dtype=np.int64)
    power_w = np.empty(shape)
    on_air_s = np.empty(shape)
    was_flying = np.empty(num_devices, dtype=np.bool_)
    task = np.empty(num_devices, dtype=np.int64)
    gain = np.empty(num_devices)
    for b in range(num_worlds):
        stage = flight.stage[b]
        work = flight.work[b]
        cut_at = flight.cut_at[b]
        energy = 0.0
        on_air_s[:] = 0.0
        for n in range(num_devices):
            partition[n, :] = actions[0][b, n, 0]
            channel[n, :] = actions[1][b, n, 0]
            server[n, :] = actions[2][b, n, 0]
            power_w[n, :] = transmit_power_w(actions[3][b, n, 0], max_power_dbm, is_dbm)
            task[n] = 0
            was_flying[n] = stage[n] != IDLE
            if was_flying[n]:
                s = flight.partition[b, n]
                partition[n, 0] = s
                channel[n, 0] = flight.channel[b, n]
                server[n, 0] = flight.server[b, n]
                power_w[n, 0] = flight.power_w[b, n]
                # Earlier slots have paid for this part of the MD's computing.
                done = _cpu_share_done(stage[n], work[n], -cut_at[n], physics.stage_work, s)
                energy -= physics.local_energy_j[s] * done
        key = stream(seeds[b], counters[b, 0], counters[b, 1])
        draw_gains(key, 0, distances[b], physics.fading, gain)
        elapsed = advance(
            0.0, slot_ms, stage, task, work, cut_at, queues[b], partition, channel, server, power_w,
            gain, out.stage_ends[b], on_air_s, physics.stage_work, physics.radio, scratch,
        )  # fmt: skip
        finished = 0
        local = 0
        for n in range(num_devices):
            out.window_size[b, n] = task[n]
            finished += task[n]
            for x in range(task[n]):
                s = partition[n, min(x, last)]
                energy += physics.local_energy_j[s]
                if s == full_local:
                    local += 1
            for x in range(records):
                energy += power_w[n, x] * on_air_s[n, x]
            begun = task[n]
            cut_at[n] -= elapsed
            if stage[n] != IDLE:
                begun += 1
                x = min(task[n], last)
                s = partition[n, x]
                done = _cpu_share_done(stage[n], work[n], -cut_at[n], physics.stage_work, s)
                energy += physics.local_energy_j[s] * done
                flight.partition[b, n] = s
                flight.channel[b, n] = channel[n, x]
                flight.server[b, n] = server[n, x]
                flight.power_w[b, n] = power_w[n, x]
                for k in range(min(stage[n], SERVER) - 1, 3):  # in flight: recorded up to here
                    out.stage_ends[b, n, x, k] = elapsed
            out.played[b, n, 0] = begun > (1 if was_flying[n] else 0)
        mean_tasks = max(finished / num_devices, min_mean_tasks)
        energy = max(energy, 0.0)
        out.reward[b] = -(slot_ms + physics.weights[1] / num_devices * energy) / mean_tasks
        out.task_rewards[b, 0] = out.reward[b]
        out.latency_ms[b] = elapsed
        out.energy_j[b] = energy
        out.waiting_ms[b] = 0.0
        out.local_share[b] = local / max(finished, 1)


@compiled
def observe_progress(flight, stage_work, progress):
    """Write how much of its task every MD has still to do, ``(B, 3N)``.

    First the work on the MDs' CPUs, over the whole DNN's local latency; then the bits, over the
    input's; then the server's part, over its latency for the whole DNN.
    """
    num_worlds, num_devices = flight.stage.shape
    whole_local = (stage_work[LOCAL - 1] + stage_work[JOIN - 1]).max()
    for b in range(num_worlds):
        for n in range(num_devices):
            progress[b, n] = _cpu_ms_left(
                flight.stage[b, n], flight.work[b, n], -flight.cut_at[b, n], stage_work,
                flight.partition[b, n],
            ) / whole_local  # fmt: skip
            for k in range(1, 3):
                left = 0.0
                if flight.stage[b, n] == k + 1:
                    left = flight.work[b, n]
                elif IDLE < flight.stage[b, n] <= k:
                    left = stage_work[k, flight.partition[b, n]]
                whole = stage_work[k].max()
                progress[b, k * num_devices + n] = left / whole if whole > 0.0 else 0.0
