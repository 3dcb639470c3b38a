"""Generalised advantage estimation with one value per task slot, or per window (Eq. 18)."""

from __future__ import annotations

import numpy as np


def per_task_gae(
    rewards: np.ndarray,
    values: np.ndarray,
    terminated: np.ndarray,
    gamma: float,
    lambda_: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and value targets of every task slot, each slot a reward stream of its own.

    Args:
        rewards: Each slot's share of the windows' rewards, ``(T, B, W_max)``.
        values: Critic's values, the last row those of the state after the last window,
            ``(T + 1, B, W_max)``.
        terminated: Whether an episode ended with the window, and nothing was to come, ``(T, B)``.
        gamma: Discount γ.
        lambda_: GAE's λ.

    Returns:
        Advantages and value targets, both ``(T, B, W_max)``, float32.
    """
    advantages = np.empty(rewards.shape, dtype=np.float32)
    going_on = 1.0 - terminated[..., None]
    deltas = rewards + gamma * going_on * values[1:] - values[:-1]
    running = np.zeros(rewards.shape[1:])
    for t in reversed(range(len(rewards))):
        running = deltas[t] + gamma * lambda_ * going_on[t] * running
        advantages[t] = running
    return advantages, (advantages + values[:-1]).astype(np.float32)
