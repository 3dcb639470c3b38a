"""Power, gain and rate, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rllib_mec.envs.actions import action_of_dbm, action_of_w, power_w
from rllib_mec.network.radio import channel_gain, rate_bps
from rllib_mec.network.scenario import Scenario


def test_the_dbm_scale_runs_from_0_dbm_to_the_limit():
    watts = power_w(np.array([0.0, 1 / 3, 0.5, 1.0]), Scenario())
    assert watts == pytest.approx([0.001, 0.01, 10**-1.5, 1.0])


def test_the_linear_scale_ends_at_the_limit_and_is_never_zero():
    watts = power_w(np.array([0.0, 0.5, 1.0]), Scenario(profile="si", power_scale="linear"))
    assert watts[1:] == pytest.approx([10**2.3 / 2000, 10**2.3 / 1000])
    assert watts[0] > 0.0


@pytest.mark.parametrize("scale", ["dbm", "linear"])
@pytest.mark.parametrize("profile", ["paper", "si"])
def test_actions_and_powers_are_inverse_in_w_and_in_dbm(scale, profile):
    scenario = Scenario(profile=profile, power_scale=scale)
    for action in (0.01, 0.3, 1.0):
        watts = float(power_w(np.array(action), scenario))
        assert action_of_w(watts, scenario) == pytest.approx(action)
        power_dbm = np.array(10.0 * math.log10(1000.0 * watts))
        assert action_of_dbm(power_dbm, scenario) == pytest.approx(action)


def test_gain_is_path_loss_times_shadowing():
    assert channel_gain(50.0, 0.0, 1.0, 3.0) == pytest.approx(8e-6)
    assert channel_gain(10.0, -20.0, 2.0, 2.0) == pytest.approx(0.04 * 0.01)


def test_rate_is_shannons_above_the_floor():
    # 20 mW at 50 m: 160 nW over 1 nW of noise.
    floor = 0.1523
    least = 2**floor - 1
    radio = (1e6, 1e-9, floor, least)
    rate = rate_bps(0.02 * 8e-6, 0.0, *radio)
    assert rate == pytest.approx(1e6 * math.log2(161.0))
    assert rate_bps(3e-9, 2e-9, *radio) == pytest.approx(1e6)
    assert rate_bps(1e-15, 0.0, *radio) == pytest.approx(152300.0)
    # The floor and Shannon's formula meet.
    assert rate_bps(least * 1.000001e-9, 0.0, *radio) == pytest.approx(152300.0, rel=1e-5)
