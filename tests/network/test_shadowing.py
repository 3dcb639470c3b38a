"""Shadowing that goes with the place: its spread, and how it decays with distance."""

from __future__ import annotations

import numpy as np
import pytest

from rllib_mec.network.shadowing import SHADOWING, SIGHT, field

KEYS = np.random.default_rng(0).integers(0, 1 << 63, 20_000, dtype=np.uint64)
APART_M = np.array([0.0, 1.0, 5.0, 13.0, 30.0, 100.0])


def along(direction, keys=KEYS, at_m=40.0, decorrelation_m=13.0, sample=0, purpose=SHADOWING):
    """Of places on a line from one, ``(keys, places)``."""
    x, y = (at_m + f(direction) * APART_M for f in (np.cos, np.sin))
    shape = (len(keys), len(APART_M))
    places = np.tile(x, (len(keys), 1)), np.tile(y, (len(keys), 1))
    return field(keys, sample, purpose, *places, np.full(shape, decorrelation_m))


@pytest.mark.parametrize("direction", [0.0, 1.0, 2.5])
def test_it_decays_exponentially_in_all_directions(direction):
    values = along(direction)
    products = values[:, :1] * values
    error = products.std(0) / len(KEYS) ** 0.5
    assert (np.abs(products.mean(0) - np.exp(-APART_M / 13.0)) < 4.5 * error).all()


def test_it_is_nearly_standard_normal():
    values = along(0.0)[:, -1]
    assert values.mean() == pytest.approx(0.0, abs=4.5 / len(KEYS) ** 0.5)
    assert values.std() == pytest.approx(1.0, abs=4.5 * 0.5**0.5 / len(KEYS) ** 0.5)
    shares = [(values < z).mean() for z in (-1.6449, -0.6745, 0.6745, 1.6449)]
    np.testing.assert_allclose(shares, [0.05, 0.25, 0.75, 0.95], atol=0.015)


def test_each_episodes_own_map_decays_likewise():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0.0, 2000.0, (2, 1, 20_000))
    angle = rng.uniform(0.0, 2 * np.pi, x.shape)
    d = np.full(x.shape, 13.0)
    for key in KEYS[:4]:
        here = field(np.array([key]), 0, SHADOWING, x, y, d)
        for apart in (2.0, 13.0):
            there = x + apart * np.cos(angle), y + apart * np.sin(angle)
            found = (here * field(np.array([key]), 0, SHADOWING, *there, d)).mean()
            assert found / (here**2).mean() == pytest.approx(np.exp(-apart / 13.0), abs=0.1)


def test_samples_purposes_and_episodes_have_nothing_in_common():
    here = along(0.0)[:, 0]
    others = (
        along(0.0, sample=1)[:, 0], along(0.0, purpose=SIGHT)[:, 0], np.roll(here, 1),
    )  # fmt: skip
    for other in others:
        assert np.corrcoef(here, other)[0, 1] == pytest.approx(0.0, abs=4.5 / len(KEYS) ** 0.5)


def test_a_place_has_its_value_whoever_stands_there_in_whatever_batch():
    some = along(1.0, KEYS[:7])
    np.testing.assert_array_equal(along(1.0, KEYS[3:4])[0], some[3])
    np.testing.assert_array_equal(some, along(1.0, KEYS[:7]))
