"""What the paper says: the numbers of its tables, and those that its text gives for figures."""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
from collections.abc import Mapping
from typing import Any

from rllib_mec.evaluation import paper_row
from rllib_mec.network.scenario import Scenario

_TABLE_IV = {"reward": "average_reward", "latency_ms": "total_latency_ms", "energy_j": "energy_j"}


@dataclasses.dataclass(frozen=True)
class Statement:
    """A number in the paper's text.

    Attributes:
        quantity: What the benchmark that computes the same calls it.
        value: The number.
        unit: ``%``, ``x`` (a factor) or ``ms``.
        quote: The words.
        section: Where they stand.
    """

    quantity: str
    value: float
    unit: str
    quote: str
    section: str


def statements(figure: str) -> list[Statement]:
    """What the text says of a figure or table, e.g. ``fig12``."""
    rows = [row for row in _read("statements.csv") if row.pop("figure") == figure]
    return [Statement(**{**row, "value": float(row["value"])}) for row in rows]


def published(policy: str, scenario: Mapping[str, Any], num_tasks: int) -> dict[str, float]:
    """A policy's reward, latency and energy in Table IV or V.

    Args:
        policy: ``"EMH-PPO"``, or a baseline, which only Table IV has.
        scenario: Changes to Table III.
        num_tasks: Tasks of every MD.

    Returns:
        Metric -> value; empty where the paper has no such row.
    """
    if policy == "EMH-PPO":
        return paper_row(Scenario.from_dict(scenario), num_tasks) or {}
    if not any(row["method"] == policy for row in _read("table_iv.csv")):
        return {}
    if Scenario.from_dict(scenario) != Scenario():
        return {}
    for row in _read("table_iv.csv"):
        if row["method"] == policy and int(row["num_tasks"]) == num_tasks:
            return {metric: float(row[column]) for metric, column in _TABLE_IV.items()}
    return {}


def _read(name: str) -> list[dict[str, str]]:
    text = importlib.resources.files("rllib_mec.evaluation.paper").joinpath(name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
