"""Path loss and line of sight of 3GPP TR 38.901 (V16.1.0).

Loss and standard deviation of the shadowing are those of Table 7.4.1-1, the probability of a line
of sight that of Table 7.4.2-1; the distances over which shadowing and line of sight change those of
Tables 7.5-6 and 7.6.3.1-2.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

OUTDOOR_SIGHT_M = 50.0
"""Decorrelation distance of the line of sight; in a factory it is half a thing's size."""

_LIGHT_MPS = 3e8
_GROUND_M = 1.0  # effective height of the environment
_MOST_UMA_DEVICE_M = 13.0  # above it the report draws that height

Losses = tuple[np.ndarray, np.ndarray]
"""dB, with a line of sight and without, of the distances' shape."""


class Clutter(NamedTuple):
    """What stands in a factory.

    Attributes:
        size_m: Of a thing.
        density: Share of the floor that is covered.
        height_m: Of a thing.
    """

    size_m: float
    density: float
    height_m: float


@dataclasses.dataclass(frozen=True)
class Environment:
    """A row of the report's tables.

    Attributes:
        losses_db: Loss of distances on the ground and in space, m, for a carrier, GHz, and heights
            of base station and device, m.
        sight: Probability of a line of sight at distances on the ground, for these heights and what
            stands in the factory.
        std_db: Of the shadowing, with a line of sight and without.
        decorrelation_m: Of the shadowing, likewise.
        range_m: Distances for which the formulas hold: on the ground outdoors, else in space.
        base_station_height_m: The usual one.
        device_height_m: Least and largest.
        clutter: The usual one; ``None`` outdoors.
        is_high: Whether the base station stands above the clutter.
    """

    losses_db: Callable[[np.ndarray, np.ndarray, float, float, float], Losses]
    sight: Callable[[np.ndarray, float, float, Clutter], np.ndarray]
    std_db: tuple[float, float]
    decorrelation_m: tuple[float, float]
    range_m: tuple[float, float]
    base_station_height_m: float
    device_height_m: tuple[float, float]
    clutter: Clutter | None = None
    is_high: bool = False


def _two_slopes(
    d2: np.ndarray,
    pl1: np.ndarray,
    pl2: np.ndarray,
    weight: float,
    heights: tuple[float, float],
    fc: float,
) -> np.ndarray:
    """PL1 up to the breakpoint d'_BP; from there on PL2, given without its last term."""
    bs, ut = heights
    breakpoint_m = 4.0 * (bs - _GROUND_M) * (ut - _GROUND_M) * fc * 1e9 / _LIGHT_MPS
    last = weight * math.log10(breakpoint_m**2 + (bs - ut) ** 2)
    return np.where(d2 <= breakpoint_m, pl1, pl2 - last)


def _uma(d2: np.ndarray, d3: np.ndarray, fc: float, bs: float, ut: float) -> Losses:
    log_d, log_f = np.log10(d3), math.log10(fc)
    near = 28.0 + 22.0 * log_d + 20.0 * log_f
    far = 28.0 + 40.0 * log_d + 20.0 * log_f
    los = _two_slopes(d2, near, far, 9.0, (bs, ut), fc)
    nlos = 13.54 + 39.08 * log_d + 20.0 * log_f - 0.6 * (ut - 1.5)
    return los, np.maximum(los, nlos)


def _umi(d2: np.ndarray, d3: np.ndarray, fc: float, bs: float, ut: float) -> Losses:
    log_d, log_f = np.log10(d3), math.log10(fc)
    near = 32.4 + 21.0 * log_d + 20.0 * log_f
    far = 32.4 + 40.0 * log_d + 20.0 * log_f
    los = _two_slopes(d2, near, far, 9.5, (bs, ut), fc)
    nlos = 22.4 + 35.3 * log_d + 21.3 * log_f - 0.3 * (ut - 1.5)
    return los, np.maximum(los, nlos)


def _inf(*rows: tuple[float, float]) -> Callable[..., Losses]:
    """Of a factory: the largest of rows ``(constant, slope)``, and no less than with sight."""

    def losses_db(_: np.ndarray, d3: np.ndarray, fc: float, *heights: float) -> Losses:
        log_d, log_f = np.log10(d3), math.log10(fc)
        los = 31.84 + 21.5 * log_d + 19.0 * log_f
        nlos = [constant + slope * log_d + 20.0 * log_f for constant, slope in rows]
        return los, np.maximum.reduce([los, *nlos])

    return losses_db


def _street(decay_m: float) -> Callable[..., np.ndarray]:
    """Outdoors: certain up to 18 m."""

    def sight(d2: np.ndarray, *_: object) -> np.ndarray:
        near = np.minimum(18.0 / d2, 1.0)
        return near + np.exp(-d2 / decay_m) * (1.0 - near)

    return sight


def _below_clutter(d2: np.ndarray, bs: float, ut: float, clutter: Clutter) -> np.ndarray:
    return np.exp(d2 * math.log(1.0 - clutter.density) / clutter.size_m)


def _above_clutter(d2: np.ndarray, bs: float, ut: float, clutter: Clutter) -> np.ndarray:
    return _below_clutter(d2 * (clutter.height_m - ut) / (bs - ut), bs, ut, clutter)


def _factory(
    rows: list[tuple[float, float]], nlos_std_db: float, clutter: Clutter, is_high: bool
) -> Environment:
    # Heights and clutter are those of the report's calibration, Table 7.8-7.
    return Environment(
        losses_db=_inf(*rows),
        sight=_above_clutter if is_high else _below_clutter,
        std_db=(4.3, nlos_std_db),
        decorrelation_m=(10.0, 10.0),
        range_m=(1.0, 600.0),
        base_station_height_m=8.0 if is_high else 1.5,
        device_height_m=(0.1, 100.0),
        clutter=clutter,
        is_high=is_high,
    )


_SPARSE, _DENSE = Clutter(10.0, 0.2, 2.0), Clutter(2.0, 0.6, 6.0)
_INF_SL = (33.0, 25.5)

ENVIRONMENTS: dict[str, Environment] = {
    "uma": Environment(
        _uma, _street(63.0), (4.0, 6.0), (37.0, 50.0), (10.0, 5000.0), 25.0,
        (1.5, _MOST_UMA_DEVICE_M),
    ),
    "umi_street_canyon": Environment(
        _umi, _street(36.0), (4.0, 7.82), (10.0, 13.0), (10.0, 5000.0), 10.0, (1.5, 22.5)
    ),
    "inf_sl": _factory([_INF_SL], 5.7, _SPARSE, False),
    "inf_dl": _factory([(18.6, 35.7), _INF_SL], 7.2, _DENSE, False),
    "inf_sh": _factory([(32.4, 23.0)], 5.9, _SPARSE, True),
    "inf_dh": _factory([(33.63, 21.9)], 4.0, _DENSE, True),
}  # fmt: skip
"""Name of a path loss of the report -> its rows."""
