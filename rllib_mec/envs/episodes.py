"""Whole episodes of a batch of worlds, and the paper's metrics of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.step import VectorStep, point_share
from rllib_mec.envs.task_window import as_mdp
from rllib_mec.network.checks import whole_number
from rllib_mec.network.mobility import moves
from rllib_mec.network.scenario import Scenario

EVALUATION_DISTANCE_M = 50.0
"""Distance of every MD to the base station in the paper's performance tests (Section V-A)."""


def usual_distance_m(scenario: Scenario) -> float:
    """Distance of an MD that stays: the paper's on its range, else the range's mean.

    Args:
        scenario: Says between which distances policies are trained.
    """
    if scenario.distance_range_m == Scenario.distance_range_m:
        return EVALUATION_DISTANCE_M
    return sum(scenario.distance_range_m) / 2


def evaluation_distance_m(scenario: Scenario) -> float | None:
    """Where every MD stays in an evaluation; ``None`` where MDs move, as they then do there too.

    Args:
        scenario: Says how they move.
    """
    return None if moves(scenario) else usual_distance_m(scenario)


_Values = TypeVar("_Values", float, np.ndarray)

Decide = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Maps observations of B worlds to actions of :meth:`~rllib_mec.envs.VectorEnv.step`."""


def total_cost(
    latency_ms: _Values, energy_j: _Values, tasks: _Values, energy_weight: float
) -> _Values:
    """What a user pays for an episode, Eq. (4): total latency + β/N · total energy, in ms.

    Unlike the reward it weighs every task the same, however the tasks are cut into windows or
    slots. Where MDs wait for each other the waits are part of the latency, as in Eq. (11).

    Args:
        latency_ms: Total inference latency of an episode.
        energy_j: Average energy of a task.
        tasks: Mean number of tasks of an MD: N cancels.
        energy_weight: β.

    Returns:
        The cost, of the arguments' common shape.
    """
    return latency_ms + energy_weight * energy_j * tasks


@dataclasses.dataclass(frozen=True)
class EpisodeMetrics:
    """Metrics of finished episodes, one entry each, shape ``(num_episodes,)`` unless said.

    Attributes:
        reward: Mean reward of the episode's task windows (Eq. 8).
        episode_return: Sum of the rewards.
        latency_ms: Total inference latency: the sum of the windows' latencies.
        energy_j: Average energy of a task.
        waiting_ms: Average waiting time of a task: the windows' waiting times over the mean
            number of tasks of an MD.
        window_size: Mean task window W_k.
        num_windows: Task windows of the episode.
        point_tasks: Tasks done at each partition point, ``(num_episodes, S)``; the last is full
            local.
        measured: What the MDP measures besides, by name; NaN where there was nothing to measure.
    """

    reward: np.ndarray
    episode_return: np.ndarray
    latency_ms: np.ndarray
    energy_j: np.ndarray
    waiting_ms: np.ndarray
    window_size: np.ndarray
    num_windows: np.ndarray
    point_tasks: np.ndarray
    measured: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.reward)

    @property
    def point_share(self) -> np.ndarray:
        """Share of an episode's tasks done at each partition point, ``(num_episodes, S)``."""
        return point_share(self.point_tasks)

    @property
    def local_share(self) -> np.ndarray:
        """Share of an episode's tasks run fully on their MD."""
        return self.point_share[:, -1]

    def cost(self, energy_weight: float) -> np.ndarray:
        """Eq. (4) of each episode, ``(num_episodes,)``, ms; see :func:`total_cost`.

        Args:
            energy_weight: β.
        """
        tasks = self.window_size * self.num_windows
        return total_cost(self.latency_ms, self.energy_j, tasks, energy_weight)

    @classmethod
    def concatenate(cls, parts: list[EpisodeMetrics]) -> EpisodeMetrics:
        """The episodes of all ``parts``, in their order.

        Args:
            parts: Not empty.
        """
        of_one = [part.columns() for part in parts]
        joined = {name: np.concatenate([own[name] for own in of_one]) for name in of_one[0]}
        return cls.of_columns(joined)

    def columns(self) -> dict[str, np.ndarray]:
        """All metrics by name, those measured besides too."""
        return {**{name: getattr(self, name) for name in _OWN}, **self.measured}

    @classmethod
    def of_columns(cls, columns: Mapping[str, np.ndarray]) -> EpisodeMetrics:
        """The inverse of :meth:`columns`.

        Args:
            columns: All metrics by name.
        """
        own = {name: columns[name] for name in _OWN}
        return cls(**own, measured={k: v for k, v in columns.items() if k not in own})


