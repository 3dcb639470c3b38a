"""The laws by which tasks arrive: a Poisson process, bursts, a trace; and the load they make."""

from __future__ import annotations

import numpy as np

from rllib_mec.envs.draws import Draw
from rllib_mec.network import traces
from rllib_mec.network.arrivals import random_arrivals, read_trace, trace_arrivals
from rllib_mec.network.consistency import UsedBy
from rllib_mec.network.scenario import Scenario

NONE, POISSON, BURSTS = "none", "poisson", "bursts"

LAWS = (POISSON, BURSTS, NONE)
"""Names of laws; anything else is the path of a trace."""

USED_BY: UsedBy = dict.fromkeys(
    ("burst_factor", "burst_share", "burst_mean_ms"), ("arrivals", (BURSTS,))
)
"""Field -> the field that chooses, and the choices that read it; with others it is refused."""


def check_arrivals(arrivals: object, num_devices: int) -> None:
    """Check the name of a law, or that a trace can be read from any folder.

    Args:
        arrivals: What was given.
        num_devices: N.

    Raises:
        MecError: It is neither.
    """
    if traces.check_choice("arrivals", arrivals, LAWS):
        read_trace(str(arrivals), num_devices)


def draw_arrivals(
    draw: Draw,
    scenario: Scenario,
    arrivals: str,
    horizon_ms: float,
    burst_factor: float,
    burst_share: float,
    burst_mean_ms: float,
) -> np.ndarray:
    """When the tasks of every MD come.

    Args:
        draw: Of the episode's first step.
        scenario: Gives the rates.
        arrivals: One of :data:`LAWS`, or the path of a trace; of one longer than the horizon, a
            stretch that begins anywhere in it.
        horizon_ms: Nothing comes after it.
        burst_factor: See :func:`~rllib_mec.network.arrivals.random_arrivals`.
        burst_share: Likewise.
        burst_mean_ms: Likewise.

    Returns:
        ``(B, N, K)``, ms since the episode's start; ``inf`` where there is no more.
    """
    if arrivals == NONE:
        return np.empty((len(draw.keys), draw.num_devices, 0))
    if arrivals in LAWS:
        bursts = {"burst_factor": burst_factor, "burst_share": burst_share}
        return random_arrivals(
            draw.keys,
            scenario.of_devices("arrival_rate_hz"),
            horizon_ms,
            burst_mean_ms=burst_mean_ms,
            **(bursts if arrivals == BURSTS else {}),
        )
    start = draw.uniform("where in the trace")[:, 0]
    return trace_arrivals(read_trace(arrivals, draw.num_devices), start, horizon_ms)


def rates_hz(scenario: Scenario, arrivals: str) -> np.ndarray:
    """Mean tasks a second of every MD, ``(N,)``.

    Args:
        scenario: Gives the rates, but those of a trace.
        arrivals: As in :func:`draw_arrivals`.
    """
    if arrivals == NONE:
        return np.zeros(scenario.num_devices)
    if arrivals in LAWS:
        return scenario.of_devices("arrival_rate_hz")
    times_ms = read_trace(arrivals, scenario.num_devices)
    last_ms = max(own[-1] for own in times_ms if len(own))
    return np.array([1e3 * len(own) / max(last_ms, 1.0) for own in times_ms])


def least_load(scenario: Scenario, arrivals: str) -> float:
    """ρ: what comes over the most that MDs and servers together could do, whatever is decided.

    Only CPUs and servers count, as if the radio took no time: no policy can serve a load above 1.

    Args:
        scenario: The network.
        arrivals: As in :func:`draw_arrivals`.
    """
    physics = scenario.physics
    cpu_ms = physics.stage_work[:, 0] + physics.stage_work[:, 3]
    speed, _, row = physics.servers
    kinds, of_kind = np.unique(row, return_inverse=True)
    server_ms = physics.stage_work[:, kinds]
    local_ms, remote_ms = scenario.local_ms, np.maximum(server_ms.max(axis=2), 1e-12)
    # Of both the task's whole: no cut takes less than this share of them together.
    shares = cpu_ms / local_ms[:, None]
    shares = shares + (server_ms / remote_ms[..., None]).min(axis=1)
    served_per_ms = np.bincount(of_kind, speed) / remote_ms.min(axis=0)
    per_ms = (1.0 / local_ms).sum() + served_per_ms.sum()
    return float(rates_hz(scenario, arrivals).sum() / 1e3 / (per_ms / shares.min()))
