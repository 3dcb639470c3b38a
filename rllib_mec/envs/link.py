"""What is odd about a scenario's links: noise that no radio has, or that drowns every MD."""

from __future__ import annotations

import numpy as np

from rllib_mec.envs.actions import w_of_dbm
from rllib_mec.network.path_loss import PAPER, states
from rllib_mec.network.scenario import Scenario

_THERMAL_W_PER_HZ = 10.0 ** (-174.0 / 10.0) / 1e3
_ODD_DB = 30.0  # above thermal noise


def link_remarks(scenario: Scenario) -> tuple[str, ...]:
    """A line each; nothing of a path loss of the paper's, whose noise goes with it.

    Args:
        scenario: The scenario.
    """
    if scenario.path_loss == PAPER:
        return ()
    remarks = []
    for channel in dict.fromkeys(scenario.radio_channels):
        thermal_w = _THERMAL_W_PER_HZ * channel.bandwidth_hz
        above_db = 10.0 * np.log10(channel.noise_w / thermal_w)
        if above_db > _ODD_DB:
            remarks.append(
                f"noise_w is {channel.noise_w:.1e}, {above_db:.0f} dB above the thermal noise of "
                f"{channel.bandwidth_hz / 1e6:g} MHz, which is {thermal_w:.1e} W: path_loss "
                f"{scenario.path_loss!r} is absolute"
            )
    least_m = scenario.distance_range_m[0]
    gain = states(least_m, scenario)[0].max()
    noise_w = min(channel.noise_w for channel in scenario.radio_channels)
    power_w = w_of_dbm(scenario.of_devices("max_power_dbm").max())
    if np.log2(1.0 + power_w * gain / noise_w) <= scenario.min_spectral_efficiency:
        remarks.append(
            f"even at {least_m:g} m, with a line of sight, at full power and without shadowing, no "
            "device gets more than the rate's floor, min_spectral_efficiency"
        )
    return tuple(remarks)
