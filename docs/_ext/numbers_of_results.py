"""The numbers that pages take from the benchmarks' results, as MyST's substitutions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rllib_mec.evaluation import Interval
from rllib_mec.evaluation.paper import paper_row
from rllib_mec.network.scenario import Scenario

_DIGITS = {"reward": 2, "latency_ms": 1, "energy_j": 4, "waiting_ms": 2}
_HEADER = """| | reward | total latency, ms | energy, J/task | waiting, ms/task |
|---|---|---|---|---|"""


def substitutions(root: Path) -> dict[str, str]:
    """Name -> Markdown.

    Args:
        root: The repository.
    """
    return {"headline_table": headline_table(root)}


def headline_table(root: Path) -> str:
    """EMH-PPO on Table III beside planner, paper and local only; README has the same.

    Args:
        root: The repository.
    """
    results = root / "benchmarks" / "results"
    headline = pd.read_csv(results / "headline.csv")
    headline = headline[headline["episodes"] == "50 tasks, 50 m"]
    statements = pd.read_csv(root / "rllib_mec" / "evaluation" / "paper" / "statements.csv")
    waiting = statements.query("figure == 'fig6' and quantity == 'waiting'")["value"]
    paper = {**(paper_row(Scenario(), 50) or {}), "waiting_ms": float(waiting.iloc[0])}
    local = _means(headline, "local only")
    scratch = _means(pd.read_csv(results / "fig6.csv"), "EMH-PPO, from scratch")
    rows = [
        _row("planner (searches in the simulator)", _means(headline, "planner"), local),
        _row("**EMH-PPO, here**", _means(headline, "EMH-PPO"), local),
        _row("EMH-PPO, here, from scratch", scratch, local),
        _row(
            "EMH-PPO, the paper (Table IV)",
            {key: Interval.of([value]) for key, value in paper.items()},
            local,
        ),
        _row("local only", local),
    ]
    return "\n".join([_HEADER, *rows])


def _row(
    name: str, values: Mapping[str, Interval], local: Mapping[str, Interval] | None = None
) -> str:
    cells = [name]
    for column, digits in _DIGITS.items():
        text = values[column].text(digits).replace("-", "−")
        if local and column in ("latency_ms", "energy_j"):
            change = values[column].mean / local[column].mean - 1.0
            text += f" ({change * 100:.0f} %)".replace("-", "−")
        cells.append(text)
    return f"| {' | '.join(cells)} |"


def _means(table: pd.DataFrame, policy: str) -> dict[str, Interval]:
    rows = table[table["policy"] == policy]
    return {column: Interval.of(rows[column].to_numpy()) for column in _DIGITS}
