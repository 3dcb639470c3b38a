"""Counter-based random numbers: a draw depends on its key alone, not on the draws before it.

So a world's channels do not depend on the other worlds of its batch, nor on what was decided:
policies are compared on the same channels, and a batch can be stopped and resumed anywhere.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.errors import MecError

TASKS, DISTANCE, SHADOWING = 0, 1, 2
"""Purposes of a draw; shadowing takes two numbers a sample, from ``SHADOWING`` on."""

ARRIVALS, OUTAGES, VISITS = (1 << 39), (1 << 39) + 1, (1 << 39) + 2
"""What an episode's key is folded with for a process over its time, whose draws count from 0."""

MOVEMENT, CHANNEL = 1 << 38, (1 << 38) + 1
"""What keys are folded with for what moves, and for line of sight and correlated shadowing."""

PLANNING_SEED, DEMONSTRATION_SEED = 1 << 62, 3 << 61
"""Where the seeds of the worlds that a policy is made in begin, far from those of evaluations."""

RANDOMIZE_STREAM = 1 << 40
"""What comes before a seed where scenarios are drawn."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@compiled
def _mix(x):
    """The finaliser of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@compiled
def fold(key, part):
    """The key ``(*key, part)``.

    Args:
        key: uint64.
        part: A whole number, not negative.
    """
    # Casts, since numba makes a float of a signed and an unsigned number.
    return _mix(np.uint64(key) * _GOLDEN + np.uint64(part) + np.uint64(1))


@compiled
def episode_key(seed, episode):
    """The key of one episode of a world; that of a step is this, folded with its number.

    Args:
        seed: The world's.
        episode: Counted from 0.
    """
    return fold(_mix(np.uint64(seed) + _GOLDEN), episode)


@compiled
def uniform(key, device, purpose):
    """A number in (0, 1) for this device and purpose.

    Args:
        key: Of a step or an episode.
        device: n.
        purpose: What for, a whole number.
    """
    x = fold(fold(key, device), purpose)
    return (np.float64(x >> np.uint64(11)) + 0.5) / 9007199254740992.0  # 2**53


@compiled
def normal(key, device, purpose):
    """A standard normal number (Box–Muller).

    Args:
        key: Of a step or an episode.
        device: n.
        purpose: What for, a whole number; the next one is used too.
    """
    radius = math.sqrt(-2.0 * math.log(uniform(key, device, purpose)))
    return radius * math.cos(2.0 * math.pi * uniform(key, device, purpose + 1))


def poisson(mean: float, u: np.ndarray) -> np.ndarray:
    """Poisson variables.

    Args:
        mean: Their mean.
        u: Numbers in (0, 1), of any shape.

    Returns:
        Whole numbers of the same shape: where the distribution function has reached ``u``.
    """
    return np.searchsorted(_poisson_cdf(mean), u)


@functools.cache
def _poisson_cdf(mean: float) -> np.ndarray:
    """P(X ≤ i) of a Poisson variable, for i from 0 until nothing is left."""
    from scipy.stats import poisson as distribution

    return distribution.cdf(np.arange(int(distribution.isf(1e-15, mean)) + 2), mean)


def world_seeds(seed: object, num_envs: int) -> np.ndarray:
    """The seeds of a batch of worlds, ``(B,)`` uint64.

    Args:
        seed: World b gets ``seed + b``; or one seed per world.
        num_envs: B.

    Raises:
        MecError: A seed is negative or not a whole number, or there are not B of them.
    """
    seeds = np.asarray(seed)
    is_whole = np.issubdtype(seeds.dtype, np.integer)
    if not is_whole or seeds.shape not in ((), (num_envs,)) or (seeds < 0).any():
        raise MecError(
            f"seed must be a whole number, or {num_envs} of them, not negative and below 2**64, "
            f"but is {seed!r}"
        )
    if seeds.ndim == 0:
        return seeds.astype(np.uint64) + np.arange(num_envs, dtype=np.uint64)
    return seeds.astype(np.uint64)
