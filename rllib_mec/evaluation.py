"""One protocol for every policy: the paper's metrics over seeded episodes, with intervals.

As in Section V-A, every MD has the mean number of tasks (50) and stands at 50 m, while shadowing
stays on. Episode i has the same channels for every policy.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
import math
from collections.abc import Sequence

import numpy as np

from rllib_mec.envs.episodes import EVALUATION_DISTANCE_M, EpisodeMetrics, run_episodes
from rllib_mec.envs.mdp import MDP, TaskWindowMDP, as_mdp
from rllib_mec.errors import MecError
from rllib_mec.policies.policy import Policy
from rllib_mec.simulator.scenario import Scenario

METRICS = ("reward", "latency_ms", "energy_j", "waiting_ms", "window_size", "local_share")

COSTS = ("reward", "latency_ms", "energy_j")
"""What policies are compared by: with savings, the optimality gap, and the paper's numbers."""

NUM_EPISODES = 200
COLLAPSED_SHARE = 0.999


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and the half width of its 95 % confidence interval."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> Interval:
        """The interval of independent ``values``, by Student's t."""
        values = np.asarray(values, dtype=float)
        if len(values) < 2:
            return cls(float(values.mean()), math.nan)
        from scipy.stats import t

        error = float(values.std(ddof=1)) / math.sqrt(len(values))
        return cls(float(values.mean()), float(t.ppf(0.975, len(values) - 1)) * error)

    def to_dict(self) -> dict[str, float | None]:
        """Plain values, for JSON, which knows no NaN: of one value there is no half width."""
        half_width = None if math.isnan(self.half_width) else self.half_width
        return {"mean": self.mean, "half_width": half_width}

    def text(self, digits: int) -> str:
        """The mean and, if there is one, the half width, with so many decimals."""
        mean = f"{self.mean:.{digits}f}"
        return mean if math.isnan(self.half_width) else f"{mean} ± {self.half_width:.{digits}f}"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a policy achieved.

    Attributes:
        policy: Its name.
        mdp: What it was evaluated on.
        num_tasks: Tasks of every MD.
        distance_m: Distance of every MD to the base station.
        seed: Seed of the episodes.
        episodes: Metrics of each episode.
    """

    policy: str
    mdp: MDP
    num_tasks: int
    distance_m: float
    seed: int
    episodes: EpisodeMetrics

    @property
    def scenario(self) -> Scenario:
        """The scenario it was evaluated on."""
        return self.mdp.scenario

    def __getitem__(self, metric: str) -> Interval:
        """The interval of one of :data:`METRICS` over the episodes."""
        return Interval.of(getattr(self.episodes, metric))

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return {
            "policy": self.policy,
            "env": self.mdp.env_id,
            **self.mdp.settings,
            "profile": self.scenario.profile,
            "dnn": self.scenario.dnn,
            "num_devices": self.scenario.num_devices,
            "num_tasks": self.num_tasks,
            "distance_m": self.distance_m,
            "seed": self.seed,
            "episodes": len(self.episodes),
            **{metric: self[metric].to_dict() for metric in METRICS},
        }


def evaluate(
    policy: Policy,
    where: MDP | Scenario | None = None,
    *,
    episodes: int = NUM_EPISODES,
    seed: int = 0,
    num_tasks: int | None = None,
    distance_m: float = EVALUATION_DISTANCE_M,
) -> Evaluation:
    """Evaluate a policy.

    Args:
        policy: The policy.
        where: The MDP, or a scenario for its task-window MDP; the policy's own MDP by default.
        episodes: Number of episodes.
        seed: Seed of the episodes.
        num_tasks: Tasks of every MD; the scenario's mean by default.
        distance_m: Distance of every MD to the base station.

    Raises:
        MecError: The policy was made for an MDP of another shape, or ``episodes`` is below 1.
    """
    mdp = policy.mdp if where is None else as_mdp(where)
    for field, given in mdp.shape.items():
        own = policy.mdp.shape[field]
        if own != given:
            raise MecError(
                f"the policy {policy.name!r} was made for {field}={own!r}, "
                f"but the scenario has {field}={given!r}"
            )
    if episodes < 1:
        raise MecError(f"episodes must be at least 1, but is {episodes!r}")
    num_tasks = round(mdp.scenario.mean_tasks) if num_tasks is None else num_tasks
    metrics = run_episodes(
        policy.decide, mdp, episodes, seed=seed, num_tasks=num_tasks, distance_m=distance_m
    )
    return Evaluation(policy.name, mdp, num_tasks, distance_m, seed, metrics)


def paper_row(where: MDP | Scenario, num_tasks: int) -> dict[str, float] | None:
    """What the paper's EMH-PPO reaches in this setting, from its Tables IV and V.

    Args:
        where: Must be the task-window MDP, on Table III but for N and the DNN.
        num_tasks: Tasks of every MD.

    Returns:
        ``reward``, ``latency_ms`` and ``energy_j``, or ``None`` where the paper has no such row.
    """
    mdp = as_mdp(where)
    scenario = mdp.scenario
    table_iii = Scenario(
        dnn=scenario.dnn, num_devices=scenario.num_devices, partition=scenario.partition
    )
    if mdp != TaskWindowMDP(table_iii):
        return None
    vertical = scenario.partition == "vertical"
    if scenario.dnn == "resnet50" and scenario.num_devices == 3 and not vertical:
        for row in _read_csv("table_iv.csv"):
            if row["method"] == "EMH-PPO" and int(row["num_tasks"]) == num_tasks:
                return {
                    "reward": float(row["average_reward"]),
                    "latency_ms": float(row["total_latency_ms"]),
                    "energy_j": float(row["energy_j"]),
                }
    prefix = "vertical" if vertical else "operator"
    for row in _read_csv("table_v.csv"):
        if (row["dnn"], int(row["num_devices"])) == (scenario.dnn, scenario.num_devices):
            if num_tasks == 50:
                return {
                    metric: float(row[f"{prefix}_{metric}"])
                    for metric in ("reward", "latency_ms", "energy_j")
                }
    return None


def _read_csv(name: str) -> list[dict[str, str]]:
    text = importlib.resources.files("rllib_mec.paper").joinpath(name).read_text()
    return list(csv.DictReader(text.splitlines()))


def optimality_gap(evaluation: Evaluation, planner: Evaluation) -> dict[str, float]:
    """How many times the planner's cost a policy has: 1 is near-optimal, more is worse.

    Args:
        evaluation: Of the policy.
        planner: Of the planner, in the same setting.

    Returns:
        The ratios of ``reward``, ``latency_ms`` and ``energy_j``; without the reward if the policy
        ran in another MDP, which rewards in another way.
    """
    return {
        metric: evaluation[metric].mean / planner[metric].mean
        for metric in COSTS
        if metric != "reward" or evaluation.mdp.env_id == planner.mdp.env_id
    }


def comparison_table(evaluations: Sequence[Evaluation], *, paper: bool = True) -> str:
    """A table of policies side by side, with their savings against local only.

    Args:
        evaluations: All of one scenario; local only among them gives the savings, the planner the
            optimality gaps.
        paper: Whether to add the paper's row where it has one.

    Returns:
        Lines of text, without a newline at the end.
    """
    first = evaluations[0]
    by_name = {evaluation.policy: evaluation for evaluation in reversed(evaluations)}
    baseline, planner = by_name.get("local only"), by_name.get("planner")
    entries = [(e.policy, {m: e[m] for m in METRICS}, e.mdp.env_id) for e in evaluations]
    published = paper_row(first.mdp, first.num_tasks) if paper else None
    if published is not None:
        values = {metric: Interval(value, math.nan) for metric, value in published.items()}
        entries.append(("the paper's EMH-PPO", values, first.mdp.env_id))

    gap = [] if planner is None else ["/planner"]
    rows = [["policy", "reward", *gap, "latency, ms", "", *gap, "energy, J/task", "", *gap]]
    rows[0] += ["waiting, ms/task", "window"]
    for name, values, env_id in entries:
        row = [name]
        for metric in COSTS:
            value = values[metric]
            row.append(value.text(4 if metric == "energy_j" else 2))
            if metric != "reward":
                saving = None if baseline is None else value.mean / baseline[metric].mean - 1
                row.append("" if saving is None else f"{100 * saving:+.1f} %")
            if planner is not None:
                comparable = metric != "reward" or env_id == planner.mdp.env_id
                row.append(f"{value.mean / planner[metric].mean:.2f}×" if comparable else "")
        row.append(values["waiting_ms"].text(2) if "waiting_ms" in values else "")
        row.append(f"{values['window_size'].mean:.2f}" if "window_size" in values else "")
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "─" * max(len(line) for line in lines))
    scenario = first.scenario
    for evaluation in evaluations:
        if evaluation is not baseline and evaluation["local_share"].mean > COLLAPSED_SHARE:
            lines.append(f"note: {evaluation.policy} runs every task locally: it has collapsed")
    lines.append(
        f"{scenario.dnn}, N={scenario.num_devices}, M={scenario.num_servers}, "
        f"C={scenario.num_channels}, profile {scenario.profile!r}, {first.mdp}: "
        f"mean ± 95 % interval over {len(first.episodes)} episodes (seed {first.seed}), "
        f"{first.num_tasks} tasks an MD, "
        f"{first.distance_m:g} m; % against local only"
        + ("" if planner is None else "; × of the planner's, where 1 is near-optimal")
    )
    return "\n".join(lines)
