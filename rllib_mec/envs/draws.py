"""What an episode draws: queues at its start, distances and channel gains of every step.

Draws are counter-based: they depend on the world's seed, the episode and the step, and on nothing
that was decided. A law of a user's own takes its numbers from the :class:`Draw` that it is given.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.network import path_loss, places, shadowing
from rllib_mec.network.checks import OPEN
from rllib_mec.network.defaults import CORRELATED
from rllib_mec.network.radio import channel_gain
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.streams import (
    SHADOWING,
    TASKS,
    episode_key,
    fold,
    normal,
    poisson,
    uniform,
)

_OWN = 1 << 40
"""Purposes from here on belong to laws of a user's own."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """Random numbers of one step of B worlds; the same question has the same answer.

    Attributes:
        keys: Key of each world's step, ``(B,)`` uint64.
        num_devices: N.
        sample: 0 for what the step really has, any other for an independent draw of its shadowing.
        episode_keys: Key of each world's episode, ``(B,)`` uint64: for what goes on from step to
            step (default: those of the steps, as if each were an episode of its own).
        time_ms: When the step begins, since the episode's start, ``(B,)`` (default: then).
    """

    keys: np.ndarray
    num_devices: int
    sample: int = 0
    episode_keys: np.ndarray = OPEN
    time_ms: np.ndarray = OPEN

    def __post_init__(self) -> None:
        """Fill in what was left open."""
        if self.episode_keys is None:
            object.__setattr__(self, "episode_keys", self.keys)
        if self.time_ms is None:
            object.__setattr__(self, "time_ms", np.zeros(len(self.keys)))

    @classmethod
    def at(
        cls, seeds: np.ndarray, counters: np.ndarray, time_ms: np.ndarray, num_devices: int,
        sample: int = 0,
    ) -> Draw:  # fmt: skip
        """The random numbers of the steps that worlds are at.

        Args:
            seeds: Of the worlds, ``(B,)`` uint64.
            counters: Episode and step of each world, ``(B, 2)`` int64.
            time_ms: When the steps begin, since their episodes' starts, ``(B,)``.
            num_devices: N.
            sample: See the class.
        """
        keys, episode_keys = step_keys(seeds, counters)
        return cls(keys, num_devices, sample, episode_keys, time_ms)

    def uniform(self, purpose: str | int) -> np.ndarray:
        """Numbers in (0, 1), ``(B, N)``.

        Args:
            purpose: What for, in a word of your own; each word has independent numbers.
        """
        return _uniforms(self.keys, self.num_devices, _number_of(purpose))

    def normal(self, purpose: str | int) -> np.ndarray:
        """Standard normal numbers, ``(B, N)``.

        Args:
            purpose: As in :meth:`uniform`.
        """
        return _normals(self.keys, self.num_devices, _number_of(purpose))


@functools.cache
def _number_of(purpose: str | int) -> int:
    """A purpose as the streams count them; a normal number takes two in a row."""
    return purpose if isinstance(purpose, int) else _OWN + 2 * zlib.crc32(purpose.encode())


@compiled
def step_keys(seeds, counters):
    """Keys of the steps that worlds are at, and of their episodes, each ``(B,)`` uint64.

    Args:
        seeds: Of the worlds, ``(B,)`` uint64.
        counters: Episode and step of each world, ``(B, 2)`` int64.
    """
    keys, episode_keys = np.empty(len(seeds), np.uint64), np.empty(len(seeds), np.uint64)
    for b in range(len(seeds)):
        episode_keys[b] = episode_key(seeds[b], counters[b, 0])
        keys[b] = fold(episode_keys[b], counters[b, 1])
    return keys, episode_keys


@compiled
def _uniforms(keys, num_devices, purpose):
    values = np.empty((len(keys), num_devices))
    for b in range(len(keys)):
        for n in range(num_devices):
            values[b, n] = uniform(keys[b], n, purpose)
    return values


@compiled
def _normals(keys, num_devices, purpose):
    values = np.empty((len(keys), num_devices))
    for b in range(len(keys)):
        for n in range(num_devices):
            values[b, n] = normal(keys[b], n, purpose)
    return values


def draw_tasks(draw: Draw, scenario: Scenario) -> np.ndarray:
    """X_0, the tasks of every MD: Poisson with mean λ, at least one each.

    Args:
        draw: Of the episode's first step.
        scenario: Gives λ.

    Returns:
        ``(B, N)`` int64.
    """
    drawn = draw.uniform(TASKS)
    mean_tasks = scenario.of_devices("mean_tasks")
    tasks = np.empty(drawn.shape, dtype=np.int64)
    for mean in set(mean_tasks.tolist()):
        own = mean_tasks == mean
        tasks[:, own] = poisson(mean, drawn[:, own])
    return np.maximum(tasks, 1)


def draw_distances(draw: Draw, scenario: Scenario) -> np.ndarray:
    """d_k, the distance of every MD to the base station: drawn in every step, or as they move.

    Args:
        draw: Of the step.
        scenario: Gives the range, and how MDs move.

    Returns:
        ``(B, N)``, m.
    """
    return _places(draw, scenario)[0]


def _places(draw: Draw, scenario: Scenario) -> places.Places:
    return places.places(scenario, draw.keys, draw.episode_keys, draw.time_ms)


def draw_gains(draw: Draw, distances_m: np.ndarray, scenario: Scenario) -> np.ndarray:
    """G_n, the channel gain of every MD: path loss times log-normal shadowing.

    Shadowing, and whether there is a line of sight, are drawn anew in every step, or belong to the
    place: at the given distance, in the direction in which the MD is.

    Args:
        draw: Of the step.
        distances_m: ``(B, N)``, m.
        scenario: Gives path loss and shadowing.

    Returns:
        ``(B, N)``.
    """
    own_m, others_m, sight_m = path_loss.decorrelations_m(scenario)
    drawn = _Shadowing(draw, distances_m, scenario)
    if scenario.path_loss == path_loss.PAPER:
        shadowing_db = np.zeros(distances_m.shape)
        if scenario.shadowing_std_db > 0.0:
            shadowing_db = scenario.shadowing_std_db * drawn.normal(own_m)
        return _gains(
            distances_m, shadowing_db, scenario.reference_distance_m, scenario.path_loss_exponent
        )
    has_sight = drawn.uniform(sight_m) < path_loss.sight_probability(distances_m, scenario)
    losses_db = np.where(has_sight, *path_loss.losses_db(distances_m, scenario))
    stds_db = np.where(has_sight, *path_loss.stds_db(scenario))
    gains_db = stds_db * drawn.normal(np.where(has_sight, own_m, others_m)) - losses_db
    return 10.0 ** (gains_db / 10.0)


class _Shadowing:
    """Numbers that are drawn anew in a step, or belong to places."""

    def __init__(self, draw: Draw, distances_m: np.ndarray, scenario: Scenario):
        self._draw, self._at = draw, None
        if scenario.shadowing == CORRELATED:
            directions = _places(draw, scenario)[1]
            self._at = distances_m * np.cos(directions), distances_m * np.sin(directions)

    def normal(self, decorrelation_m: float | np.ndarray) -> np.ndarray:
        """Of the shadowing, ``(B, N)``."""
        if self._at is None:
            return self._draw.normal(SHADOWING + 2 * self._draw.sample)
        return self._field(shadowing.SHADOWING, decorrelation_m)

    def uniform(self, decorrelation_m: float) -> np.ndarray:
        """Of the line of sight, ``(B, N)``."""
        draw = self._draw
        if self._at is None:
            return shadowing.sight_draws(draw.keys, draw.sample, draw.num_devices)
        from scipy.special import ndtr

        return ndtr(self._field(shadowing.SIGHT, decorrelation_m))

    def _field(self, purpose: int, decorrelation_m: float | np.ndarray) -> np.ndarray:
        assert self._at is not None
        x_m, y_m = self._at
        each_m = np.broadcast_to(decorrelation_m, x_m.shape).astype(float)
        return shadowing.field(
            self._draw.episode_keys, self._draw.sample, purpose, x_m, y_m, each_m
        )


@compiled
def _gains(distances_m, shadowing_db, reference_m, exponent):
    num_envs, num_devices = distances_m.shape
    gains = np.empty((num_envs, num_devices))
    for b in range(num_envs):
        for n in range(num_devices):
            gains[b, n] = channel_gain(distances_m[b, n], shadowing_db[b, n], reference_m, exponent)
    return gains
