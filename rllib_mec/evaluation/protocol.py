"""One protocol for every policy: the paper's metrics over seeded episodes, with intervals.

As in Section V-A, every MD has the mean number of tasks (50) and stands at 50 m, or at the mean of
another range of distances, while shadowing stays on; but where MDs move, they move there too. Other
queues and distances can be set, or drawn as in training. Episode i has the same channels for every
policy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_mec.envs.episodes import (
    EpisodeMetrics,
    evaluation_distance_m,
    run_episodes,
)
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.task_window import as_mdp
from rllib_mec.errors import MecError
from rllib_mec.evaluation.interval import Interval
from rllib_mec.network.checks import whole_number
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies.planner.library import has_plans_of_sets
from rllib_mec.policies.policy import Policy

METRICS = ("reward", "cost", "latency_ms", "energy_j", "waiting_ms", "window_size", "local_share")
"""The metrics of :class:`~rllib_mec.envs.episodes.EpisodeMetrics`; ``cost`` is Eq. (4)."""

COSTS = ("reward", "cost", "latency_ms", "energy_j")
"""What policies are compared by: with the optimality gap, and the paper's numbers."""

NUM_EPISODES = 200


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a policy achieved.

    Attributes:
        policy: Its name.
        mdp: What it was evaluated on.
        num_tasks: Tasks of every MD, or of each; ``None`` where they were drawn.
        distance_m: Distance of every MD to the base station, or of each; ``None`` where they were
            drawn, or MDs moved.
        seed: Seed of the episodes.
        episodes: Metrics of each episode.
    """

    policy: str
    mdp: MDP
    num_tasks: int | tuple[int, ...] | None
    distance_m: float | tuple[float, ...] | None
    seed: int
    episodes: EpisodeMetrics

    @property
    def scenario(self) -> Scenario:
        """The scenario it was evaluated on."""
        return self.mdp.scenario

    @property
    def point_share(self) -> np.ndarray:
        """Share of an episode's tasks cut at each partition point, on average, ``(S,)``.

        The last is full local, the mean of ``local_share``.
        """
        return self.episodes.point_share.mean(0)

    @property
    def metrics(self) -> tuple[str, ...]:
        """:data:`METRICS`, and what the MDP measures besides."""
        return (*METRICS, *self.mdp.measures)

    def __getitem__(self, metric: str) -> Interval:
        """The interval of one of :attr:`metrics` over the episodes that have it."""
        if metric == "cost":
            return Interval.of(self.episodes.cost(self.scenario.energy_weight))
        if metric in METRICS:
            return Interval.of(getattr(self.episodes, metric))
        values = self.episodes.measured[metric]
        return Interval.of(values[np.isfinite(values)])

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return {
            "policy": self.policy,
            **setting_of(self.mdp, self.num_tasks, self.distance_m),
            "seed": self.seed,
            "episodes": len(self.episodes),
            **{metric: self[metric].to_dict() for metric in self.metrics},
            "point_share": self.point_share.tolist(),
        }


def evaluate(
    policy: Policy,
    where: MDP | Scenario | None = None,
    *,
    episodes: int = NUM_EPISODES,
    seed: int = 0,
    num_tasks: int | Sequence[int] | None = None,
    distance_m: float | Sequence[float] | None = None,
    draw: bool = False,
    num_threads: int = 1,
) -> Evaluation:
    """Evaluate a policy.

    Args:
        policy: The policy.
        where: The MDP, or a scenario for its task-window MDP; the policy's own MDP by default.
        episodes: Number of episodes.
        seed: Seed of the episodes.
        num_tasks: Tasks of every MD, or N numbers, one per MD; the scenario's mean by default, or,
            where tasks arrive, none at the start.
        distance_m: Distance of every MD to the base station, or N of them; by default 50 m on the
            paper's range of distances, and on any other the range's mean; where MDs move, wherever
            they do.
        draw: Draw queues and distances as in training, instead of setting them.
        num_threads: Threads that the physics of the episodes is spread over.

    Raises:
        MecError: The policy was made for an MDP of another shape, ``episodes`` is below 1, or
            queues or distances are both set and drawn.
    """
    mdp = policy.mdp if where is None else as_mdp(where)
    policy = policy.on(mdp)
    episodes = whole_number("episodes", episodes)
    if draw and not (num_tasks is None and distance_m is None):
        raise MecError("draw=True draws queues and distances: leave out num_tasks and distance_m")
    if not draw:
        num_tasks = mdp.usual_tasks if num_tasks is None else num_tasks
        distance_m = evaluation_distance_m(mdp.scenario) if distance_m is None else distance_m
    policy.expect_distances(distance_m)
    metrics = run_episodes(
        policy.decide, mdp, episodes, seed=seed, num_tasks=num_tasks, distance_m=distance_m,
        num_threads=num_threads,
    )  # fmt: skip
    return Evaluation(
        policy.name, mdp, one_if_same(num_tasks), one_if_same(distance_m), seed, metrics
    )


def setting_of(mdp: MDP, num_tasks: Any, distance_m: Any) -> dict[str, Any]:
    """Where policies were evaluated, as plain values.

    Args:
        mdp: The MDP.
        num_tasks: As in :class:`Evaluation`, as is ``distance_m``.
        distance_m: Of the MDs.
    """
    scenario = mdp.scenario
    return {
        "env": mdp.env_id,
        **mdp.settings,
        "profile": scenario.profile,
        "dnn": scenario.dnn,
        "num_devices": scenario.num_devices,
        "num_tasks": num_tasks,
        "distance_m": distance_m,
    }


def one_if_same(values: Any) -> Any:
    """One number where all MDs have the same, else one per MD.

    Args:
        values: One, or one per MD; ``None`` stays.
    """
    distinct = np.unique(values) if values is not None else []
    if len(distinct) == 1:
        return distinct[0].item()
    return values if values is None else tuple(np.asarray(values).tolist())


def optimality_gap(evaluation: Evaluation, planner: Evaluation) -> dict[str, float]:
    """How many times the planner's cost a policy has: more is worse.

    1 is near-optimal where the planner is: see :func:`is_near_optimal`.

    Args:
        evaluation: Of the policy.
        planner: Of the planner, in the same setting.

    Returns:
        The ratios of ``reward``, ``cost`` (Eq. 4), ``latency_ms`` and ``energy_j``; without those
        that are not comparable, or of which the planner has 0.
    """
    return {
        metric: evaluation[metric].mean / planner[metric].mean
        for metric in COSTS
        if is_comparable(metric, evaluation.mdp, planner.mdp) and planner[metric].mean != 0.0
    }


def is_near_optimal(planner: Evaluation) -> bool:
    """Whether the planner is near-optimal here, in reward: where its few MDs stay where they are.

    Args:
        planner: Its evaluation.
    """
    return planner.distance_m is not None and has_plans_of_sets(planner.mdp, planner.distance_m)


def is_comparable(metric: str, mdp: MDP, other: MDP) -> bool:
    """Whether a metric means the same in two MDPs.

    Only the reward may not: the mean over task windows (Eq. 8) is another measure than the mean
    over time slots, and a user's MDP may have a law of its own.

    Args:
        metric: One of :data:`METRICS`.
        mdp: One MDP.
        other: The other one.
    """
    law, others = ((type(each).task_rewards, each.settings) for each in (mdp, other))
    return metric != "reward" or law == others
