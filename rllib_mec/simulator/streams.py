"""Counter-based random numbers: a draw depends on its key alone, not on the draws before it.

So a world's channels do not depend on the other worlds of its batch, nor on what was decided:
policies are compared on the same channels, and a batch can be stopped and resumed anywhere.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, uint64

TASKS, DISTANCE, SHADOWING = 0, 1, 2
"""Purposes of a draw; shadowing takes two numbers a sample, from ``SHADOWING`` on."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@njit(uint64(uint64), cache=True, nogil=True)
def _mix(x):
    """The finaliser of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def uniform(seed, episode, window, device, purpose):
    """A number in (0, 1) for this key; all parts of the key are non-negative integers."""
    x = _mix(np.uint64(seed) + _GOLDEN)
    x = _mix(x + np.uint64(episode) * _GOLDEN + np.uint64(1))
    x = _mix(x + np.uint64(window) * _GOLDEN + np.uint64(2))
    x = _mix(x + np.uint64(device) * _GOLDEN + np.uint64(3))
    x = _mix(x + np.uint64(purpose) * _GOLDEN + np.uint64(4))
    return (np.float64(x >> np.uint64(11)) + 0.5) / 9007199254740992.0  # 2**53


@njit(cache=True, nogil=True)
def normal(seed, episode, window, device, purpose):
    """A standard normal number for this key (Box–Muller); it uses ``purpose`` and the next one."""
    radius = math.sqrt(-2.0 * math.log(uniform(seed, episode, window, device, purpose)))
    return radius * math.cos(2.0 * math.pi * uniform(seed, episode, window, device, purpose + 1))


def poisson_cdf(mean: float) -> np.ndarray:
    """P(X ≤ i) of a Poisson variable, for i from 0 until nothing is left."""
    from scipy.stats import poisson

    return poisson.cdf(np.arange(int(poisson.isf(1e-15, mean)) + 2), mean)
