"""Time slots of a batch of worlds: the discrete-time MDP on the same engine, tasks in flight."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.engine import Decisions, Devices, Records, advance, all_there, make_scratch
from rllib_mec.network.physics import Physics
from rllib_mec.network.stages import IDLE, JOIN, LOCAL, SERVER

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
    def none(cls, num_envs: int, num_devices: int) -> Flight:
        """No task in flight.

        Args:
            num_envs: B.
            num_devices: N.
        """
        shape = (num_envs, num_devices)
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


def most_tasks(slot_ms: float, physics: Physics) -> int:
    """The most tasks an MD can have in a slot: one in flight, those that fit, and one begun.

    Args:
        slot_ms: τ.
        physics: Of the scenario.
    """
    work = physics.stage_work
    speed, _, row = physics.servers
    server_ms = np.min([work[:, r] / speed[row == r].max() for r in np.unique(row)], axis=0)
    fastest = float((work[:, LOCAL - 1] + np.maximum(server_ms, work[:, JOIN - 1])).min())
    fit = slot_ms / fastest if fastest > 0.0 else _MOST_RECORDS
    return int(min(2 + fit, _MOST_RECORDS))


@compiled
def _cpu_ms_left(n, stage, work, since_cut_ms, stage_work, point):
    """What a task has left to do on its MD's CPU, before and beside what is done elsewhere."""
    if stage == IDLE:
        return 0.0
    if stage == LOCAL:
        return work + stage_work[n, JOIN - 1, point]
    return max(stage_work[n, JOIN - 1, point] - since_cut_ms, 0.0)


@compiled
def cpu_share_done(n, stage, work, since_cut_ms, stage_work, point):
    """Which share of its work on its MD's CPU a task in flight has done.

    Args:
        n: The MD.
        stage: Of the task.
        work: Left in that stage.
        since_cut_ms: How long ago it was past its first stage.
        stage_work: Work of each MD at each partition point, as in ``Physics``.
        point: The task's.
    """
    whole = stage_work[n, LOCAL - 1, point] + stage_work[n, JOIN - 1, point]
    if whole <= 0.0:
        return 1.0
    return 1.0 - _cpu_ms_left(n, stage, work, since_cut_ms, stage_work, point) / whole


class SlotOutcome(NamedTuple):
    """What happened in one time slot of B worlds.

    Attributes:
        num_tasks: Tasks finished, ``(B, N)`` int.
        begun: Whether any task began with the slot's decision, ``(B, N)`` bool.
        stage_ends: When the stages of the slot's tasks ended, ``(B, N, R, 3)``, ms since its start;
            of a task that goes on after it, its end.
        point_tasks: Tasks finished at each partition point, ``(B, S)`` int; full local ones
            at the last, whatever DNN an MD has.
        latency_ms: The slot's length, or less where all tasks are done before it ends, ``(B,)``.
        energy_j: Energy of all MDs in the slot, ``(B,)``.
    """

    num_tasks: np.ndarray
    begun: np.ndarray
    stage_ends: np.ndarray
    point_tasks: np.ndarray
    latency_ms: np.ndarray
    energy_j: np.ndarray

    @classmethod
    def of(cls, num_envs: int, num_devices: int, records: int, num_points: int) -> SlotOutcome:
        """An outcome to be filled by :func:`play_slots`.

        Args:
            num_envs: B.
            num_devices: N.
            records: R, tasks that there is room for; see :func:`most_tasks`.
            num_points: S.
        """
        return cls(
            num_tasks=np.zeros((num_envs, num_devices), dtype=np.int64),
            begun=np.zeros((num_envs, num_devices), dtype=np.bool_),
            stage_ends=np.zeros((num_envs, num_devices, records, 3)),
            point_tasks=np.zeros((num_envs, num_points), dtype=np.int64),
            latency_ms=np.zeros(num_envs),
            energy_j=np.zeros(num_envs),
        )