_OWN = tuple(f.name for f in dataclasses.fields(EpisodeMetrics) if f.name != "measured")


class EpisodeTally:
    """Adds up the steps of a batch of worlds and turns finished episodes into metrics.

    Args:
        num_envs: B.
        num_devices: N.
        num_points: S.
    """

    _OF_A_STEP = ("reward", "latency_ms", "energy_j", "waiting_ms", "point_tasks")

    def __init__(self, num_envs: int, num_devices: int, num_points: int):
        """Start with nothing tallied."""
        self._num_devices = num_devices
        names = (*self._OF_A_STEP, "windows")
        self._sums: dict[str, np.ndarray] = {name: np.zeros(num_envs) for name in names}
        self._sums["point_tasks"] = np.zeros((num_envs, num_points))

    def add(self, step: VectorStep) -> EpisodeMetrics:
        """Add one step of all worlds.

        Args:
            step: What it gave.

        Returns:
            The metrics of the episodes that this step ended, maybe none.
        """
        sums = self._sums
        for name in self._OF_A_STEP:
            sums[name] += getattr(step, name)
        sums["windows"] += 1
        is_over = step.ended
        ended = {name: values[is_over] for name, values in sums.items()}
        for values in sums.values():
            values[is_over] = 0.0
        tasks = ended["point_tasks"].sum(1)
        each = np.maximum(tasks, 1)  # where tasks arrive, an episode may have done none
        return EpisodeMetrics(
            reward=ended["reward"] / ended["windows"],
            episode_return=ended["reward"],
            latency_ms=ended["latency_ms"],
            energy_j=ended["energy_j"] / each,
            waiting_ms=ended["waiting_ms"] * self._num_devices / each,
            window_size=tasks / self._num_devices / ended["windows"],
            num_windows=ended["windows"],
            point_tasks=ended["point_tasks"],
            measured=step.measured or {},
        )

    def get_state(self) -> dict[str, np.ndarray]:
        """What has been added up for the running episodes."""
        return {name: values.copy() for name, values in self._sums.items()}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from :meth:`get_state`.

        Args:
            state: Of as many worlds.
        """
        self._sums = {name: np.array(state[name]) for name in self._sums}


def run_episodes(
    decide: Decide,
    where: MDP | Scenario,
    num_episodes: int,
    *,
    seed: int = 0,
    num_tasks: int | Sequence[int] | None = None,
    distance_m: float | Sequence[float] | None = None,
    num_threads: int = 1,
) -> EpisodeMetrics:
    """Run each of ``num_episodes`` worlds for exactly one episode.

    Stopping at the first K finished episodes of fewer worlds would favour short ones. Episode i
    depends on ``seed`` and i alone, so that policies are compared on the same channels.

    Args:
        decide: The policy.
        where: The worlds' MDP; a scenario stands for its task-window MDP.
        num_episodes: Number of episodes.
        seed: Seed of the worlds.
        num_tasks: Tasks of every MD, or of each; drawn if ``None``.
        distance_m: Distance of every MD to the base station, or of each; drawn if ``None``.
        num_threads: Threads that the physics of the worlds is spread over.

    Returns:
        The metrics, in the order of the worlds.
    """
    mdp = as_mdp(where)
    fixed: dict[str, Any] = {"num_tasks": num_tasks, "distance_m": distance_m}
    worlds = mdp.make(num_episodes, seed, **fixed)
    worlds.num_threads = whole_number("num_threads", num_threads)
    tally = EpisodeTally(num_episodes, mdp.scenario.num_devices, worlds.num_points)
    running = np.ones(num_episodes, dtype=bool)
    records: list[tuple[np.ndarray, EpisodeMetrics]] = []
    observation = worlds.reset()
    while running.any():
        step = worlds.step(decide(observation))
        observation = step.observation
        ended = tally.add(step)
        first = running[step.ended]  # worlds go on; only their first episode counts
        records.append((np.flatnonzero(step.ended)[first], _select(ended, first)))
        running &= ~step.ended
    order = np.argsort(np.concatenate([worlds for worlds, _ in records]))
    return _select(EpisodeMetrics.concatenate([metrics for _, metrics in records]), order)


def _select(metrics: EpisodeMetrics, index: np.ndarray) -> EpisodeMetrics:
    return EpisodeMetrics.of_columns({k: v[index] for k, v in metrics.columns().items()})
