"""What is measured of an episode in which tasks arrive, besides the paper's metrics."""

from __future__ import annotations

import numpy as np

from rllib_mec.network.tasks import Tasks

PERCENTILES = (50, 95, 99)


def measures_of(deadlines_ms: np.ndarray) -> tuple[str, ...]:
    """Names of what :func:`measure` gives.

    Args:
        deadlines_ms: Of every MD's tasks, ``(N,)``; ``inf`` where there is none.
    """
    names = ["sojourn_ms", *(f"sojourn_p{p}_ms" for p in PERCENTILES)]
    names += ["deadline_hit_rate"] if np.isfinite(deadlines_ms).any() else []
    return (*names, "throughput_hz", "backlog", "fairness")


def measure(
    tasks: Tasks, deadlines_ms: np.ndarray, clock_ms: np.ndarray, waiting: np.ndarray
) -> dict[str, np.ndarray]:
    """Measure episodes that have ended.

    Args:
        tasks: Theirs, of E worlds.
        deadlines_ms: ``(N,)``.
        clock_ms: When they ended, ``(E,)``.
        waiting: Tasks at hand then, ``(E, N)``.

    Returns:
        By name, ``(E,)`` each: of the tasks done, the mean and percentiles of their sojourn times,
        from when they came; the share of the tasks with a deadline that met it, without those that
        may still; tasks done a second; tasks at hand at the end; Jain's index of fairness over the
        MDs' mean sojourn times, 1 where all are equal. NaN where there is nothing to measure.
    """
    found = {name: np.full(len(clock_ms), np.nan) for name in measures_of(deadlines_ms)}
    for e in range(len(clock_ms)):
        done = np.isfinite(tasks.end_ms[e])
        sojourn_ms = np.where(done, tasks.end_ms[e], 0.0) - np.where(done, tasks.arrival_ms[e], 0.0)
        every = sojourn_ms[done]
        found["throughput_hz"][e] = 1e3 * len(every) / clock_ms[e]
        found["backlog"][e] = waiting[e].sum()
        if "deadline_hit_rate" in found:
            late = done & (sojourn_ms > deadlines_ms[:, None])
            due_ms = tasks.arrival_ms[e] + deadlines_ms[:, None]
            missed = late | (~done & (due_ms < clock_ms[e]))
            known = (done & np.isfinite(due_ms)) | missed
            if known.any():
                found["deadline_hit_rate"][e] = 1.0 - missed.sum() / known.sum()
        if not len(every):
            continue
        found["sojourn_ms"][e] = every.mean()
        for p, value in zip(PERCENTILES, np.percentile(every, PERCENTILES), strict=True):
            found[f"sojourn_p{p}_ms"][e] = value
        own = done.any(1)
        means = sojourn_ms[own].sum(1) / done[own].sum(1)
        found["fairness"][e] = means.sum() ** 2 / (len(means) * (means**2).sum())
    return found