@compiled
def play_slots(queues, flight, partition, channel, server, power_w, gain, physics, slot_ms, out):
    """Run one time slot in every world, or less where all tasks are done before it ends.

    A task keeps the decision that it began with; all tasks that an MD begins in this slot take
    this slot's decision. Gains are those of the slot, also for tasks in flight.

    Args:
        queues: Tasks not yet done, ``(B, N)`` int.
        flight: A :class:`Flight`, changed in place.
        partition: The slot's partition points, ``(B, N)`` int.
        channel: Its channels, likewise.
        server: Its MEC servers, likewise.
        power_w: Its transmit powers, ``(B, N)``, W.
        gain: Channel gains, ``(B, N)``.
        physics: A :class:`~rllib_mec.network.physics.Physics`.
        slot_ms: τ.
        out: A :class:`SlotOutcome` of zeros.
    """
    num_envs, num_devices, records, _ = out.stage_ends.shape
    last = records - 1
    last_point = out.point_tasks.shape[1] - 1
    scratch = make_scratch(num_devices, len(physics.radio.noise_w), len(physics.servers.speed))
    coming = all_there()
    shape = (num_devices, records)
    own = Decisions(
        np.empty(shape, dtype=np.int64),
        np.empty(shape, dtype=np.int64),
        np.empty(shape, dtype=np.int64),
        np.empty(shape),
    )
    on_air_s = np.empty(shape)
    was_flying = np.empty(num_devices, dtype=np.bool_)
    task = np.empty(num_devices, dtype=np.int64)
    for b in range(num_envs):
        stage = flight.stage[b]
        work = flight.work[b]
        cut_at = flight.cut_at[b]
        energy = 0.0
        on_air_s[:] = 0.0
        for n in range(num_devices):
            own.partition[n, :] = partition[b, n]
            own.channel[n, :] = channel[b, n]
            own.server[n, :] = server[b, n]
            own.power_w[n, :] = power_w[b, n]
            task[n] = 0
            was_flying[n] = stage[n] != IDLE
            if was_flying[n]:
                s = flight.partition[b, n]
                own.partition[n, 0] = s
                own.channel[n, 0] = flight.channel[b, n]
                own.server[n, 0] = flight.server[b, n]
                own.power_w[n, 0] = flight.power_w[b, n]
                # Earlier slots have paid for this part of the MD's computing.
                done = cpu_share_done(n, stage[n], work[n], -cut_at[n], physics.stage_work, s)
                energy -= physics.local_energy_j[n, s] * done
        elapsed = advance(
            0.0, slot_ms, Devices(stage, task, work, cut_at), queues[b], coming, own, gain[b],
            physics, Records(out.stage_ends[b], on_air_s), scratch,
        )  # fmt: skip
        for n in range(num_devices):
            out.num_tasks[b, n] = task[n]
            for x in range(task[n]):
                s = own.partition[n, min(x, last)]
                energy += physics.local_energy_j[n, s]
                out.point_tasks[b, last_point if s >= physics.full_local[n] else s] += 1
            for x in range(records):
                energy += own.power_w[n, x] * on_air_s[n, x]
            begun = task[n]
            cut_at[n] -= elapsed
            if stage[n] != IDLE:
                begun += 1
                x = min(task[n], last)
                s = own.partition[n, x]
                done = cpu_share_done(n, stage[n], work[n], -cut_at[n], physics.stage_work, s)
                energy += physics.local_energy_j[n, s] * done
                flight.partition[b, n] = s
                flight.channel[b, n] = own.channel[n, x]
                flight.server[b, n] = own.server[n, x]
                flight.power_w[b, n] = own.power_w[n, x]
                for k in range(min(stage[n], SERVER) - 1, 3):  # in flight: recorded up to here
                    out.stage_ends[b, n, x, k] = elapsed
            out.begun[b, n] = begun > (1 if was_flying[n] else 0)
        out.latency_ms[b] = elapsed
        out.energy_j[b] = max(energy, 0.0)


@compiled
def work_left(flight, physics, left):
    """Write how much of its task every MD has still to do.

    First the work on the MDs' CPUs, over the whole DNN's local latency; then the bits, over the
    input's; then the server's part, over its latency for the whole DNN.

    Args:
        flight: The tasks in flight, a :class:`Flight`.
        physics: A :class:`~rllib_mec.network.physics.Physics`.
        left: Filled, ``(B, 3N)`` float32.
    """
    stage_work, row = physics.stage_work, physics.servers.row
    num_envs, num_devices = flight.stage.shape
    whole = np.empty(stage_work.shape[:2])
    for n in range(num_devices):
        for k in range(1, stage_work.shape[1]):
            whole[n, k] = stage_work[n, k].max()
        whole[n, 0] = (stage_work[n, LOCAL - 1] + stage_work[n, JOIN - 1]).max()
    for b in range(num_envs):
        for n in range(num_devices):
            cpu_ms = _cpu_ms_left(
                n, flight.stage[b, n], flight.work[b, n], -flight.cut_at[b, n], stage_work,
                flight.partition[b, n],
            )  # fmt: skip
            # An MD whose memory holds no cut but the input never computes.
            left[b, n] = cpu_ms / whole[n, 0] if whole[n, 0] > 0.0 else 0.0
            for k in range(1, 3):
                r = row[flight.server[b, n]] if k == SERVER - 1 else k
                rest = 0.0
                if flight.stage[b, n] == k + 1:
                    rest = flight.work[b, n]
                elif IDLE < flight.stage[b, n] <= k:
                    rest = stage_work[n, r, flight.partition[b, n]]
                left[b, k * num_devices + n] = rest / whole[n, r] if whole[n, r] > 0.0 else 0.0
