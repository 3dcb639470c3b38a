"""Random waypoints on a ring: the shortest way to a place drawn evenly, a pause, and on."""

from __future__ import annotations

import math

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.streams import MOVEMENT, fold, uniform

_START = 1 << 37  # before the draws of attempts at a start


@compiled
def place(key, draw, low, high):
    """Distance and direction of a place drawn evenly on a ring.

    Args:
        key: Of an MD's movement.
        draw: Counted from 0.
        low: Inner radius, m.
        high: Outer radius, m.
    """
    distance = math.sqrt(low * low + (high * high - low * low) * uniform(key, draw, 0))
    return distance, 2.0 * math.pi * uniform(key, draw, 1)


@compiled
def _turn(start, end):
    """From one direction to another, in [-π, π)."""
    return (end - start + math.pi) % (2.0 * math.pi) - math.pi


@compiled
def _free(low, distance):
    """The angle under which one sees past the inner circle: from a place to where it is touched."""
    return math.acos(min(low / distance, 1.0))


@compiled
def _touch(low, distance):
    """How far off that point is."""
    return math.sqrt(max(distance * distance - low * low, 0.0))


@compiled
def _length(start, end, turn, low):
    """Of the shortest way between places that does not enter the inner circle."""
    arc = abs(turn) - _free(low, start) - _free(low, end)
    if arc <= 0.0:
        return math.sqrt(max(start * start + end * end - 2.0 * start * end * math.cos(turn), 0.0))
    return _touch(low, start) + low * arc + _touch(low, end)


@compiled
def _walked(start, end, turn, low, share):
    """Distance, and angle turned, where a share of that way lies behind."""
    first, last = _free(low, start), _free(low, end)
    arc = abs(turn) - first - last
    if arc <= 0.0:
        x = start + share * (end * math.cos(turn) - start)
        y = share * end * math.sin(turn)
        return math.hypot(x, y), math.atan2(y, x)
    to, off = _touch(low, start), _touch(low, end)
    way = share * (to + low * arc + off)
    if way < to:
        distance, turned = math.hypot(low, to - way), first - math.atan2(to - way, low)
    elif way < to + low * arc:
        distance, turned = low, first + (way - to) / low
    else:
        beyond = way - to - low * arc
        distance, turned = math.hypot(low, beyond), first + arc + math.atan2(beyond, low)
    return distance, math.copysign(turned, turn)


@compiled
def _first_leg(key, low, high, slow, fast, least_pause, most_pause):
    """A leg and its pause, drawn by how long they last, and how much of them is over.

    Drawn by what they would last if all legs were the longest, and then kept or not.
    """
    longest = 2.0 * _touch(low, high) + low * (math.pi - 2.0 * _free(low, high))
    slowness = math.log(fast / slow) / (fast - slow) if fast > slow else 1.0 / slow
    travel, pause = longest * slowness, (least_pause + most_pause) / 2.0
    key = fold(key, _START)
    attempt = 0
    while True:
        start, start_at = place(key, attempt, low, high)
        end, end_at = place(fold(key, 1), attempt, low, high)
        u, v = uniform(key, attempt, 2), uniform(key, attempt, 3)
        if uniform(key, attempt, 4) * (travel + pause) < pause:
            speed = slow + (fast - slow) * u
            rest = math.sqrt(least_pause**2 + (most_pause**2 - least_pause**2) * v)
        else:
            speed = slow * (fast / slow) ** u
            rest = least_pause + (most_pause - least_pause) * v
        length = _length(start, end, _turn(start_at, end_at), low)
        lasts = rest + length / speed
        if uniform(key, attempt, 5) * (rest + longest / speed) < lasts:
            over = uniform(key, attempt, 6) * lasts
            return start, start_at, end, end_at, speed, rest, over
        attempt += 1


@compiled
def waypoints(episode_keys, time_ms, num_devices, ring_m, speeds_mps, pauses_s):
    """Where MDs are that go from place to place.

    Args:
        episode_keys: Of the worlds' episodes, ``(B,)`` uint64.
        time_ms: Since the episodes' starts, ``(B,)``.
        num_devices: N.
        ring_m: Least and largest distance, m.
        speeds_mps: Least and largest speed.
        pauses_s: Shortest and longest pause.

    Returns:
        Distance, m, and direction, rad, of every MD, each ``(B, N)``.
    """
    distances = np.empty((len(time_ms), num_devices))
    directions = np.empty((len(time_ms), num_devices))
    low, high = ring_m
    slow, fast = speeds_mps
    least_pause, most_pause = pauses_s
    for b in range(len(time_ms)):
        for n in range(num_devices):
            key = fold(fold(episode_keys[b], MOVEMENT), n)
            start, start_at, end, end_at, speed, rest, over = _first_leg(
                key, low, high, slow, fast, least_pause, most_pause
            )
            left = over + time_ms[b] / 1e3
            draw = 0
            turn = _turn(start_at, end_at)
            length = _length(start, end, turn, low)
            while left >= length / speed + rest:
                left -= length / speed + rest
                start, start_at = end, end_at
                end, end_at = place(key, draw, low, high)
                speed = slow + (fast - slow) * uniform(key, draw, 2)
                rest = least_pause + (most_pause - least_pause) * uniform(key, draw, 3)
                draw += 1
                turn = _turn(start_at, end_at)
                length = _length(start, end, turn, low)
            share = min(left * speed / length, 1.0) if length > 0.0 else 1.0
            distances[b, n], turned = _walked(start, end, turn, low, share)
            directions[b, n] = start_at + turned
    return distances, directions
