"""What no single field of a scenario shows: whether its fields go together."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_mec.errors import MecError
from rllib_mec.network.defaults import CORRELATED, check_profile
from rllib_mec.network.mobility import GAUSS_MARKOV, RANDOM_WAYPOINT
from rllib_mec.network.path_loss import PAPER
from rllib_mec.network.tr38901 import ENVIRONMENTS

if TYPE_CHECKING:
    from rllib_mec.network.scenario import Scenario

_ALL_3GPP = tuple(ENVIRONMENTS)
_FACTORIES = tuple(name for name, each in ENVIRONMENTS.items() if each.clutter is not None)

UsedBy = dict[str, tuple[str, tuple[str, ...]]]

USED_BY: UsedBy = {
    "speed_range_mps": ("mobility", (RANDOM_WAYPOINT,)),
    "pause_range_s": ("mobility", (RANDOM_WAYPOINT,)),
    "mean_speed_mps": ("mobility", (GAUSS_MARKOV,)),
    "velocity_memory": ("mobility", (GAUSS_MARKOV,)),
    "velocity_interval_s": ("mobility", (GAUSS_MARKOV,)),
    "path_loss_exponent": ("path_loss", (PAPER,)),
    "reference_distance_m": ("path_loss", (PAPER,)),
    "carrier_frequency_hz": ("path_loss", _ALL_3GPP),
    "base_station_height_m": ("path_loss", _ALL_3GPP),
    "device_height_m": ("path_loss", _ALL_3GPP),
    "clutter_size_m": ("path_loss", _FACTORIES),
    "clutter_density": ("path_loss", _FACTORIES),
    "clutter_height_m": ("path_loss", tuple(n for n in _FACTORIES if ENVIRONMENTS[n].is_high)),
    "decorrelation_distance_m": ("shadowing", (CORRELATED,)),
}
"""Field -> the field that chooses, and the choices that read it; with others it is refused."""


def check_together(scenario: Scenario) -> None:
    """Check fields together.

    Args:
        scenario: The scenario.

    Raises:
        MecError: Some do not go together, one is set that nothing reads, or a profile is bad.
    """
    _check_devices(scenario)
    low, high = scenario.distance_range_m
    if low > high:
        raise MecError(
            f"distance_range_m must be 0 < least <= largest, but is {scenario.distance_range_m!r}"
        )
    check_profile("server_profile", scenario.server_profile)
    _check_servers(scenario)
    check_used(scenario, USED_BY)


def _check_devices(scenario: Scenario) -> None:
    """Check what a group has of its own together with what it has from the scenario."""
    counts = [group.count for group in scenario.devices or ()]
    for i, first in enumerate(np.cumsum([0, *counts[:-1]])):
        path = f"devices[{i}]." if counts else ""
        device = scenario.mobile_devices[first]
        if scenario.power_scale == "dbm" and device.max_power_dbm <= 0:
            raise MecError(
                f"{path}max_power_dbm must be positive on the dbm scale, "
                f"but is {device.max_power_dbm:g}"
            )
        if device.max_window > scenario.max_window:
            raise MecError(
                f"{path}max_window must be at most the scenario's {scenario.max_window}, "
                f"but is {device.max_window}"
            )
        check_profile(f"{path}device_profile", device.device_profile)
    if any(device.memory_mb is not None for device in scenario.mobile_devices):
        _ = scenario.playable  # refuses what holds nothing


def _check_servers(scenario: Scenario) -> None:
    """Check that a group of servers is as fast as it says, or as was measured."""
    for i, group in enumerate(scenario.servers or ()):
        if group.server_profile is not None and group.speed != 1.0:
            raise MecError(
                f"servers[{i}].speed is {group.speed:g}, but its server_profile says how fast it "
                "is: give one of them"
            )
        check_profile(f"servers[{i}].server_profile", group.server_profile)


def check_used(given: Any, used_by: UsedBy) -> None:
    """Refuse a field that is set, and that nothing reads.

    Args:
        given: A dataclass.
        used_by: Its fields that only some choices read, as :data:`USED_BY`.

    Raises:
        MecError: There is one.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(given)}
    for name, (chooser, choices) in used_by.items():
        chosen = getattr(given, chooser)
        if chosen not in choices and getattr(given, name) != defaults[name]:
            raise MecError(
                f"{name} has no effect with {chooser} {chosen!r}: leave it out, or choose "
                f"{chooser} from {', '.join(choices)}"
            )
