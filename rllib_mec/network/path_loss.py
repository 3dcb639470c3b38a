"""Path loss: the paper's (d̂/d)^h, or that of 3GPP TR 38.901 with line of sight and without.

A distance is taken as d_2D there, on the ground. Nearer than the formulas hold, 10 m outdoors, the
loss is that of where they begin; farther is refused.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_mec.errors import MecError
from rllib_mec.network.tr38901 import ENVIRONMENTS, OUTDOOR_SIGHT_M, Clutter, Losses

if TYPE_CHECKING:
    from rllib_mec.network.scenario import Scenario

PAPER = "paper"

PAPERS_STD_DB, PAPERS_DECORRELATION_M = 8.0, 13.0
"""Of the shadowing where the paper's path loss holds; the distance is UMi's without sight."""

_HEIGHTS = ("device_height_m", "clutter_height_m", "base_station_height_m")


def check_path_loss(scenario: Scenario) -> None:
    """Check what the report's formulas ask of a scenario.

    Args:
        scenario: The scenario.

    Raises:
        MecError: A distance, a height or the clutter is beyond what they hold for.
    """
    if scenario.path_loss == PAPER:
        return
    environment, name = ENVIRONMENTS[scenario.path_loss], scenario.path_loss
    _check_far(scenario.distance_range_m[1], scenario, "distance_range_m[1]")
    station_m, device_m = base_station_height_m(scenario), scenario.device_height_m
    low, high = environment.device_height_m
    if not low <= device_m <= high:
        raise MecError(
            f"device_height_m must lie in [{low:g}, {high:g}] for path_loss {name!r}, "
            f"but is {device_m:g}"
        )
    if environment.clutter is None:
        if station_m < device_m:
            raise MecError(
                f"base_station_height_m must be at least device_height_m, {device_m:g}, for "
                f"path_loss {name!r}, but is {station_m:g}"
            )
        return
    if environment.is_high:
        clutter_m = clutter_of(scenario).height_m
        told = f"for path_loss {name!r}, but are {device_m:g}, {clutter_m:g} and {station_m:g}"
        given = [field for field in _HEIGHTS if getattr(scenario, field) is not None]
        if not device_m < clutter_m < station_m:
            raise MecError(f"{given[-1]}: {' < '.join(_HEIGHTS)} must hold {told}")


def _check_far(distance_m: float, scenario: Scenario, field: str) -> None:
    environment = ENVIRONMENTS[scenario.path_loss]
    most = environment.range_m[1]
    if environment.clutter is not None:  # a distance in space there
        height_m = base_station_height_m(scenario) - scenario.device_height_m
        most = math.sqrt(max(most**2 - height_m**2, 0.0))
    if distance_m > most:
        raise MecError(
            f"{field} must be at most {most:.5g} m, as far as path_loss {scenario.path_loss!r} "
            f"holds, but is {distance_m:g}"
        )


def base_station_height_m(scenario: Scenario) -> float:
    """h_BS, by default the report's.

    Args:
        scenario: With a path loss of the report.
    """
    given = scenario.base_station_height_m
    return ENVIRONMENTS[scenario.path_loss].base_station_height_m if given is None else given


def clutter_of(scenario: Scenario) -> Clutter:
    """What stands in the factory, by default as in the report; nothing outdoors.

    Args:
        scenario: With a path loss of the report.
    """
    usual = ENVIRONMENTS[scenario.path_loss].clutter or Clutter(0.0, 0.0, 0.0)
    given = Clutter(scenario.clutter_size_m, scenario.clutter_density, scenario.clutter_height_m)
    return Clutter(*(u if g is None else g for u, g in zip(usual, given, strict=True)))


def losses_db(distances_m: np.ndarray, scenario: Scenario) -> Losses:
    """PL with a line of sight and without, Table 7.4.1-1.

    Args:
        distances_m: On the ground, of any shape, m.
        scenario: With a path loss of the report.

    Raises:
        MecError: One is farther than the formulas hold.
    """
    environment = ENVIRONMENTS[scenario.path_loss]
    _check_far(float(np.max(distances_m, initial=0.0)), scenario, "a distance")
    least = environment.range_m[0]
    d2 = np.maximum(distances_m, least if environment.clutter is None else 0.0)
    station_m, device_m = base_station_height_m(scenario), scenario.device_height_m
    d3 = np.maximum(np.hypot(d2, station_m - device_m), least)
    return environment.losses_db(d2, d3, scenario.carrier_frequency_hz / 1e9, station_m, device_m)


def sight_probability(distances_m: np.ndarray, scenario: Scenario) -> np.ndarray:
    """Probability of a line of sight, Table 7.4.2-1.

    Args:
        distances_m: On the ground, of any shape, m.
        scenario: With a path loss of the report.
    """
    environment = ENVIRONMENTS[scenario.path_loss]
    heights_m = base_station_height_m(scenario), scenario.device_height_m
    return environment.sight(distances_m, *heights_m, clutter_of(scenario))


def stds_db(scenario: Scenario) -> tuple[float, float]:
    """Of the shadowing, with a line of sight and without: the report's, or the scenario's for both.

    Args:
        scenario: With a path loss of the report.
    """
    given = scenario.shadowing_std_db
    return ENVIRONMENTS[scenario.path_loss].std_db if given is None else (given, given)


def decorrelations_m(scenario: Scenario) -> tuple[float, float, float]:
    """Of the shadowing with a line of sight and without, and of the line of sight itself.

    Args:
        scenario: One distance of its own holds for all.
    """
    given = scenario.decorrelation_distance_m
    if given is not None:
        return given, given, given
    if scenario.path_loss == PAPER:
        one_m = PAPERS_DECORRELATION_M
        return one_m, one_m, one_m
    environment = ENVIRONMENTS[scenario.path_loss]
    outdoors = environment.clutter is None
    sight_m = OUTDOOR_SIGHT_M if outdoors else clutter_of(scenario).size_m / 2.0
    return (*environment.decorrelation_m, sight_m)


def states(distance_m: float, scenario: Scenario) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What an MD's channel may be: with a line of sight or without, of the paper's only one.

    Args:
        distance_m: Of the MD.
        scenario: Gives path loss and shadowing.

    Returns:
        Gain without shadowing, probability and standard deviation (dB) of each, ``(states,)``.
    """
    if scenario.path_loss == PAPER:
        gain = mean_gains(distance_m, scenario)
        return np.array([gain]), np.ones(1), np.array([scenario.shadowing_std_db])
    at = np.array([distance_m])
    sight = sight_probability(at, scenario)
    shares = np.concatenate([sight, 1.0 - sight])
    gains = 10.0 ** (-np.concatenate(losses_db(at, scenario)) / 10.0)
    return gains, shares, np.array(stds_db(scenario))


