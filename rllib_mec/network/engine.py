"""The event-driven engine: every MD's tasks through its CPU, a channel and a server (Eq. 1, 2).

Between two events (some stage of some MD ends) all speeds are constant: an MD that transmits does
so at the rate of Eq. (1) among those that transmit at that instant on the same channel; a server
with k tasks gives each 1/k of its speed.

There are two kernels, which agree to 1e-9: with few MDs, passes over all of them are the fastest,
and the paper's numbers depend on their last bit; with many, an event costs only what it touches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rllib_mec.compiled import compiled, inlined
from rllib_mec.network.few import FewScratch, advance_few, few_scratch
from rllib_mec.network.many import ManyScratch, advance_many, many_scratch

MANY = 16
"""From so many MDs on, the kernel for many is the faster one."""


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
    """Working memory of :func:`advance`, made once for many calls; empty for the other kernel.

    Attributes:
        few: Of the kernel for few MDs.
        many: Of the kernel for many MDs.
    """

    few: FewScratch
    many: ManyScratch


@compiled
def make_scratch(num_devices, num_channels, num_servers):
    """Working memory of :func:`advance`, not initialised.

    Args:
        num_devices: N.
        num_channels: C.
        num_servers: M.
    """
    if num_devices < MANY:
        return Scratch(few_scratch(num_devices, num_channels, num_servers), many_scratch(0, 0, 0))
    return Scratch(few_scratch(0, 0, 0), many_scratch(num_devices, num_channels, num_servers))


@inlined
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
    if len(num_tasks) < MANY:
        now = advance_few(
            clock, horizon, devices, num_tasks, coming, decisions, gain, physics, records,
            scratch.few,
        )  # fmt: skip
    else:
        now = advance_many(
            clock, horizon, devices, num_tasks, coming, decisions, gain, physics, records,
            scratch.many,
        )  # fmt: skip
    return now
