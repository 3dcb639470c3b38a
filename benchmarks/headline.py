"""The README's headline: EMH-PPO on Table III beside the paper, the planner and local only.

    python benchmarks/headline.py [--budget quick|full]

Flags and files are those of ``reproduce.py``, which runs all items.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
from suite import cli
from suite.cells import Budget, Cell, Results, learned, references
from suite.item import Item
from suite.report import DIGITS, TITLES, interquartile_table
from suite.trial import Protocol

from rllib_mec.viz.plotting import look, new_figure

BEGINNINGS = {"50 tasks, 50 m": Protocol(), "drawn": Protocol(drawn=True)}
"""How episodes begin: the paper's, or queues and distances as in training."""

SEEDS = tuple(range(10))  # of the full budget


def cells(budget: Budget) -> list[Cell]:
    """One setting: Table III."""
    if budget.name == "full":
        budget = dataclasses.replace(budget, seeds=SEEDS)
    found = []
    for name, protocol in BEGINNINGS.items():
        own = learned("EMH-PPO", budget, where={"episodes": name}, protocol=protocol)
        if protocol.drawn:  # the paper says nothing of it
            own = dataclasses.replace(own, paper={})
        found += [own, *references(where={"episodes": name}, protocol=protocol)]
    return found


def interquartile(results: Results) -> str:
    """The field's statistics of many seeds, if there are many."""
    if min(len(cell.trials) for cell in results.of()) < 4:
        return "Interquartile means take four seeds or more: `--budget full`."
    return "## Interquartile means [95 % bootstrap interval]\n\n" + interquartile_table(
        results, ITEM.metrics
    )


def draw(results: Results) -> Any:
    """A bar each for local only, the paper, EMH-PPO and the planner."""
    figure, panels = new_figure(1, 3, panel_inches=(2.9, 2.4))
    papers = {"episodes": next(iter(BEGINNINGS))}
    own = results.find("EMH-PPO", **papers)
    for axes, metric in zip(panels, ("reward", "latency_ms", "energy_j"), strict=True):
        interval = results.interval(own, metric)
        bars = {
            "local": results.mean("local only", metric, **papers),
            "paper": own.paper[metric],
            "here": interval.mean,
            "planner": results.mean("planner", metric, **papers),
        }
        heights = [abs(value) for value in bars.values()]
        drawn = axes.bar(
            list(bars),
            heights,
            yerr=[np.nan, np.nan, interval.half_width, np.nan],
            color=["#7A7A7A", "white", look("EMH-PPO")["color"], "#CCCCCC"],
            edgecolor="black",
            hatch=["", "///", "", "..."],
            linewidth=0.6,
            capsize=3,
        )
        sign = "-" if metric == "reward" else ""
        labels = [f"{sign}{height:.{DIGITS[metric]}f}" for height in heights]
        axes.bar_label(drawn, labels, padding=3, fontsize=7)
        axes.set_ylabel(TITLES[metric] + (", negated" if sign else ""))
        axes.margins(y=0.12)
        axes.grid(visible=False, axis="x")
    return figure


ITEM = Item(
    name="headline",
    title="EMH-PPO on the paper's scenario (Table III)",
    explanation="ResNet-50, 3 MDs, 2 MEC servers, 2 channels; episodes of 50 tasks an MD, all at "
    "50 m from the base station, and episodes whose queues and distances are drawn as in training.",
    cells=cells,
    draw=draw,
    metrics=("reward", "latency_ms", "energy_j", "waiting_ms"),
    remarks=interquartile,
)

if __name__ == "__main__":
    sys.exit(cli.main([ITEM], __doc__))
