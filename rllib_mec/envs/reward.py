"""The cost of a task window: Eq. (5) and (8), and each task slot's exact share of it."""

from __future__ import annotations

from rllib_mec.compiled import compiled


@compiled
def window_cost(
    num_tasks,
    stage_ends,
    energy_j,
    waiting_weight,
    energy_weight,
    task_rewards,
):
    """Reward, latency, waiting time and energy of a finished window.

    Slot x's share of the reward has the duration of the critical MD's x-th task (critical: it
    finishes last), the energy of all MDs' x-th tasks, and an equal share of the waiting penalty.

    Args:
        num_tasks: W_{n,k}, ``(N,)`` int.
        stage_ends: When each task's stages ended, ``(N, W_max, 3)``, ms.
        energy_j: Energy of each task, ``(N, W_max)``, J; 0 where none was run.
        waiting_weight: α.
        energy_weight: β.
        task_rewards: Output, each slot's share of the reward, ``(W_max,)``.

    Returns:
        The reward (the sum of the shares, exactly), the latency max_n L_{n,k} in ms, the mean
        waiting time in ms of the MDs that had a task, and the energy of all MDs in J.
    """
    num_devices, max_window = energy_j.shape
    latency = 0.0
    critical = 0
    tasks = 0
    participants = 0
    for n in range(num_devices):
        if num_tasks[n] == 0:
            continue
        finished = stage_ends[n, num_tasks[n] - 1, 2]
        if finished > latency:
            latency = finished
            critical = n
        tasks += num_tasks[n]
        participants += 1
    if tasks == 0:
        task_rewards[:] = 0.0
        return 0.0, 0.0, 0.0, 0.0
    waiting = 0.0  # summed as differences: exactly 0 where all finish together
    for n in range(num_devices):
        if num_tasks[n] > 0:
            waiting += (latency - stage_ends[n, num_tasks[n] - 1, 2]) / participants
    mean_window = tasks / num_devices  # W_k, over all N
    waiting_share = waiting_weight * waiting / max_window
    reward = 0.0
    energy = 0.0
    started = 0.0
    for x in range(max_window):
        duration = 0.0
        if x < num_tasks[critical]:
            duration = stage_ends[critical, x, 2] - started
            started = stage_ends[critical, x, 2]
        slot_energy = 0.0
        for n in range(num_devices):
            slot_energy += energy_j[n, x]
        share = duration + waiting_share + energy_weight / num_devices * slot_energy
        task_rewards[x] = -share / mean_window
        reward += task_rewards[x]
        energy += slot_energy
    return reward, latency, waiting, energy
