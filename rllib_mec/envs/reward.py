"""The reward: Eq. (8) of a task window, and each task slot's exact share of it; MAHPPO's of a slot.

Where tasks arrive, Eq. (8) and what their delays cost.

Nothing else computes a reward. Environments, planner and evaluation ask the MDP, whose
``task_rewards`` is one of these unless a subclass has a law of its own.
"""

from __future__ import annotations

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.slots import SlotOutcome
from rllib_mec.network.tasks import FlowOutcome
from rllib_mec.network.windows import WindowOutcome


def window_rewards(outcome: WindowOutcome, scenario: Scenario) -> np.ndarray:
    """Shares of the task slots in r_k of Eq. (8), which sum to it.

    Slot x's share has the duration of the critical MD's x-th task (critical: it finishes last), the
    energy of all MDs' x-th tasks, and an equal share of the waiting penalty, over W_k, the mean
    number of tasks of all N MDs.

    Args:
        outcome: What happened in B task windows.
        scenario: Gives α and β of Eq. (5).

    Returns:
        ``(B, W_max)``; 0 where there were no tasks.
    """
    shares = np.zeros(outcome.task_energy_j.shape[::2])
    _window_shares(outcome, scenario.waiting_weight, scenario.energy_weight, shares)
    return shares


@compiled
def _window_shares(outcome, waiting_weight, energy_weight, shares):
    num_envs, num_devices, max_window = outcome.task_energy_j.shape
    for b in range(num_envs):
        tasks = outcome.num_tasks[b].sum()
        if tasks == 0:
            continue
        mean_window = tasks / num_devices  # W_k, over all N
        waiting_share = waiting_weight * outcome.waiting_ms[b] / max_window
        critical = outcome.critical[b]
        started = 0.0
        for x in range(max_window):
            duration = 0.0
            if x < outcome.num_tasks[b, critical]:
                duration = outcome.stage_ends[b, critical, x, 2] - started
                started = outcome.stage_ends[b, critical, x, 2]
            energy = 0.0
            for n in range(num_devices):
                energy += outcome.task_energy_j[b, n, x]
            cost = duration + waiting_share + energy_weight / num_devices * energy
            shares[b, x] = -cost / mean_window


def flow_rewards(
    outcome: FlowOutcome, scenario: Scenario, delay_weight: float, deadline_weight: float
) -> np.ndarray:
    """Shares of the task slots where tasks arrive: Eq. (8), and what delays and late tasks cost.

    Latency and waiting are those of the MDs that were ready, W_k is of the tasks begun in the step.
    To that comes, with ``delay_weight``, the mean time in ms that tasks waited from when they came
    to when they began, over those begun in the step that came after the episode's start; and, with
    ``deadline_weight``, the share of the tasks finished in it that were late. Each task's part is
    its own slot's. Where all tasks are there at the start, this is :func:`window_rewards`.

    Args:
        outcome: What happened in B steps.
        scenario: Gives α and β of Eq. (5).
        delay_weight: Per ms.
        deadline_weight: Of the share.

    Returns:
        ``(B, W_max)``; 0 where there were no tasks.
    """
    shares = np.zeros(outcome.task_energy_j.shape[::2])
    _window_shares(outcome, scenario.waiting_weight, scenario.energy_weight, shares)
    mean_delay_ms = outcome.delay_ms / np.maximum(outcome.num_delayed, 1)[:, None]
    late_share = outcome.late / np.maximum(outcome.num_done.sum(1), 1)[:, None]
    return shares - delay_weight * mean_delay_ms - deadline_weight * late_share


def slot_rewards(
    outcome: SlotOutcome, scenario: Scenario, slot_ms: float, min_mean_tasks: float
) -> np.ndarray:
    """MAHPPO's reward of a time slot: −(τ + β/N · energy) / (mean number of finished tasks).

    Args:
        outcome: What happened in B time slots.
        scenario: Gives β.
        slot_ms: τ; the last slot of an episode counts in full.
        min_mean_tasks: The mean number of finished tasks is taken to be no less than this.

    Returns:
        ``(B, 1)``.
    """
    num_devices = scenario.num_devices
    mean_tasks = np.maximum(outcome.num_tasks.sum(1) / num_devices, min_mean_tasks)
    cost = slot_ms + scenario.energy_weight / num_devices * outcome.energy_j
    return (-cost / mean_tasks)[:, None]


@compiled
def total_rewards(shares):
    """Each world's reward, ``(B,)``: its shares, added in the order of the slots.

    Args:
        shares: Of the task slots, ``(B, W_max)``.
    """
    total = np.zeros(len(shares))
    for b in range(len(shares)):
        for x in range(shares.shape[1]):
            total[b] += shares[b, x]
    return total
