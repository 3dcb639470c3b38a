"""Shadowing that goes with the place: near places are alike, as Gudmundson found.

All MDs of an episode walk through one and the same environment, so that two at one place have the
same shadowing. It is a function of the place, with nothing to remember: a sum of cosines whose wave
vectors and phases come from the episode's key. A wave number k has the density of the spectrum that
belongs to the autocorrelation exp(−Δ/d) on the plane, kd²/(1 + k²d²)^(3/2), one from each of equal
shares of it, so that each episode's own autocorrelation is near that too.
"""

from __future__ import annotations

import math

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.streams import CHANNEL, fold, uniform

SIGHT, SHADOWING = 0, 1
"""What a field is for."""

_WAVES = 64


@compiled
def field(episode_keys, sample, purpose, x_m, y_m, decorrelation_m):
    """Nearly standard normal numbers that belong to places, ``(B, N)``.

    Args:
        episode_keys: Of the worlds' episodes, ``(B,)`` uint64.
        sample: Another one is an independent field.
        purpose: Likewise.
        x_m: Places, ``(B, N)``, m.
        y_m: Likewise.
        decorrelation_m: d, ``(B, N)``, m; places are taken as multiples of it.
    """
    num_envs, num_devices = x_m.shape
    values = np.zeros((num_envs, num_devices))
    scale = math.sqrt(2.0 / _WAVES)
    for b in range(num_envs):
        key = fold(fold(fold(episode_keys[b], CHANNEL), purpose), sample)
        for i in range(_WAVES):
            # P(wave number > k) = 1/√(1 + k²).
            above = 1.0 - (i + uniform(key, i, 0)) / _WAVES
            wave = math.sqrt(1.0 / (above * above) - 1.0)
            direction = 2.0 * math.pi * uniform(key, i, 1)
            phase = 2.0 * math.pi * uniform(key, i, 2)
            along, across = wave * math.cos(direction), wave * math.sin(direction)
            for n in range(num_devices):
                turns = (along * x_m[b, n] + across * y_m[b, n]) / decorrelation_m[b, n]
                values[b, n] += scale * math.cos(turns + phase)
    return values


@compiled
def sight_draws(keys, sample, num_devices):
    """Numbers in (0, 1) that say who has a line of sight in a step, ``(B, N)``.

    Args:
        keys: Of the worlds' steps, ``(B,)`` uint64.
        sample: Another one is an independent draw.
        num_devices: N.
    """
    values = np.empty((len(keys), num_devices))
    for b in range(len(keys)):
        key = fold(keys[b], CHANNEL)
        for n in range(num_devices):
            values[b, n] = uniform(key, n, sample)
    return values
