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
from rllib_mec.network.radio import channel_gain
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.streams import (
    DISTANCE,
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
    episode_keys: np.ndarray = None  # type: ignore[assignment]
    time_ms: np.ndarray = None  # type: ignore[assignment]

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

    @property
    def of_episode(self) -> Draw:
        """The numbers of the worlds' episodes, the same in each of their steps."""
        return dataclasses.replace(self, keys=self.episode_keys)

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
    """d_k, the distance of every MD to the base station: uniform, anew in every step.

    Args:
        draw: Of the step.
        scenario: Gives the range.

    Returns:
        ``(B, N)``, m.
    """
    low, high = scenario.distance_range_m
    return low + (high - low) * draw.uniform(DISTANCE)


def draw_gains(draw: Draw, distances_m: np.ndarray, scenario: Scenario) -> np.ndarray:
    """G_n, the channel gain of every MD: path loss times log-normal shadowing, anew in every step.

    Args:
        draw: Of the step.
        distances_m: ``(B, N)``, m.
        scenario: Gives path loss and shadowing.

    Returns:
        ``(B, N)``.
    """
    shadowing_db = np.zeros(distances_m.shape)
    if scenario.shadowing_std_db > 0.0:
        shadowing_db = scenario.shadowing_std_db * draw.normal(SHADOWING + 2 * draw.sample)
    return _gains(
        distances_m, shadowing_db, scenario.reference_distance_m, scenario.path_loss_exponent
    )


@compiled
def _gains(distances_m, shadowing_db, reference_m, exponent):
    num_envs, num_devices = distances_m.shape
    gains = np.empty((num_envs, num_devices))
    for b in range(num_envs):
        for n in range(num_devices):
            gains[b, n] = channel_gain(distances_m[b, n], shadowing_db[b, n], reference_m, exponent)
    return gains
