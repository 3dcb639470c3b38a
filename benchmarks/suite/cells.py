"""Cells of a table: a policy in a setting, and what its trials came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rllib_mec.evaluation import METRICS, Interval
from suite.paper import published
from suite.store import Store
from suite.trial import Protocol, Trial

SOURCES = {"EMH-PPO": "emh_ppo", "MAHPPO": "mahppo", "H-PPO": "h_ppo", "AgileNN": "agile_nn"}
"""The paper's learned policies -> their file in ``tuned_configs/``."""

REFERENCES = {"planner": "planner", "local only": "local-only"}
"""What stands beside every result -> its name in the registry."""

BASELINES = ("MAHPPO", "H-PPO", "AgileNN")


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much is trained.

    Attributes:
        name: What ``--budget`` calls it.
        steps: Env steps of every trial; None means its config file's own.
        seeds: Training seeds.
    """

    name: str
    steps: int | None
    seeds: tuple[int, ...]


BUDGETS = {
    "quick": Budget("quick", steps=20_480, seeds=(0,)),
    "full": Budget("full", steps=None, seeds=(0, 1, 2)),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A policy in a setting.

    Attributes:
        policy: What tables call it.
        trials: One per seed.
        where: Column -> the setting's value.
        protocol: How it is measured.
        paper: What the paper says of it, metric -> value; empty where it says nothing.
    """

    policy: str
    trials: tuple[Trial, ...]
    where: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    protocol: Protocol = Protocol()  # noqa: RUF009 - it is frozen
    paper: Mapping[str, float] = dataclasses.field(default_factory=dict)


def learned(
    policy: str,
    budget: Budget,
    scenario: Mapping[str, Any] | None = None,
    *,
    where: Mapping[str, Any] | None = None,
    source: str | None = None,
    settings: Mapping[str, Any] | None = None,
    protocol: Protocol = Protocol(),  # noqa: B008 - it is frozen
) -> Cell:
    """A trained policy with every seed of the budget.

    Args:
        policy: What tables call it.
        budget: Seeds and steps.
        scenario: Changes to Table III.
        where: Column -> the setting's value.
        source: Its config file; default: the one of :data:`SOURCES`.
        settings: Changes to the file's ``config``.
        protocol: How it is measured.
    """
    source = SOURCES[policy] if source is None else source
    trials = tuple(
        Trial(source, scenario or {}, settings or {}, seed=seed, steps=budget.steps)
        for seed in budget.seeds
    )
    paper = {} if settings else published(policy, scenario or {}, protocol.num_tasks)
    return Cell(policy, trials, where or {}, protocol, paper)


def references(
    scenario: Mapping[str, Any] | None = None,
    *,
    where: Mapping[str, Any] | None = None,
    protocol: Protocol = Protocol(),  # noqa: B008 - it is frozen
) -> list[Cell]:
    """The planner and local only, which stand beside every result."""
    return [
        Cell(name, (Trial(source, scenario or {}),), where or {}, protocol)
        for name, source in REFERENCES.items()
    ]


class Results:
    """What the cells of an item came to.

    Args:
        cells: The cells.
        store: Where their trials are.
    """

    def __init__(self, cells: Sequence[Cell], store: Store):
        """Keep both; results are read when asked for."""
        self.cells = tuple(cells)
        self.store = store

    def missing(self) -> list[tuple[Trial, Protocol]]:
        """The measurements that the store does not have."""
        wanted = ((trial, cell.protocol) for cell in self.cells for trial in cell.trials)
        return [pair for pair in wanted if not self.store.has(*pair)]

    def trials(self) -> list[Trial]:
        """All trials, each once."""
        return list({t.key: t for cell in self.cells for t in cell.trials}.values())

    def records(self) -> list[dict[str, Any]]:
        """How each training and each measurement behind them came about."""
        trainings = [self.store.training(trial) for trial in self.trials()]
        pairs = {(trial.key, cell.protocol): trial for cell in self.cells for trial in cell.trials}
        measured = [self.store.evaluation(trial, pair[1]) for pair, trial in pairs.items()]
        return [record for record in trainings + measured if record is not None]

    def find(self, policy: str, **where: Any) -> Cell | None:
        """The cell of a policy whose setting has these values, if there is one."""
        for cell in self.cells:
            if cell.policy == policy and where.items() <= cell.where.items():
                return cell
        return None

    def of(self, policies: Iterable[str] | None = None) -> list[Cell]:
        """The cells of some policies; by default all but the references."""
        if policies is None:
            return [c for c in self.cells if c.policy not in REFERENCES]
        return [cell for cell in self.cells if cell.policy in policies]

    def rows(self, cell: Cell) -> list[dict[str, float]]:
        """The metrics of each trial, means over its episodes."""
        measured = [self.store.evaluation(trial, cell.protocol) or {} for trial in cell.trials]
        return [{metric: each[metric]["mean"] for metric in METRICS} for each in measured]

    def interval(self, cell: Cell, metric: str) -> Interval:
        """Mean over the seeds with its 95 % interval."""
        return Interval.of([row[metric] for row in self.rows(cell)])

    def interquartile(self, cell: Cell, metric: str) -> tuple[float, float, float]:
        """Mean of the seeds between the quartiles, and the ends of its 95 % bootstrap interval.

        Few seeds that fail or shine do not move it, and no distribution is taken for granted
        (Agarwal et al., 2021, "Deep reinforcement learning at the edge of the statistical
        precipice").
        """
        from scipy.stats import bootstrap, trim_mean

        def middle(values: np.ndarray, axis: int = -1) -> np.ndarray:
            """The statistic."""
            return trim_mean(values, 0.25, axis=axis)

        values = np.array([row[metric] for row in self.rows(cell)])
        drawn = bootstrap((values,), middle, n_resamples=10_000, method="percentile", rng=0)
        low, high = drawn.confidence_interval
        return float(middle(values)), float(low), float(high)

    def mean(self, policy: str, metric: str, **where: Any) -> float:
        """Mean over the seeds.

        Raises:
            KeyError: There is no such cell.
        """
        cell = self.find(policy, **where)
        if cell is None:
            raise KeyError((policy, where))
        return self.interval(cell, metric).mean

    def curves(self, cell: Cell, metric: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Env steps and a curve's metric, for each seed."""
        curves = [self.store.curve(trial) for trial in cell.trials]
        return [
            (np.array([row["steps"] for row in rows]), np.array([row[metric] for row in rows]))
            for rows in curves
        ]
