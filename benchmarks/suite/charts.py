"""Panels that several items share, in the package's one style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rllib_mec.viz.plotting import add_legend, draw_band, look, new_figure, on_common_axis
from suite.cells import BASELINES, Cell, Results
from suite.report import TITLES

METRICS = ("reward", "latency_ms", "energy_j")
COMPARED = ("EMH-PPO", *BASELINES, "planner", "local only")


def convergence_over(results: Results, column: str) -> Any:
    """A figure of EMH-PPO's training curves, a line per value of a setting."""
    figure, panels = new_figure(1, 3)
    for axes, metric in zip(panels, METRICS, strict=True):
        for index, cell in enumerate(results.of()):
            label = f"{column} = {cell.where[column]}"
            draw_curve(axes, results, cell, metric, label, look(index=index))
        finish_curves(axes, metric)
    add_legend(figure, panels[0], columns=6)
    return figure


def comparison_over(results: Results, column: str, label: str) -> Any:
    """A figure of all policies over a setting."""
    figure, panels = new_figure(1, 3)
    for axes, metric in zip(panels, METRICS, strict=True):
        draw_over(axes, results, column, metric, COMPARED)
        axes.set_xlabel(label)
        axes.set_xticks(sorted({cell.where[column] for cell in results.cells}))
    add_legend(figure, panels[0], columns=7)
    return figure


def draw_over(
    axes: Any,
    results: Results,
    column: str,
    metric: str,
    policies: Sequence[str],
    *,
    names: Mapping[str, str] | None = None,
    **where: Any,
) -> None:
    """A metric over a setting: a line per policy, and the paper's values of EMH-PPO as circles.

    Args:
        axes: Where.
        results: The results.
        column: The setting that varies.
        metric: What is drawn.
        policies: Lines, in the order of the legend.
        names: Policy -> what the legend calls it.
        **where: Settings that are fixed.
    """
    for index, policy in enumerate(policies):
        cells = [c for c in results.of([policy]) if where.items() <= c.where.items()]
        if cells:
            x = np.array([cell.where[column] for cell in cells])
            values = np.array([[row[metric] for row in results.rows(cell)] for cell in cells]).T
            label = (names or {}).get(policy, policy)
            draw_band(axes, x, values, label=label, looks=look(policy, index), markers=True)
    draw_papers(axes, results, column, metric, **where)
    axes.set_ylabel(TITLES[metric])


def draw_papers(axes: Any, results: Results, column: str, metric: str, **where: Any) -> None:
    """The paper's values of EMH-PPO, where it gives any."""
    cells = [
        cell
        for cell in results.of(["EMH-PPO"])
        if metric in cell.paper and where.items() <= cell.where.items()
    ]
    if cells:
        x = [cell.where[column] for cell in cells]
        y = [cell.paper[metric] for cell in cells]
        axes.plot(x, y, label="EMH-PPO, the paper's", zorder=3, **look("paper"))


def draw_curve(
    axes: Any, results: Results, cell: Cell, metric: str, label: str, looks: Mapping[str, Any]
) -> None:
    """A training curve: greedy episodes of the paper's protocol over env steps, in thousands."""
    steps, values = on_common_axis(results.curves(cell, f"eval_{metric}"))
    draw_band(axes, steps / 1000, values, label=label, looks=looks)


def draw_level(axes: Any, results: Results, policy: str, metric: str, **where: Any) -> None:
    """A policy that does not learn, as a horizontal line."""
    looks = {k: v for k, v in look(policy).items() if not k.startswith("marker")}
    axes.axhline(results.mean(policy, metric, **where), label=policy, zorder=1, **looks)


def finish_curves(axes: Any, metric: str) -> None:
    """Name the axes of a panel of training curves."""
    axes.set_xlabel("env steps, thousands")
    axes.set_ylabel(TITLES[metric])
