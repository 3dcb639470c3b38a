"""What no radio policy can beat: least air time and energy of a bit, most bits of a channel.

All are limits on expectations over the shadowing, which nobody knows when they decide.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rllib_mec.envs.actions import power_w
from rllib_mec.network.path_loss import states
from rllib_mec.network.radio import lone_rates_bps
from rllib_mec.network.scenario import Scenario

_POWER_STEP_DB = 0.25
_LEAST_STEP_DB = 0.01
_STEPS_PER_STD = 200
_TAIL_STD = 6
_QUANTILES = (0.5, 0.9, 0.99, 0.999)


def snr_db(power: Any, gain: Any, noise_w: float) -> Any:
    """Signal to noise without interference and shadowing, dB.

    Args:
        power: Transmit power, W.
        gain: Of the channel, without shadowing.
        noise_w: Of the channel.
    """
    return 10.0 * np.log10(power * gain / noise_w)


def power_range_w(scenario: Scenario) -> np.ndarray:
    """Least and largest transmit power of every MD, W, ``(N, 2)``.

    Args:
        scenario: Gives scale and limits.
    """
    return power_w(np.tile([0.0, 1.0], (scenario.num_devices, 1)), scenario)


def best_trades(
    range_w: tuple[float, float], distance_m: float, noise_w: float, scenario: Scenario
) -> tuple[np.ndarray, np.ndarray]:
    """Corner points of what a bit costs at least, air time against energy, alone on a channel.

    Powers are taken in intervals. Air time falls with the power and energy, P/log(1 + aP), rises
    with it, so an interval costs no less than the air time at its upper end and the energy at its
    lower one. Of these pairs the convex hull is left, since tasks may mix.

    Args:
        range_w: Least and largest transmit power of the MD.
        distance_m: Of the MD.
        noise_w: Of the channel.
        scenario: Gives path loss, shadowing and the rate's floor.

    Returns:
        Air time (s of a hertz) and energy (J of a hertz) of a bit, as many each.
    """
    least, most = range_w
    steps = max(1, math.ceil(10.0 * math.log10(most / least) / _POWER_STEP_DB))
    powers = np.geomspace(least, most, steps + 1)
    air: Any = 0.0
    for gain, share, std_db in zip(*states(distance_m, scenario), strict=True):
        air = air + share * least_air_time(snr_db(powers, gain, noise_w), scenario, std_db)
    air, energy = air[1:], powers[:-1] * air[:-1]
    # From the largest air time to the least, energy never falls.
    return _lower_hull(air[::-1], energy[::-1])


def _lower_hull(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the lower left of points with rising x and falling y."""
    kept: list[tuple[float, float]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while kept and kept[-1][0] >= point[0]:
            if kept[-1][1] <= point[1]:
                break
            kept.pop()
        else:
            while len(kept) > 1 and _turns_right(kept[-2], kept[-1], point):
                kept.pop()
            kept.append(point)
    air, energy = np.array(kept).T
    return air, energy


def _turns_right(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0])


def least_air_time(snr: np.ndarray, scenario: Scenario, std_db: float) -> np.ndarray:
    """Mean air time of a bit on a hertz without interference, from below.

    E[1/R] is meant, not 1/E[R], since the power is chosen before the shadowing is known. It is
    summed over steps of the shadowing, each with the rate at its better end; what lies beyond 6
    standard deviations counts as nothing.

    Args:
        snr: Without shadowing, dB, ``(Q,)``.
        scenario: Gives the rate's floor.
        std_db: Of the shadowing.
    """
    if std_db == 0.0:
        return _air_time(snr, scenario)
    from scipy.stats import norm

    step = max(std_db / _STEPS_PER_STD, _LEAST_STEP_DB)
    half = int(np.ceil(_TAIL_STD * std_db / step))
    weights = np.diff(norm.cdf(step / std_db * np.arange(-half, half + 1)))
    first = float(snr.min())
    index = np.ceil((snr - first) / step).astype(int)
    grid = first + step * np.arange(1 - half, index.max() + half + 1)
    table = np.convolve(_air_time(grid, scenario), weights[::-1], mode="valid")
    return table[index]


def _air_time(snr: np.ndarray, scenario: Scenario) -> np.ndarray:
    """Of a bit on a hertz, by Eq. (1)."""
    return 1.0 / lone_rates_bps(10.0 ** (snr / 10.0), 1.0, 1.0, scenario.min_spectral_efficiency)


def sum_rates(
    snr: np.ndarray, shares: np.ndarray, std_db: np.ndarray, counts: np.ndarray
) -> list[tuple[float, float]]:
    """What all MDs on one channel get together at most, besides the rate's floor.

    The sum of the rates of Eq. (1) rises or first falls and then rises with each MD's received
    power: its slope has the sign of 1 − Σ_j S_j/(σ + S − S_j), j the others, which rises with the
    MD's own power. So it is largest where each sends with nothing or with the most that any MD
    can, and k such MDs have k·log2(1 + s/(1 + (k−1)s)), which rises with s, the best SNR.

    Args:
        snr: Of the MDs at their largest power, without shadowing, dB, in each state of their
            channel, ``(G, states)``.
        shares: Probability of the states, likewise.
        std_db: Of the shadowing in them, ``(states,)``.
        counts: MDs of each such SNR, ``(G,)``.

    Returns:
        Pairs of a probability and the bit/s/Hz that are not exceeded with it.
    """
    if not std_db.any():
        bests = [(1.0, float(snr[shares > 0.0].max()))]
    else:
        bests = [(p, _quantile_of_best(p, snr, shares, std_db, counts)) for p in _QUANTILES]
    others = np.arange(int(counts.sum()))
    found = []
    for probability, best in bests:
        s = 10.0 ** (best / 10.0)
        found.append(
            (
                probability,
                float(((others + 1) * np.log1p(s / (1.0 + others * s))).max() / np.log(2)),
            )
        )
    return found


def _quantile_of_best(
    probability: float,
    snr: np.ndarray,
    shares: np.ndarray,
    std_db: np.ndarray,
    counts: np.ndarray,
) -> float:
    """An SNR that the best of all MDs' exceeds with no more than 1 − probability."""
    from scipy.special import log_ndtr, logsumexp

    low, high = float(snr.min()) - 40 * std_db.max(), float(snr.max()) + 40 * std_db.max()
    for _ in range(60):
        middle = (low + high) / 2
        below = logsumexp(log_ndtr((middle - snr) / std_db), axis=1, b=shares)
        if (counts * below).sum() >= np.log(probability):
            high = middle
        else:
            low = middle
    return high
