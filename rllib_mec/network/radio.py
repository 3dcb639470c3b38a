"""The radio: channel gain, and the rate of Eq. (1)."""

from __future__ import annotations

import math

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
def rate_bps(received_w, interference_w, radio, min_sinr):
    """R_n of Eq. (1) in bit/s, not below the radio's least spectral efficiency.

    Args:
        received_w: Power that arrives of the MD, W.
        interference_w: Power that arrives of the others on its channel, W.
        radio: A :class:`~rllib_mec.network.physics.Radio`.
        min_sinr: The SINR at which that floor is reached, ``2**radio.min_efficiency - 1``: below it
            the logarithm, the dearest part of an event, is not needed.
    """
    sinr = received_w / (radio.noise_w + interference_w)
    if sinr <= min_sinr:
        return radio.bandwidth_hz * radio.min_efficiency
    # log1p, so that without a floor a hopeless channel still has a rate above 0.
    return radio.bandwidth_hz * (math.log1p(sinr) * _PER_LN2)
