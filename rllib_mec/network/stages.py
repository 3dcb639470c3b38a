"""How a task goes from stage to stage: the laws that both kernels of the engine share."""

from __future__ import annotations

import math

from rllib_mec.compiled import inlined

IDLE, LOCAL, TRANSMISSION, SERVER, JOIN = 0, 1, 2, 3, 4
"""Stages of a task on its way. While its features are sent and served, the MD's CPU may work on the
rest of them; ``JOIN`` is what is left of that, or the result's way back, when the server is done.
"""

SAME_INSTANT = 1.0 + 1e-12
"""Events this close are one: rounding must not make two of them."""


@inlined
def go_on(
    n, clock, stage, task, cut_at, num_tasks, release, partition, server, stage_work, full_local,
    server_delay_ms, server_row, stage_ends,
):  # fmt: skip
    """Bring MD n, which is at the end of a stage, to the next one of some length.

    Args:
        n: The MD.
        clock: Time now, ms.
        stage: Stages, changed; as are ``task`` and ``cut_at``, see ``Devices``.
        task: Tasks.
        cut_at: When tasks were past their local stage.
        num_tasks: Tasks of each MD, ``(N,)``.
        release: When tasks may begin, see ``Coming``.
        partition: Partition points, ``(N, W)``.
        server: MEC servers, ``(N, W)``.
        stage_work: See ``Physics``, as the next three.
        full_local: The first point at which nothing is sent.
        server_delay_ms: Delays of the servers.
        server_row: Where the work of each of them stands.
        stage_ends: Filled, see ``Records``.

    Returns:
        Work in that stage; of an MD that stays idle, the time until its next task comes: ``inf`` if
        it has no more.
    """
    last = partition.shape[1] - 1
    x = min(task[n], last)
    work = 0.0
    while work <= 0.0:
        if stage[n] == JOIN:
            stage[n] = IDLE
            task[n] += 1
            x = min(task[n], last)
        if stage[n] == IDLE and task[n] >= num_tasks[n]:
            work = math.inf
        elif stage[n] == IDLE and len(release) > 0 and release[n, x] > clock * SAME_INSTANT:
            work = release[n, x] - clock  # on its CPU, which does nothing else
        else:
            stage[n] += 1
            point = partition[n, x]
            row = server_row[server[n, x]] if stage[n] == SERVER else stage[n] - 1
            work = stage_work[n, row, point]
            if stage[n] == TRANSMISSION:
                cut_at[n] = clock
            elif stage[n] == JOIN:
                work -= clock - cut_at[n]
                if point < full_local[n]:
                    work = max(work, server_delay_ms[server[n, x]])
            if work <= 0.0:
                stage_ends[n, x, min(stage[n], SERVER) - 1] = clock
    return work


@inlined
def shared_speed(speed, load):
    """Work per ms of each of the tasks that a server has: processor sharing, Eq. (2).

    Args:
        speed: Of the server.
        load: How many it has.
    """
    return speed / load
