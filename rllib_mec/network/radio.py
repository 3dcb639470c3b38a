"""The radio: channel gain, and the rate of Eq. (1)."""

from __future__ import annotations

import math

import numpy as np

from rllib_mec.compiled import compiled

LN10_PER_DB = math.log(10.0) / 10.0
_PER_LN2 = 1.0 / math.log(2.0)


@compiled
def channel_gain(distance_m, shadowing_db, reference_m, exponent):
    """G_n: path loss (d̂/d)^h times log-normal shadowing.

    Args:
        distance_m: d, m.
        shadowing_db: Shadowing, dB.
        reference_m: d̂, where the path loss is 1, m.
        exponent: h.
    """
    return (reference_m / distance_m) ** exponent * math.exp(shadowing_db * LN10_PER_DB)


@compiled
def rate_bps(received_w, interference_w, bandwidth_hz, noise_w, min_efficiency, min_sinr):
    """R_n of Eq. (1) in bit/s, not below the least spectral efficiency.

    Args:
        received_w: Power that arrives of the MD, W.
        interference_w: Power that arrives of the others on its channel, W.
        bandwidth_hz: B_c.
        noise_w: σ_c.
        min_efficiency: The least spectral efficiency, bit/s/Hz.
        min_sinr: The SINR at which that floor is reached, ``2**min_efficiency - 1``: below it the
            logarithm, the dearest part of an event, is not needed.
    """
    sinr = received_w / (noise_w + interference_w)
    if sinr <= min_sinr:
        return bandwidth_hz * min_efficiency
    # log1p, so that without a floor a hopeless channel still has a rate above 0.
    return bandwidth_hz * (math.log1p(sinr) * _PER_LN2)


@compiled
def lone_rates_bps(received_w, bandwidth_hz, noise_w, min_efficiency):
    """R_n of Eq. (1) for MDs that nobody interferes with, of the shape of ``received_w``.

    Args:
        received_w: Power that arrives of each, W.
        bandwidth_hz: B_c.
        noise_w: σ_c.
        min_efficiency: The least spectral efficiency, bit/s/Hz.
    """
    rates = np.empty(received_w.size)
    min_sinr = 2.0**min_efficiency - 1.0
    for i, received in enumerate(received_w.flat):
        rates[i] = rate_bps(received, 0.0, bandwidth_hz, noise_w, min_efficiency, min_sinr)
    return rates.reshape(received_w.shape)
