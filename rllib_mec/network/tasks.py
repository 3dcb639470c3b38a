"""Tasks that arrive over time: which there are, how far each MD has come, what a step did."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.stages import SAME_INSTANT

RECENT_MS = 1000.0
"""A task that came so long ago, or less, came recently."""


class Tasks(NamedTuple):
    """The tasks of one episode of B worlds, and how far each MD has come.

    Attributes:
        arrival_ms: When each task comes, in order, ``(B, N, K)``, ms since the episode's start;
            ``inf`` where there is no more.
        end_ms: When it was done, likewise; ``inf`` while it is not.
        begun: Tasks that each MD has begun, ``(B, N)`` int.
    """

    arrival_ms: np.ndarray
    end_ms: np.ndarray
    begun: np.ndarray

    def copy(self) -> Tasks:
        """A copy that shares no memory."""
        return Tasks(*(array.copy() for array in self))


class FlowOutcome(NamedTuple):
    """What happened in one step of B worlds.

    Arrays of tasks have a column more than a window has tasks: the last one is of the task that was
    in flight when the step began.

    Attributes:
        num_tasks: Tasks begun, ``(B, N)`` int.
        num_done: Tasks finished, ``(B, N)`` int.
        stage_ends: When each task's stages ended, ``(B, N, W_max + 1, 3)``, ms since the step's
            start; of a task that goes on after it, its end.
        starts: When each task began, or the step if later, ``(B, N, W_max + 1)``.
        task_energy_j: Energy of the tasks of each slot in this step, ``(B, N, W_max)``; of those
            in flight at its start in the first.
        delay_ms: How long the tasks of each slot waited from when they came to when they began,
            summed over those begun that came after the episode's start, ``(B, W_max)``.
        num_delayed: How many those are, ``(B,)`` int.
        late: Tasks of each slot that were finished after their deadline, ``(B, W_max)`` int; of
            those in flight at the step's start in the first.
        point_tasks: Tasks finished at each partition point, ``(B, S)`` int.
        critical: Of the MDs that were ready, the one that finished last, ``(B,)`` int.
        latency_ms: When it did, ``(B,)``.
        waiting_ms: Mean time that those MDs waited for it, ``(B,)``.
        energy_j: Energy of all MDs, ``(B,)``.
        elapsed_ms: When the step ended, ``(B,)``.
        is_cut: Whether it ended as late as it may, ``(B,)`` bool.
        is_over: Whether nothing is left to do and nothing to come, ``(B,)`` bool.
    """

    num_tasks: np.ndarray
    num_done: np.ndarray
    stage_ends: np.ndarray
    starts: np.ndarray
    task_energy_j: np.ndarray
    delay_ms: np.ndarray
    num_delayed: np.ndarray
    late: np.ndarray
    point_tasks: np.ndarray
    critical: np.ndarray
    latency_ms: np.ndarray
    waiting_ms: np.ndarray
    energy_j: np.ndarray
    elapsed_ms: np.ndarray
    is_cut: np.ndarray
    is_over: np.ndarray

    @classmethod
    def of(cls, num_envs: int, num_devices: int, max_window: int, num_points: int) -> FlowOutcome:
        """An outcome to be filled by :func:`~rllib_mec.network.flow.play_flow`.

        Args:
            num_envs: B.
            num_devices: N.
            max_window: W_max.
            num_points: S.
        """
        whole = {"num_tasks": (num_envs, num_devices), "num_done": (num_envs, num_devices)}
        whole |= {"num_delayed": (num_envs,), "late": (num_envs, max_window)}
        whole |= {"point_tasks": (num_envs, num_points), "critical": (num_envs,)}
        real = {
            "stage_ends": (num_envs, num_devices, max_window + 1, 3),
            "starts": (num_envs, num_devices, max_window + 1),
            "task_energy_j": (num_envs, num_devices, max_window),
            "delay_ms": (num_envs, max_window),
        }
        real |= dict.fromkeys(("latency_ms", "waiting_ms", "energy_j", "elapsed_ms"), (num_envs,))
        return cls(
            **{name: np.zeros(shape, dtype=np.int64) for name, shape in whole.items()},
            **{name: np.zeros(shape) for name, shape in real.items()},
            is_cut=np.zeros(num_envs, dtype=np.bool_),
            is_over=np.zeros(num_envs, dtype=np.bool_),
        )


@compiled
def has_come(arrival_ms, now_ms):
    """Whether a task is there at a time.

    Args:
        arrival_ms: When it comes.
        now_ms: The time.
    """
    return arrival_ms <= now_ms * SAME_INSTANT


@compiled
def count_waiting(tasks, now_ms, waiting, oldest_ms, recent):
    """Count the tasks that have come and not begun, and how long the oldest has waited.

    Args:
        tasks: A :class:`Tasks`.
        now_ms: The time in each world, ``(B,)``.
        waiting: Filled, ``(B, N)`` int.
        oldest_ms: Filled, ``(B, N)``; 0 where none waits.
        recent: Filled, ``(B, N)``: how many came in the last second, begun or not.
    """
    arrival_ms, _, begun = tasks
    num_envs, num_devices, most = arrival_ms.shape
    for b in range(num_envs):
        for n in range(num_devices):
            first = begun[b, n]
            i = first
            while i < most and has_come(arrival_ms[b, n, i], now_ms[b]):
                i += 1
            waiting[b, n] = i - first
            oldest_ms[b, n] = max(now_ms[b] - arrival_ms[b, n, first], 0.0) if i > first else 0.0
            last = i
            while i > 0 and arrival_ms[b, n, i - 1] > max(now_ms[b] - RECENT_MS, 0.0):
                i -= 1
            recent[b, n] = last - i
