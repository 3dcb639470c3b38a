"""How MDs move on the plane around the base station: where each is at a time.

A place is a pure function of the episode's key, the MD and the time: it is followed from the
episode's start, whatever was decided since, and at whatever times it is asked for. Whoever moves at
random starts in the stationary regime. All stay in the ring between the least and the largest of
``distance_range_m``; who would come nearer than the least goes round.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.errors import MecError
from rllib_mec.network import traces
from rllib_mec.network.gauss_markov import velocities
from rllib_mec.network.streams import DISTANCE, MOVEMENT, fold, uniform
from rllib_mec.network.waypoints import waypoints

if TYPE_CHECKING:
    from rllib_mec.network.scenario import Scenario

Places = tuple[np.ndarray, np.ndarray]
"""Distance, m, and direction, rad, of every MD as seen from the base station, each ``(B, N)``."""

UNIFORM, RANDOM_WAYPOINT, GAUSS_MARKOV = "uniform", "random_waypoint", "gauss_markov"

HEADER = ("time_s", "device", "x_m", "y_m")
"""First line of a trace."""

_ROOM = 1.01  # times as far as the least distance Gauss–Markov must be let go
_ROUNDING_M = 1e-6


def check_mobility(scenario: Scenario) -> None:
    """Check how MDs move.

    Args:
        scenario: The scenario.

    Raises:
        MecError: There is no such law, a trace is bad, or there is no room to move.
    """
    if traces.check_choice("mobility", scenario.mobility, tuple(LAWS)):
        _read(scenario)
    for name in ("speed_range_mps", "pause_range_s"):
        low, high = getattr(scenario, name)
        if low > high:
            raise MecError(f"{name} must be least <= largest, but is {(low, high)!r}")
    low, high = scenario.distance_range_m
    if scenario.mobility == GAUSS_MARKOV and high < _ROOM * low:
        raise MecError(
            f"mobility {GAUSS_MARKOV!r} needs room: distance_range_m must be at least "
            f"({low:g}, {_ROOM * low:g}), but is {(low, high)!r}"
        )


def moves(scenario: Scenario) -> bool:
    """Whether MDs move from step to step, so that where they are is not drawn anew in each.

    Args:
        scenario: The scenario.
    """
    return scenario.mobility != UNIFORM


def movement(scenario: Scenario) -> str:
    """How MDs move, in a word.

    Args:
        scenario: The scenario.
    """
    return "trace" if trace_of(scenario) else scenario.mobility


def trace_of(scenario: Scenario) -> str | None:
    """The path of the trace that MDs follow; ``None`` if they follow none.

    Args:
        scenario: The scenario.
    """
    return None if scenario.mobility in LAWS else scenario.mobility


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
    law = LAWS.get(scenario.mobility, _trace)
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
    tracks = _read(scenario)
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


def _place_in(where: str, cells: list[str], ring_m: tuple[float, float]) -> tuple[float, float]:
    """A place of a trace, if it lies on the ring."""
    try:
        x, y = map(float, cells)
    except ValueError:
        x = y = math.nan
    distance, (low, high) = math.hypot(x, y), ring_m
    if not math.isfinite(distance):
        raise MecError(f"{where}: x_m and y_m must be metres, but are {cells}")
    if not low - _ROUNDING_M <= distance <= high + _ROUNDING_M:
        raise MecError(
            f"{where}: ({x:g}, {y:g}) is {distance:g} m from the base station, "
            f"outside distance_range_m ({low:g}, {high:g})"
        )
    return x, y


Track = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Times, ms, and places, m, of an MD in a trace."""


def _read(scenario: Scenario) -> tuple[Track, ...]:
    path, ring_m = scenario.mobility, scenario.distance_range_m
    return _read_trace(path, scenario.num_devices, ring_m, traces.changed_at("mobility", path))


@functools.lru_cache(maxsize=8)
def _read_trace(
    path: str, num_devices: int, ring_m: tuple[float, float], changed: int
) -> tuple[Track, ...]:
    found: list[list[tuple[float, float, float]]] = [[] for _ in range(num_devices)]
    before_s = 0.0
    for where, (time_s, device, *place) in traces.rows("mobility", path, HEADER):
        before_s = traces.seconds(where, "time_s", time_s, before_s)
        own = found[traces.number_of(where, "device", device, "md", num_devices)]
        if own and own[-1][0] == 1e3 * before_s:
            raise MecError(f"{where}: device {device} has a place at this time already")
        own.append((1e3 * before_s, *_place_in(where, place, ring_m)))
    for n, own in enumerate(found):
        if not own:
            raise MecError(f"{path}: the trace has no line of device {n}")
    tracks = (np.array(own).T for own in found)
    return tuple((times_ms, x, y) for times_ms, x, y in tracks)


LAWS: dict[str, Callable[..., Places]] = {
    UNIFORM: _uniform,
    RANDOM_WAYPOINT: _random_waypoint,
    GAUSS_MARKOV: _gauss_markov,
}
"""Name of a law -> where it has MDs; anything else is the path of a trace."""