def mean_gains(distances_m: Any, scenario: Scenario) -> Any:
    """Gains without shadowing; of those with a line of sight and without, the mean in dB.

    Args:
        distances_m: Of any shape, m.
        scenario: Gives the path loss.
    """
    if scenario.path_loss == PAPER:
        exponent, reference_m = scenario.path_loss_exponent, scenario.reference_distance_m
        from rllib_mec.network.radio import channel_gain  # compiled: devices do without numba

        return channel_gain(distances_m, 0.0, reference_m, exponent)
    return 10.0 ** (-_mean_losses_db(distances_m, scenario) / 10.0)


def more_loss_db(
    distances_m: np.ndarray, than_m: np.ndarray | float, scenario: Scenario
) -> np.ndarray:
    """How much more is lost at some distances than at others, without shadowing.

    Args:
        distances_m: Of any shape, m.
        than_m: Others, that go with them.
        scenario: Gives the path loss.
    """
    if scenario.path_loss == PAPER:
        return 10 * scenario.path_loss_exponent * np.log10(distances_m / than_m)
    others = np.asarray(than_m, dtype=float)
    return _mean_losses_db(distances_m, scenario) - _mean_losses_db(others, scenario)


def _mean_losses_db(distances_m: np.ndarray, scenario: Scenario) -> np.ndarray:
    los, nlos = losses_db(distances_m, scenario)
    sight = sight_probability(distances_m, scenario)
    return sight * los + (1.0 - sight) * nlos
