"""A slow engine in plain Python, written from the physics alone, and a common test bench.

Each MD works through its tasks one by one: CPU, transmission, server. At every instant it sends at
the rate of Eq. (1), with those as interferers that send on its channel at that instant, and a
server shares its speed equally among the tasks it has, which is Eq. (2) where all MDs are there.

Both engines run a :class:`World` and return the same records, so that one can check the other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from rllib_mec.network import engine
from rllib_mec.network.engine import Coming, Decisions, Devices, advance, make_scratch
from rllib_mec.network.few import advance_few, few_scratch
from rllib_mec.network.many import advance_many, many_scratch
from rllib_mec.network.physics import Physics, Radio, Servers

KERNELS = {"few": (few_scratch, advance_few), "many": (many_scratch, advance_many)}


@dataclasses.dataclass
class World:
    """One window: decisions ``(N, W)``, gains ``(N,)``, and work of each stage ``(3, S)``.

    ``beside_ms`` ``(S,)`` is what the MD's CPU does beside a task's last two stages. Where MDs are
    unlike, ``slowness`` ``(N,)`` says how many times the work of each stage is an MD's own;
    channels and servers may have bandwidths ``(C,)``, speeds and delays ``(M,)`` of their own.
    ``server_work`` ``(M, S)`` is the work on each server, where it is not the third of
    ``stage_work`` on all. ``release_ms`` ``(N, W)`` says when each task may begin, if not at once.
    """

    num_tasks: np.ndarray
    partition: np.ndarray
    channel: np.ndarray
    server: np.ndarray
    power_w: np.ndarray
    gain: np.ndarray
    stage_work: np.ndarray  # ms of CPU, bits, ms of server
    bandwidth_hz: np.ndarray | float = 1e6
    noise_w: float = 1.0
    min_efficiency: float = 0.0
    num_channels: int = 2
    num_servers: int = 2
    ms_per_s: float = 1000.0
    beside_ms: np.ndarray | float = 0.0
    slowness: np.ndarray | float = 1.0
    server_speed: np.ndarray | float = 1.0
    server_delay_ms: np.ndarray | float = 0.0
    server_work: np.ndarray | None = None
    release_ms: np.ndarray | None = None

    def bandwidth_of(self, c: int) -> float:
        return float(np.broadcast_to(self.bandwidth_hz, self.num_channels)[c])

    def speed_of(self, m: int) -> float:
        return float(np.broadcast_to(self.server_speed, self.num_servers)[m])

    def delay_of(self, m: int) -> float:
        return float(np.broadcast_to(self.server_delay_ms, self.num_servers)[m])

    def slowness_of(self, n: int) -> float:
        return float(np.broadcast_to(self.slowness, len(self.num_tasks))[n])

    def permuted(self, order: Sequence[int]) -> World:
        """The same window with its MDs in another order."""
        names = ("num_tasks", "partition", "channel", "server", "power_w", "gain")
        names += () if self.release_ms is None else ("release_ms",)
        return dataclasses.replace(self, **{name: getattr(self, name)[order] for name in names})


@dataclasses.dataclass
class Records:
    end_ms: float
    stage_ends: np.ndarray
    transmission_s: np.ndarray


def run_engine(
    world: World,
    horizons: Sequence[float] = (math.inf,),
    awaited: np.ndarray | None = None,
    stop_after: int = 0,
    kernel: str = "",
) -> Records:
    """The package's engine, stopped at each of ``horizons`` and carried on.

    ``kernel`` is the one for ``few`` MDs or for ``many``, if not the one for so many as there are.
    """
    num_devices, slots = world.partition.shape
    devices = Devices(
        stage=np.zeros(num_devices, dtype=np.int64),
        task=np.zeros(num_devices, dtype=np.int64),
        work=np.zeros(num_devices),
        cut_at=np.zeros(num_devices),
    )
    num_points = world.stage_work.shape[1]
    beside_ms = np.broadcast_to(world.beside_ms, num_points)
    own_work = [] if world.server_work is None else list(world.server_work)
    physics = Physics(
        stage_work=np.vstack([world.stage_work, beside_ms, *own_work])
        * np.broadcast_to(world.slowness, num_devices)[:, None, None],
        local_energy_j=np.zeros((num_devices, num_points)),
        full_local=np.full(num_devices, num_points - 1),
        radio=Radio(
            np.array([world.bandwidth_of(c) for c in range(world.num_channels)]),
            np.full(world.num_channels, float(world.noise_w)),
            float(world.min_efficiency),
            float(world.ms_per_s),
        ),
        servers=Servers(
            np.array([world.speed_of(m) for m in range(world.num_servers)]),
            np.array([world.delay_of(m) for m in range(world.num_servers)]),
            np.array([4 + m if own_work else 2 for m in range(world.num_servers)]),
        ),
    )
    # Copies, as a view that is read only is a type of its own, and each costs a compilation.
    decisions = Decisions(
        *map(np.array, (world.partition, world.channel, world.server, world.power_w))
    )
    records = engine.Records(np.zeros((num_devices, slots, 3)), np.zeros((num_devices, slots)))
    make, go = KERNELS.get(kernel, (make_scratch, advance))
    scratch = make(num_devices, world.num_channels, world.num_servers)
    release = np.zeros((0, 0)) if world.release_ms is None else np.array(world.release_ms)
    waited_for = np.ones(num_devices, dtype=bool) if awaited is None else awaited
    coming = Coming(release, waited_for, stop_after)
    clock = 0.0
    for horizon in horizons:
        clock = go(
            clock, float(horizon), devices, world.num_tasks, coming, decisions, world.gain,
            physics, records, scratch,
        )  # fmt: skip
    return Records(clock, records.stage_ends, records.transmission_s)


class _Task:
    """A task under way: its stages one after the other, and the CPU's work beside the last two."""

    def __init__(self, world: World, n: int, x: int):
        point = world.partition[n, x]
        self.x = x
        own = world.slowness_of(n)
        self.stages = [[kind, own * float(world.stage_work[kind, point])] for kind in range(3)]
        if world.server_work is not None:
            self.stages[2][1] = own * float(world.server_work[world.server[n, x], point])
        num_points = world.stage_work.shape[1]
        self.beside = own * float(np.broadcast_to(world.beside_ms, num_points)[point])
        is_sent = point < num_points - 1
        self.delay = world.delay_of(world.server[n, x]) if is_sent else 0.0
        self.release = 0.0 if world.release_ms is None else float(world.release_ms[n, x])

    def goes_on_at(self, clock: float) -> bool:
        return self.is_here(clock) and (self.is_done or self.is_at_a_stages_end)

    def is_here(self, clock: float) -> bool:
        return self.release <= clock * (1 + 1e-12)

    @property
    def is_cut(self) -> bool:
        return not self.stages or self.stages[0][0] > 0

    @property
    def is_done(self) -> bool:
        return not self.stages and self.beside <= 0.0 and self.delay <= 0.0

    @property
    def is_at_a_stages_end(self) -> bool:
        return bool(self.stages) and self.stages[0][1] <= 0.0


