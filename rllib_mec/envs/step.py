"""What one step of a batch of worlds gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class VectorStep(NamedTuple):
    """What one step of B worlds gave.

    Attributes:
        observation: The next step's, ``(B, 2N)`` float32 (or more, see the MDP); of a new episode
            where one ended.
        reward: r_k of Eq. (8), ``(B,)``; where tasks arrive, with what their delays cost.
        task_rewards: Its shares per task slot, which sum to it, ``(B, W_max)``.
        terminated: Whether the episode ended since all is done, ``(B,)`` bool.
        truncated: Whether it was cut by its horizon, and would have gone on, ``(B,)`` bool.
        latency_ms: The window's latency, ``(B,)``.
        energy_j: Energy of all MDs, ``(B,)``.
        waiting_ms: Mean waiting time of the MDs that had a task, ``(B,)``.
        window_size: Tasks done, W_{n,k}, ``(B, N)`` int.
        played: Which task slots were played, ``(B, N, W_max)`` bool.
        point_tasks: Tasks done at each partition point, ``(B, S)`` int; the last is full local.
        stage_ends: When each task's stages (local, transmission, server) ended,
            ``(B, N, W_max, 3)``, ms since the step's start; 0 where a slot was not played.
        elapsed_ms: How long the step took, ``(B,)``: its latency, and what passed until the next.
        starts: When each task began, as ``stage_ends``, ``(B, N, W_max)``; ``None`` where a task
            begins as the one before ends.
        measured: What the MDP measures of the episodes that the step ended, an entry each, by name.
    """

    observation: np.ndarray
    reward: np.ndarray
    task_rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    latency_ms: np.ndarray
    energy_j: np.ndarray
    waiting_ms: np.ndarray
    window_size: np.ndarray
    played: np.ndarray
    point_tasks: np.ndarray
    stage_ends: np.ndarray
    elapsed_ms: np.ndarray
    starts: np.ndarray | None = None
    measured: Mapping[str, np.ndarray] | None = None

    @property
    def ended(self) -> np.ndarray:
        """Whether the episode ended, either way, ``(B,)`` bool."""
        return self.terminated | self.truncated

    @property
    def local_share(self) -> np.ndarray:
        """Share of the step's tasks that ran fully on their MD, ``(B,)``."""
        return point_share(self.point_tasks)[:, -1]


def point_share(point_tasks: np.ndarray) -> np.ndarray:
    """Share of the tasks that was done at each partition point; 0 of no task.

    Args:
        point_tasks: Tasks done at each, ``(..., S)``.

    Returns:
        ``(..., S)``; the last is full local.
    """
    return point_tasks / np.maximum(point_tasks.sum(-1, keepdims=True), 1)
