"""How MDs move: the laws by name, traces, and checks; :mod:`.places` has where they are."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from rllib_mec.errors import MecError
from rllib_mec.network import traces

if TYPE_CHECKING:
    from rllib_mec.network.scenario import Scenario

UNIFORM, RANDOM_WAYPOINT, GAUSS_MARKOV = "uniform", "random_waypoint", "gauss_markov"

LAWS = (UNIFORM, RANDOM_WAYPOINT, GAUSS_MARKOV)
"""Names of laws; anything else is the path of a trace."""

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
    if traces.check_choice("mobility", scenario.mobility, LAWS):
        tracks_of(scenario)
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


def tracks_of(scenario: Scenario) -> tuple[Track, ...]:
    """What the trace says that MDs follow, of each MD.

    Args:
        scenario: Its ``mobility`` is the path of the trace.

    Raises:
        MecError: There is no such file, or a line is bad: it says which, and what was expected.
    """
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