def run_reference(world: World) -> Records:
    """The same, with every speed worked out afresh in every interval."""
    num_devices, slots = world.partition.shape
    queues = [[_Task(world, n, x) for x in range(world.num_tasks[n])] for n in range(num_devices)]
    stage_ends = np.zeros((num_devices, slots, 3))
    transmission_s = np.zeros((num_devices, slots))
    clock = 0.0
    while True:
        for n, tasks in enumerate(queues):
            while (
                tasks
                and tasks[0].is_here(clock)
                and (tasks[0].is_done or tasks[0].is_at_a_stages_end)
            ):
                task = tasks[0]
                if task.stages:
                    kind, _ = task.stages.pop(0)
                    stage_ends[n, task.x, kind] = clock
                if task.is_done:
                    stage_ends[n, task.x, 2] = clock
                    tasks.pop(0)
        if not any(queues):
            return Records(clock, stage_ends, transmission_s)
        current = {
            n: tasks[0] for n, tasks in enumerate(queues) if tasks and tasks[0].is_here(clock)
        }
        now = {n: (task.x, *task.stages[0]) for n, task in current.items() if task.stages}
        speeds = {n: _speed(world, now, n) for n in now}
        ends = [work / speeds[n] for n, (_, _, work) in now.items()]
        ends += [task.beside for task in current.values() if task.is_cut and task.beside > 0.0]
        ends += [task.delay for task in current.values() if not task.stages and task.delay > 0.0]
        ends += [q[0].release - clock for q in queues if q and not q[0].is_here(clock)]
        step = min(ends)
        clock += step
        for task in current.values():
            if task.is_cut:
                task.beside = _less(task.beside, step)
            if not task.stages:
                task.delay = _less(task.delay, step)
        for n, (x, kind, work) in now.items():
            current[n].stages[0][1] = _less(work, step * speeds[n])
            if kind == 1:
                transmission_s[n, x] += step / world.ms_per_s


def _less(work: float, done: float) -> float:
    """What is left of some work, without the crumbs of rounding."""
    return work - done if work - done >= 1e-9 * work else 0.0


def _speed(world: World, now: dict[int, tuple], n: int) -> float:
    """Work per ms of MD n, given what all others do now."""
    x, kind, _ = now[n]
    if kind == 0:
        return 1.0
    others = [(m, now[m][0]) for m in now if m != n and now[m][1] == kind]
    if kind == 2:
        sharing = 1 + sum(world.server[m, y] == world.server[n, x] for m, y in others)
        return world.speed_of(world.server[n, x]) / sharing
    interference = sum(
        world.power_w[m, y] * world.gain[m]
        for m, y in others
        if world.channel[m, y] == world.channel[n, x]
    )
    sinr = world.power_w[n, x] * world.gain[n] / (world.noise_w + interference)
    efficiency = max(math.log1p(sinr) / math.log(2.0), world.min_efficiency)
    return world.bandwidth_of(world.channel[n, x]) * efficiency / world.ms_per_s
