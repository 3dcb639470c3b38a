"""The radio: transmit power, channel gain, and the rate of Eq. (1)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from rllib_mec.simulator.scenario import Scenario


def power_w(action: np.ndarray, scenario: Scenario) -> np.ndarray:
    """Transmit power of an action.

    Args:
        action: In [0, 1], any shape.
        scenario: Gives scale and limit.

    Returns:
        Power in W: on the ``dbm`` scale between 1 mW and P_limit, on the ``linear`` scale in
        (0, P_limit]; never 0 W.
    """
    if scenario.power_scale == "dbm":
        return 10.0 ** (np.asarray(action, dtype=float) * scenario.max_power_dbm / 10.0) / 1000.0
    return np.maximum(np.asarray(action, dtype=float), 1e-6) * scenario.max_power_w


def power_action(power: float, scenario: Scenario) -> float:
    """The action that gives a transmit power, the inverse of :func:`power_w`.

    Args:
        power: In W.
        scenario: Gives scale and limit.
    """
    if scenario.power_scale == "dbm":
        return 10.0 * math.log10(max(power, 1e-300) * 1000.0) / scenario.max_power_dbm
    return power / scenario.max_power_w


@njit(cache=True, nogil=True)
def channel_gain(
    distance_m: float, shadowing_db: float, reference_m: float, exponent: float
) -> float:
    """G_n: path loss (d̂/d)^h times log-normal shadowing."""
    return (reference_m / distance_m) ** exponent * 10.0 ** (shadowing_db / 10.0)


@njit(cache=True, nogil=True)
def rate_bps(
    received_w: float,
    interference_w: float,
    noise_w: float,
    bandwidth_hz: float,
    min_efficiency: float,
    min_sinr: float,
) -> float:
    """R_n of Eq. (1) in bit/s, not below ``min_efficiency`` bit/s/Hz.

    ``min_sinr`` is the SINR at which the floor is reached, ``2**min_efficiency - 1``: below it the
    logarithm, the dearest part of an event, is not needed.
    """
    sinr = received_w / (noise_w + interference_w)
    if sinr <= min_sinr:
        return bandwidth_hz * min_efficiency
    return bandwidth_hz * math.log2(1.0 + sinr)
