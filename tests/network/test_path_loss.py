"""Path loss of 3GPP TR 38.901, by hand, and what its formulas ask of a scenario."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rllib_mec.errors import MecError
from rllib_mec.network.path_loss import (
    decorrelations_m,
    losses_db,
    mean_gains,
    more_loss_db,
    sight_probability,
    states,
    stds_db,
)
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.tr38901 import ENVIRONMENTS

LOG35 = math.log10(3.5)


def scenario_of(name, **fields):
    return Scenario(path_loss=name, distance_range_m=(10.0, 500.0), **fields)


# At 3.5 GHz, device at 1.5 m. d'_BP is 4 * 24 * 0.5 * 3.5e9 / 3e8 = 560 m in UMa, 210 m in UMi.
# (name, d_2D) -> d_3D, and loss with a line of sight and without.
BY_HAND = {
    ("uma", 100.0): (
        102.724, 28 + 22 * 2.011671 + 20 * LOG35, 13.54 + 39.08 * 2.011671 + 20 * LOG35,
    ),
    ("uma", 1000.0): (
        1000.276, 28 + 40 * 3.000120 + 20 * LOG35 - 9 * math.log10(560**2 + 23.5**2),
        13.54 + 39.08 * 3.000120 + 20 * LOG35,
    ),
    ("umi_street_canyon", 100.0): (
        100.361, 32.4 + 21 * 2.001564 + 20 * LOG35, 22.4 + 35.3 * 2.001564 + 21.3 * LOG35,
    ),
    ("umi_street_canyon", 400.0): (
        400.090, 32.4 + 40 * 2.602158 + 20 * LOG35 - 9.5 * math.log10(210**2 + 8.5**2),
        22.4 + 35.3 * 2.602158 + 21.3 * LOG35,
    ),
    # Both antennas at 1.5 m: d_3D is d_2D.
    ("inf_sl", 10.0): (10.0, 31.84 + 21.5 + 19 * LOG35, 33 + 25.5 + 20 * LOG35),
    ("inf_sl", 200.0): (
        200.0, 31.84 + 21.5 * 2.301030 + 19 * LOG35, 33 + 25.5 * 2.301030 + 20 * LOG35,
    ),
    # Near the base station the dense clutter's line, 18.6 + 35.7, is below the sparse one's.
    ("inf_dl", 10.0): (10.0, 31.84 + 21.5 + 19 * LOG35, 33 + 25.5 + 20 * LOG35),
    ("inf_dl", 200.0): (
        200.0, 31.84 + 21.5 * 2.301030 + 19 * LOG35, 18.6 + 35.7 * 2.301030 + 20 * LOG35,
    ),
    # Base station at 8 m.
    ("inf_sh", 10.0): (
        11.927, 31.84 + 21.5 * 1.076531 + 19 * LOG35, 32.4 + 23 * 1.076531 + 20 * LOG35,
    ),
    ("inf_sh", 200.0): (
        200.106, 31.84 + 21.5 * 2.301259 + 19 * LOG35, 32.4 + 23 * 2.301259 + 20 * LOG35,
    ),
    ("inf_dh", 10.0): (
        11.927, 31.84 + 21.5 * 1.076531 + 19 * LOG35, 33.63 + 21.9 * 1.076531 + 20 * LOG35,
    ),
    ("inf_dh", 200.0): (
        200.106, 31.84 + 21.5 * 2.301259 + 19 * LOG35, 33.63 + 21.9 * 2.301259 + 20 * LOG35,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "distance_m"), BY_HAND)
def test_losses_by_hand(name, distance_m):
    _, los, nlos = BY_HAND[name, distance_m]
    found = losses_db(np.array([distance_m]), scenario_of(name))
    np.testing.assert_allclose(np.concatenate(found), [los, nlos], atol=1e-3)


def test_no_line_of_sight_never_loses_less():
    # UMi at 10 m: PL' = 22.4 + 35.3 * 1.118 + 21.3 * LOG35 is below the 32.4 + 21 * 1.118 + ...
    metres = np.geomspace(10.0, 500.0, 50)
    for name in ENVIRONMENTS:
        los, nlos = losses_db(metres, scenario_of(name))
        assert (nlos >= los).all() and (np.diff(los) > 0).all() and (np.diff(nlos) > 0).all()


def test_sight_by_hand():
    def sight(name, distance_m, **fields):
        return float(sight_probability(np.array([distance_m]), scenario_of(name, **fields))[0])

    for name, decay_m in (("uma", 63.0), ("umi_street_canyon", 36.0)):
        assert sight(name, 10.0) == sight(name, 18.0) == 1.0
        for metres in (36.0, 200.0):
            by_hand = 18 / metres + math.exp(-metres / decay_m) * (1 - 18 / metres)
            assert sight(name, metres) == pytest.approx(by_hand)
    # Sparse: things of 10 m on 20 % of the floor; dense: of 2 m on 60 %.
    for metres in (10.0, 100.0):
        sparse, dense = math.exp(-metres * 0.0223144), math.exp(-metres * 0.4581454)
        assert sight("inf_sl", metres) == pytest.approx(sparse, rel=1e-5)
        assert sight("inf_dl", metres) == pytest.approx(dense, rel=1e-5)
        # Seen from 8 m over clutter of 2 or 6 m: of the way (2 − 1.5)/6.5 or 4.5/6.5 is below it.
        assert sight("inf_sh", metres) == pytest.approx(sparse ** (0.5 / 6.5), rel=1e-4)
        assert sight("inf_dh", metres) == pytest.approx(dense ** (4.5 / 6.5), rel=1e-4)
    own = {"clutter_size_m": 5.0, "clutter_density": 0.5}
    assert sight("inf_sl", 10.0, **own) == pytest.approx(0.25)  # e^(−10 · ln 2 / 5)


def test_shadowing_is_the_tables_or_the_scenarios():
    stds = {name: stds_db(scenario_of(name)) for name in ENVIRONMENTS}
    assert stds == {
        "uma": (4.0, 6.0), "umi_street_canyon": (4.0, 7.82), "inf_sl": (4.3, 5.7),
        "inf_dl": (4.3, 7.2), "inf_sh": (4.3, 5.9), "inf_dh": (4.3, 4.0),
    }  # fmt: skip
    assert stds_db(scenario_of("uma", shadowing_std_db=3.0)) == (3.0, 3.0)
    assert decorrelations_m(scenario_of("uma")) == (37.0, 50.0, 50.0)
    assert decorrelations_m(scenario_of("umi_street_canyon")) == (10.0, 13.0, 50.0)
    assert decorrelations_m(scenario_of("inf_dl")) == (10.0, 10.0, 1.0)
    own = {"shadowing": "correlated", "decorrelation_distance_m": 7.0}
    assert decorrelations_m(scenario_of("uma", **own)) == (7.0, 7.0, 7.0)


def test_near_the_base_station_the_loss_is_that_of_where_the_formulas_begin():
    near, ten = (losses_db(np.array([d]), scenario_of("uma")) for d in (1.0, 10.0))
    np.testing.assert_array_equal(near, ten)
    low, one = (losses_db(np.array([d]), scenario_of("inf_sl")) for d in (0.2, 1.0))
    np.testing.assert_array_equal(low, one)


def test_farther_than_the_formulas_hold_is_refused_wherever_it_is_given():
    with pytest.raises(MecError, match=r"distance_range_m\[1\] must be at most 5000 m.*6000"):
        Scenario(path_loss="uma", distance_range_m=(10.0, 6000.0))
    with pytest.raises(MecError, match=r"at most 599.96 m, as far as path_loss 'inf_dh' holds"):
        Scenario(path_loss="inf_dh", distance_range_m=(1.0, 600.0))
    with pytest.raises(MecError, match="a distance must be at most 5000 m"):
        losses_db(np.array([20.0, 5001.0]), scenario_of("uma"))


def test_means_and_states():
    scenario = scenario_of("umi_street_canyon")
    gains, shares, stds = states(100.0, scenario)
    los, nlos = BY_HAND["umi_street_canyon", 100.0][1:]
    sight = 0.18 + math.exp(-100 / 36) * 0.82
    np.testing.assert_allclose(10 * np.log10(gains), [-los, -nlos], atol=1e-3)
    np.testing.assert_allclose(shares, [sight, 1 - sight])
    assert stds.tolist() == [4.0, 7.82]
    mean = sight * los + (1 - sight) * nlos
    metres = np.array([100.0])
    assert -10 * np.log10(mean_gains(metres, scenario))[0] == pytest.approx(mean, abs=1e-3)
    assert more_loss_db(metres, metres, scenario)[0] == 0.0
    paper = Scenario()
    assert more_loss_db(metres, 10.0, paper)[0] == pytest.approx(30.0)
    assert [each.tolist() for each in states(10.0, paper)] == [[pytest.approx(1e-3)], [1.0], [8.0]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path_loss": "umma"}, "unknown path_loss 'umma': did you mean 'uma'"),
        ({"path_loss": "uma", "device_height_m": 20.0}, r"device_height_m must lie in \[1.5, 13\]"),
        ({"path_loss": "uma", "base_station_height_m": 1.0}, "base_station_height_m must be at"),
        ({"path_loss": "uma", "carrier_frequency_hz": 3.5}, "carrier_frequency_hz must be at le"),
        ({"path_loss": "inf_sh", "clutter_height_m": 9.0}, "clutter_height_m: device_height_m <"),
        ({"path_loss": "inf_dh", "base_station_height_m": 5.0}, "base_station_height_m: device_h"),
        ({"path_loss": "inf_sl", "clutter_density": 1.0}, "clutter_density must be less than 1"),
        ({"path_loss": "inf_sl", "clutter_height_m": 3.0}, "clutter_height_m has no effect with"),
        ({"path_loss": "uma", "path_loss_exponent": 2.0}, "path_loss_exponent has no effect with"),
        ({"carrier_frequency_hz": 28e9}, "carrier_frequency_hz has no effect with path_loss 'pap"),
        ({"decorrelation_distance_m": 9.0}, "decorrelation_distance_m has no effect with shadowi"),
        ({"shadowing": "corelated"}, "unknown shadowing 'corelated': did you mean 'correlated'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(fields, message):
    with pytest.raises(MecError, match=f"^{message}") as raised:
        Scenario(**fields)
    assert "\n" not in str(raised.value)


def test_what_came_with_a_path_loss_follows_a_change_of_it():
    assert Scenario().shadowing_std_db == 8.0
    uma = Scenario().replace(path_loss="uma")
    assert uma == Scenario(path_loss="uma") and uma.shadowing_std_db is None
    assert uma.replace(path_loss="paper") == Scenario()
    assert Scenario(shadowing_std_db=3.0).replace(path_loss="uma").shadowing_std_db == 3.0
