"""Where MDs are on the plane around the base station at a time.

A place is a pure function of the episode's key, the MD and the time: it is followed from the
episode's start, whatever was decided since, and at whatever times it is asked for. Whoever moves at
random starts in the stationary regime. All stay in the ring between the least and the largest of
``distance_range_m``; who would come nearer than the least goes round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.gauss_markov import velocities
from rllib_mec.network.mobility import GAUSS_MARKOV, RANDOM_WAYPOINT, UNIFORM, moves, tracks_of
from rllib_mec.network.streams import DISTANCE, MOVEMENT, fold, uniform
from rllib_mec.network.waypoints import waypoints

if TYPE_CHECKING:
    from rllib_mec.network.scenario import Scenario

Places = tuple[np.ndarray, np.ndarray]
"""Distance, m, and direction, rad, of every MD as seen from the base station, each ``(B, N)``."""


def places(
    scenario: Scenario, keys: np.ndarray, episode_keys: np.ndarray, time_ms: np.ndarray
) -> Places:
    """Where every MD of B worlds is.

    Args:
        scenario: Says how they move.
        keys: Of the worlds' steps, ``(B,)`` uint64.
        episode_keys: Of their episodes, ``(B,)`` uint64.
        time_ms: Since the episodes' starts, ``(B,)``.
    """
    law = _LAWS.get(scenario.mobility, _trace)
    distances, directions = law(scenario, keys, episode_keys, time_ms)
    if moves(scenario):
        distances = distances.clip(*scenario.distance_range_m)
    return distances, directions


def _uniform(scenario: Scenario, keys: np.ndarray, *_: np.ndarray) -> Places:
    """The paper's: distances drawn anew in every step; directions likewise."""
    low, high = scenario.distance_range_m
    drawn, directions = _drawn(keys, scenario.num_devices)
    return low + (high - low) * drawn, directions


@compiled
def _drawn(keys, num_devices):
    distances, directions = np.empty((len(keys), num_devices)), np.empty((len(keys), num_devices))
    for b in range(len(keys)):
        own = fold(keys[b], MOVEMENT)
        for n in range(num_devices):
            distances[b, n] = uniform(keys[b], n, DISTANCE)
            directions[b, n] = 2.0 * math.pi * uniform(own, n, 0)
    return distances, directions


def _random_waypoint(
    scenario: Scenario, _: np.ndarray, episode_keys: np.ndarray, time_ms: np.ndarray
) -> Places:
    """To a place drawn evenly on the ring, by the shortest way, at a drawn speed; then a pause.

    Since nobody goes slower than the least speed, which is above 0, the mean speed does not decay;
    and an episode starts within a leg or a pause, as long after others as you like (perfect
    simulation: Le Boudec and Vojnović, IEEE INFOCOM 2005).
    """
    return waypoints(
        episode_keys, time_ms, scenario.num_devices, scenario.distance_range_m,
        scenario.speed_range_mps, scenario.pause_range_s,
    )  # fmt: skip


def _gauss_markov(
    scenario: Scenario, _: np.ndarray, episode_keys: np.ndarray, time_ms: np.ndarray
) -> Places:
    """After every interval both parts of the velocity become α·v + √(1 − α²)·σ·w, w normal.

    That is Liang and Haas' model (IEEE INFOCOM 1999) without drift: the speed is Rayleigh
    distributed, so that σ is its mean over √(π/2). Off the ring's edges MDs bounce, which keeps
    places spread evenly and the speed as it was.
    """
    return velocities(
        episode_keys, time_ms, scenario.num_devices, scenario.distance_range_m,
        scenario.mean_speed_mps / math.sqrt(math.pi / 2.0), scenario.velocity_memory,
        scenario.velocity_interval_s,
    )  # fmt: skip


def _trace(
    scenario: Scenario, _: np.ndarray, episode_keys: np.ndarray, time_ms: np.ndarray
) -> Places:
    """In straight lines between the places that a file has, from anywhere in it on.

    Before its first line an MD is where that says, after its last one where that says; after the
    file's end it begins anew.
    """
    tracks = tracks_of(scenario)
    last_ms = max(times_ms[-1] for times_ms, _, _ in tracks)
    at_ms = (_starts(episode_keys) * last_ms + time_ms) % last_ms if last_ms else 0.0 * time_ms
    x = np.stack([np.interp(at_ms, times_ms, own) for times_ms, own, _ in tracks], axis=1)
    y = np.stack([np.interp(at_ms, times_ms, own) for times_ms, _, own in tracks], axis=1)
    return np.hypot(x, y), np.arctan2(y, x)


@compiled
def _starts(episode_keys):
    starts = np.empty(len(episode_keys))
    for b in range(len(episode_keys)):
        starts[b] = uniform(fold(episode_keys[b], MOVEMENT), 0, 0)
    return starts


_LAWS: dict[str, Callable[..., Places]] = {
    UNIFORM: _uniform,
    RANDOM_WAYPOINT: _random_waypoint,
    GAUSS_MARKOV: _gauss_markov,
}
"""Name of a law -> where it has MDs; anything else is the path of a trace."""
