"""The random streams: right distributions, and no draw depends on another."""

from __future__ import annotations

import numpy as np
import pytest

from rllib_mec.errors import MecError
from rllib_mec.network.streams import (
    DISTANCE,
    SHADOWING,
    episode_key,
    fold,
    normal,
    poisson,
    uniform,
    world_seeds,
)


def key_of(seed, episode, window):
    # casts: a bare int above 2**63 is no int64
    return np.uint64(fold(np.uint64(episode_key(seed, episode)), window))


def draws(function, purpose, count=20_000):
    return np.array([function(key_of(7, 0, i // 4), i % 4, purpose) for i in range(count)])


def test_uniform_draws_are_uniform_and_uncorrelated():
    u = draws(uniform, DISTANCE)
    assert ((u > 0) & (u < 1)).all()
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    assert ((counts - 1000.0) ** 2 / 1000.0).sum() < 43.8  # χ² of 19 degrees, 0.1 %
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.03
    assert abs(np.corrcoef(u, draws(uniform, SHADOWING))[0, 1]) < 0.03


def test_normal_draws_are_standard_normal():
    z = draws(normal, SHADOWING)
    assert z.mean() == pytest.approx(0.0, abs=0.03)
    assert z.std() == pytest.approx(1.0, abs=0.03)
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.05, abs=0.006)


def test_poisson_draws_have_the_mean_and_variance():
    tasks = poisson(50.0, draws(uniform, DISTANCE))
    assert tasks.mean() == pytest.approx(50.0, abs=0.3)
    assert tasks.var() == pytest.approx(50.0, rel=0.05)
    assert poisson(50.0, np.array(1.0)) < 150  # the rarest draw is still a sensible number


def test_every_part_of_the_key_matters():
    keys = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0), (2, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1)]
    values = {uniform(key_of(*key), n, p) for key in keys for n in range(8) for p in range(8)}
    assert len(values) == len(keys) * 64


def test_seeds_of_a_batch():
    assert world_seeds(5, 3).tolist() == [5, 6, 7]
    assert world_seeds([9, 1], 2).tolist() == [9, 1]
    assert world_seeds(2**63 + 1, 1).tolist() == [2**63 + 1]


@pytest.mark.parametrize("seed", [-1, 1.5, "a", [1, 2], [-1, 2, 3], True, None, 2**64])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(MecError, match="seed"):
        world_seeds(seed, 3)
