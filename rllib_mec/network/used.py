"""Fields of a scenario that only some choices of another field read; elsewhere they are refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rllib_mec.errors import MecError
from rllib_mec.network.mobility import GAUSS_MARKOV, RANDOM_WAYPOINT
from rllib_mec.network.path_loss import PAPER
from rllib_mec.network.shadowing import CORRELATED
from rllib_mec.network.tr38901 import ENVIRONMENTS

if TYPE_CHECKING:
    from rllib_mec.network.scenario import Scenario

_ALL_3GPP = tuple(ENVIRONMENTS)
_FACTORIES = tuple(name for name, each in ENVIRONMENTS.items() if each.clutter is not None)

USED_BY: dict[str, tuple[str, tuple[str, ...]]] = {
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
"""Field -> the field that chooses, and the choices that read it."""


def check_used(scenario: Scenario) -> None:
    """Refuse a field that is set, and that nothing reads.

    Args:
        scenario: The scenario.

    Raises:
        MecError: There is one.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(scenario)}
    for name, (chooser, choices) in USED_BY.items():
        chosen = getattr(scenario, chooser)
        if chosen not in choices and getattr(scenario, name) != defaults[name]:
            raise MecError(
                f"{name} has no effect with {chooser} {chosen!r}: leave it out, or choose "
                f"{chooser} from {', '.join(choices)}"
            )
