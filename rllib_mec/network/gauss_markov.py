"""Gauss–Markov velocities on a ring, off whose edges MDs bounce."""

from __future__ import annotations

import math

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.streams import MOVEMENT, fold, normal
from rllib_mec.network.waypoints import place

_MOST_WALLS = 10_000  # an MD meets in an interval, before it waits for the next one


@compiled
def _bounced(x, y, vx, vy, seconds, low, high):
    """Place and velocity after some time in a straight line, but for the edges of the ring."""
    for _ in range(_MOST_WALLS):
        speed2 = vx * vx + vy * vy
        along = x * vx + y * vy
        from2 = x * x + y * y
        root = along * along - speed2 * (from2 - high * high)
        hit, edge = (math.sqrt(max(root, 0.0)) - along) / speed2, high
        if along < 0.0:
            root = along * along - speed2 * (from2 - low * low)
            if root > 0.0:
                hit, edge = max((-along - math.sqrt(root)) / speed2, 0.0), low
        if hit >= seconds:
            return x + vx * seconds, y + vy * seconds, vx, vy
        seconds -= hit
        x, y = x + vx * hit, y + vy * hit
        scale = edge / math.hypot(x, y)
        x, y = x * scale, y * scale
        across = 2.0 * (x * vx + y * vy) / (edge * edge)
        vx, vy = vx - across * x, vy - across * y
    return x, y, vx, vy


@compiled
def velocities(episode_keys, time_ms, num_devices, ring_m, std_mps, memory, interval_s):
    """Where MDs are whose velocities remember.

    Args:
        episode_keys: Of the worlds' episodes, ``(B,)`` uint64.
        time_ms: Since the episodes' starts, ``(B,)``.
        num_devices: N.
        ring_m: Least and largest distance, m.
        std_mps: Of both parts of a velocity.
        memory: Correlation of a velocity with the one before.
        interval_s: Time between them.

    Returns:
        Distance, m, and direction, rad, of every MD, each ``(B, N)``.
    """
    distances = np.empty((len(time_ms), num_devices))
    directions = np.empty((len(time_ms), num_devices))
    low, high = ring_m
    kick = std_mps * math.sqrt(1.0 - memory * memory)
    for b in range(len(time_ms)):
        seconds = time_ms[b] / 1e3
        intervals = int(seconds / interval_s)
        for n in range(num_devices):
            key = fold(fold(episode_keys[b], MOVEMENT), n)
            distance, direction = place(key, 0, low, high)
            x, y = distance * math.cos(direction), distance * math.sin(direction)
            vx, vy = std_mps * normal(key, 0, 2), std_mps * normal(key, 0, 4)
            for i in range(1, intervals + 1):
                x, y, vx, vy = _bounced(x, y, vx, vy, interval_s, low, high)
                vx = memory * vx + kick * normal(key, i, 2)
                vy = memory * vy + kick * normal(key, i, 4)
            rest = max(seconds - intervals * interval_s, 0.0)
            x, y, vx, vy = _bounced(x, y, vx, vy, rest, low, high)
            distances[b, n], directions[b, n] = math.hypot(x, y), math.atan2(y, x)
    return distances, directions
