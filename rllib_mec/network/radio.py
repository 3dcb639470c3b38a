"""The radio: transmit power, channel gain, and the rate of Eq. (1)."""

from __future__ import annotations

import math

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network.scenario import Scenario

_LN10_PER_DB = math.log(10.0) / 10.0
_PER_LN2 = 1.0 / math.log(2.0)
_LEAST_LINEAR_ACTION = 1e-6  # a transmission at 0 W would never end


@compiled
def transmit_power_w(action, max_power_dbm, is_dbm):
    """Transmit power in W of an action in [0, 1].

    On the dBm scale it lies between 1 mW (0 dBm) and P_limit, on the linear one in (0, P_limit].
    """
    if is_dbm:
        return math.exp(action * max_power_dbm * _LN10_PER_DB) / 1000.0
    limit = math.exp(max_power_dbm * _LN10_PER_DB) / 1000.0
    return max(action, _LEAST_LINEAR_ACTION) * limit


def power_w(action: np.ndarray, scenario: Scenario) -> np.ndarray:
    """Transmit power of actions, as :func:`transmit_power_w` for arrays.

    Args:
        action: In [0, 1], any shape.
        scenario: Gives scale and limit.

    Returns:
        Power in W: on the ``dbm`` scale between 1 mW and P_limit, on the ``linear`` scale in
        (0, P_limit]; never 0 W.
    """
    action = np.asarray(action, dtype=float)
    if scenario.power_scale == "dbm":
        return np.exp(action * scenario.max_power_dbm * _LN10_PER_DB) / 1000.0
    return np.maximum(action, _LEAST_LINEAR_ACTION) * scenario.max_power_w


def power_action(power: float, scenario: Scenario) -> float:
    """The action that gives a transmit power, the inverse of :func:`power_w`.

    Args:
        power: In W.
        scenario: Gives scale and limit.

    Returns:
        The action; outside [0, 1] if the power is out of the scenario's range.
    """
    if scenario.power_scale == "dbm":
        return 10.0 * math.log10(max(power, 1e-300) * 1000.0) / scenario.max_power_dbm
    return power / scenario.max_power_w


@compiled
def channel_gain(distance_m, shadowing_db, reference_m, exponent):
    """G_n: path loss (d̂/d)^h times log-normal shadowing."""
    return (reference_m / distance_m) ** exponent * math.exp(shadowing_db * _LN10_PER_DB)


@compiled
def rate_bps(received_w, interference_w, noise_w, bandwidth_hz, min_efficiency, min_sinr):
    """R_n of Eq. (1) in bit/s, not below ``min_efficiency`` bit/s/Hz.

    ``min_sinr`` is the SINR at which the floor is reached, ``2**min_efficiency - 1``: below it the
    logarithm, the dearest part of an event, is not needed.
    """
    sinr = received_w / (noise_w + interference_w)
    if sinr <= min_sinr:
        return bandwidth_hz * min_efficiency
    # log1p, so that without a floor a hopeless channel still has a rate above 0.
    return bandwidth_hz * (math.log1p(sinr) * _PER_LN2)
