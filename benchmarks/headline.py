"""The README's headline: EMH-PPO on Table III beside the paper, the planner and local only.

    python benchmarks/headline.py [--budget quick|full]

Flags and files are those of ``reproduce.py``, which runs all items.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from suite import cli
from suite.cells import Budget, Cell, Results, learned, references
from suite.item import Item
from suite.report import DIGITS, TITLES

from rllib_mec.viz.plotting import look, new_figure


def cells(budget: Budget) -> list[Cell]:
    """One setting: Table III."""
    return [learned("EMH-PPO", budget), *references()]


def draw(results: Results) -> Any:
    """A bar each for local only, the paper, EMH-PPO and the planner."""
    figure, panels = new_figure(1, 3, panel_inches=(2.9, 2.4))
    own = results.find("EMH-PPO")
    for axes, metric in zip(panels, ("reward", "latency_ms", "energy_j"), strict=True):
        interval = results.interval(own, metric)
        bars = {
            "local": results.mean("local only", metric),
            "paper": own.paper[metric],
            "here": interval.mean,
            "planner": results.mean("planner", metric),
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
    explanation="ResNet-50, 3 MDs, 2 MEC servers, 2 channels, 50 tasks an MD.",
    cells=cells,
    draw=draw,
    metrics=("reward", "latency_ms", "energy_j", "waiting_ms"),
)

if __name__ == "__main__":
    sys.exit(cli.main([ITEM], __doc__))
