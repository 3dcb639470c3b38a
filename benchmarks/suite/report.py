"""From results to files: CSV, a Markdown page, a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from machine import commit, processor

from rllib_mec.evaluation import METRICS
from suite.cells import REFERENCES, SOURCES, Budget, Cell, Results
from suite.paper import statements

TITLES = {
    "reward": "Average reward",
    "latency_ms": "Total inference latency, ms",
    "energy_j": "Energy, J a task",
    "waiting_ms": "Waiting time, ms a task",
}
DIGITS = {"reward": 2, "latency_ms": 1, "energy_j": 4, "waiting_ms": 2}
_SAVINGS = ("latency_ms", "energy_j")
_RATIOS = ("reward", "latency_ms", "energy_j")


def results_csv(results: Results) -> str:
    """One row per trial: its setting, policy, seed and metrics."""
    columns = list(dict.fromkeys(name for cell in results.cells for name in cell.where))
    rows = [[*columns, "policy", "seed", *METRICS]]
    for cell in results.cells:
        setting = [str(cell.where.get(column, "")) for column in columns]
        for trial, row in zip(cell.trials, results.rows(cell), strict=True):
            seed = "" if trial.seed is None else str(trial.seed)
            rows.append([*setting, cell.policy, seed, *(f"{row[m]:.6g}" for m in METRICS)])
    return _csv(rows)


def curves_csv(results: Results) -> str:
    """One row per trial and point of its training curve."""
    columns = list(dict.fromkeys(name for cell in results.cells for name in cell.where))
    rows: list[list[str]] = []
    for cell in results.of():
        setting = [str(cell.where.get(column, "")) for column in columns]
        for trial in cell.trials:
            for point in results.store.curve(trial):
                if not rows:
                    rows.append([*columns, "policy", "seed", *point])
                values = [f"{value:.6g}" for value in point.values()]
                rows.append([*setting, cell.policy, str(trial.seed), *values])
    return _csv(rows)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    import csv

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def header(results: Results, budget: Budget, name: str, jobs: int) -> str:
    """What the numbers are and where they come from."""
    records = results.records()
    commits = ", ".join(sorted({record["commit"] for record in records}))
    trials = results.trials()
    stale = sum(map(results.store.is_stale, trials))
    if stale:
        commits += f" ({stale} of {len(trials)} trials by other code than {commit()}'s)"
    seeds = sorted({trial.seed for trial in trials if trial.seed is not None})
    steps = sorted({record["steps"] for record in records if "steps" in record})
    minutes = sum(record["seconds"] for record in records) / 60
    episodes = results.cells[0].protocol.episodes
    lines = [
        f"- command: `python benchmarks/reproduce.py --only {name} --budget {budget.name}`",
        f"- machine: {processor()}",
        f"- commit: {commits}",
        f"- budget: {budget.name}; training seeds: {', '.join(map(str, seeds))}; "
        f"{' or '.join(f'{count:,}' for count in steps)} env steps; "
        f"{episodes} seeded evaluation episodes",
        f"- time: {minutes:.1f} min of one core in all for {len(trials)} trials; with "
        f"{jobs} at a time about {minutes / jobs:.1f} min",
    ]
    return "\n".join(lines)


def metric_table(results: Results, metric: str) -> str:
    """A policy's metric beside the paper's, the planner's and local only's."""
    cells = results.of()
    columns = list(dict.fromkeys(name for cell in cells for name in cell.where))
    digits = DIGITS[metric]
    head = [*columns, "policy", "paper", "here", "planner"]
    head += ["here/planner"] if metric in _RATIOS else []
    head += ["local only"] + (["saved of local"] if metric in _SAVINGS else [])
    rows = []
    for cell in cells:
        own = results.interval(cell, metric)
        planner, local = (_reference(results, name, cell, metric) for name in REFERENCES)
        row = [str(cell.where.get(column, "")) for column in columns]
        row += [cell.policy, _number(cell.paper.get(metric), digits), own.text(digits)]
        row += [_number(planner, digits)]
        row += [_number(ratio(own.mean, planner), 3)] if metric in _RATIOS else []
        row += [_number(local, digits)]
        if metric in _SAVINGS:
            row += ["" if local is None else f"{100 * (1 - own.mean / local):.1f} %"]
        rows.append(row)
    return table(head, rows)


def interquartile_table(results: Results, metrics: Sequence[str]) -> str:
    """Interquartile means over many seeds, with bootstrap intervals."""
    columns = list(dict.fromkeys(name for cell in results.of() for name in cell.where))
    rows = []
    for cell in results.of():
        row = [*(str(cell.where.get(column, "")) for column in columns), cell.policy]
        for metric in metrics:
            middle, *ends = (
                f"{value:.{DIGITS[metric] + 1}f}" for value in results.interquartile(cell, metric)
            )
            row.append(f"{middle} [{', '.join(ends)}]")
        rows.append(row)
    return table([*columns, "policy", *(TITLES[metric] for metric in metrics)], rows)


def _reference(results: Results, name: str, cell: Cell, metric: str) -> float | None:
    own = results.find(name, **cell.where)
    return None if own is None else results.interval(own, metric).mean


def ratio(value: float, planner: float | None) -> float | None:
    """A cost over the planner's, rewards being negative costs: above 1 is worse."""
    return None if planner is None or planner == 0 else value / planner


def statement_table(name: str, ours: Mapping[str, float]) -> str:
    """The numbers in the paper's text beside ours."""
    rows, above = [], ""
    for statement in statements(name):
        unit = {"%": " %", "x": "×", "ms": " ms"}[statement.unit]
        digits = 2 if abs(statement.value) < 5 else 1
        quote = f"“{statement.quote}” ({statement.section})"
        rows.append(
            [
                _in_words(statement.quantity),
                f"{statement.value:g}{unit}",
                f"{ours[statement.quantity]:.{digits}f}{unit}",
                "as above" if quote == above else quote,
            ]
        )
        above = quote
    return table(["quantity", "paper", "here", "the paper says"], rows)


def _in_words(quantity: str) -> str:
    for policy, source in SOURCES.items():
        quantity = quantity.replace(source, policy)
    return quantity.replace("_ms", " ms").replace("_", " ")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
