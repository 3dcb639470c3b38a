"""What each choice of EMH-PPO is worth: the algorithm as it is, and without one choice at a time.

    python benchmarks/ablation.py [--budget quick|full]

Flags and files are those of ``reproduce.py``, which runs all items.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from suite import cli
from suite.cells import Budget, Cell, Results, learned, references
from suite.item import Item
from suite.report import DIGITS, TITLES, with_interval

from rllib_mec.evaluation import Interval
from rllib_mec.plotting import add_legend, look, new_figure

VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no demonstrations": {"demonstrations": 0},
    "discounted sum of rewards": {"average_reward": False},
    "networks see the state alone": {"model_config": {"compare_queues": False}},
    "no counterfactuals": {"counterfactuals": 0},
    "no counterfactuals, one advantage for all slots": {
        "counterfactuals": 0,
        "per_task_advantages": False,
    },
}
"""Variant -> changes to ``config`` in ``tuned_configs/emh_ppo.yaml``."""

FROM_SCRATCH = {
    "demonstrations": 0,
    "lr": [[0, 3e-4], [20_480, 0.0]],
    "entropy_coeff": [[0, 0.02], [15_360, 0.001]],
}
"""As EMH-PPO is tuned without demonstrations; schedules stretch with the steps."""

STEPS = 20_480
"""Of ``tuned_configs/emh_ppo.yaml``."""

LONG = 20
"""Times as many steps for what starts from scratch."""

METRICS = ("reward", "latency_ms", "energy_j")


def cells(budget: Budget) -> list[Cell]:
    """Table III with every variant."""
    variants = [
        learned(f"EMH-PPO, {name}", budget, source="emh_ppo", settings=settings)
        for name, settings in VARIANTS.items()
    ]
    steps = (budget.steps or STEPS) * LONG
    long = dataclasses.replace(budget, steps=steps)
    for name, more in {
        "mean reward": {},
        "discounted sum": {"average_reward": False},
        "mean reward, state alone": {"model_config": {"compare_queues": False}},
    }.items():
        variants.append(
            learned(
                f"EMH-PPO, from scratch for {LONG} times the steps, {name}",
                long,
                source="emh_ppo",
                settings={**FROM_SCRATCH, **more},
            )
        )
    return [*variants, *references()]


def draw(results: Results) -> Any:
    """Every variant's reward with its interval, and its seeds as dots."""
    names = [cell.policy.removeprefix("EMH-PPO, ") for cell in results.of()]
    figure, (axes,) = new_figure(1, 1, panel_inches=(6.4, 0.9 + 0.35 * len(names)))
    for row, cell in enumerate(results.of()):
        interval = results.interval(cell, "reward")
        looks = {**look("EMH-PPO"), "linestyle": "none"}
        if len(cell.trials) > 1:
            axes.errorbar(interval.mean, row, xerr=interval.half_width, capsize=3, **looks)
        seeds = [values["reward"] for values in results.rows(cell)]
        label = None if row else "a training seed"
        axes.plot(seeds, [row] * len(seeds), label=label, **look("paper"))
    axes.axvline(results.mean("planner", "reward"), label="planner", color="black", linestyle=":")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(TITLES["reward"])
    add_legend(figure, axes)
    return figure


def remarks(results: Results) -> str:
    """How far each variant is from the algorithm as it is, seed by seed."""
    first, *others = results.of()
    base = [row["reward"] for row in results.rows(first)]
    lines = ["## What a choice is worth", "", "Reward gained by the choice, over paired seeds:", ""]
    for cell in others:
        rewards = [row["reward"] for row in results.rows(cell)]
        gains = [own - without for own, without in zip(base, rewards, strict=True)]
        gain = with_interval(Interval.of(gains), DIGITS["reward"])
        lines.append(f"- {cell.policy.removeprefix('EMH-PPO, ')}: {gain}")
    return "\n".join(lines)


ITEM = Item(
    name="ablation",
    title="Ablation: EMH-PPO without one of its choices at a time",
    explanation="ResNet-50, 3 MDs, 2 MEC servers, 2 channels.",
    cells=cells,
    draw=draw,
    remarks=remarks,
    has_curves=True,
)

if __name__ == "__main__":
    sys.exit(cli.main([ITEM], __doc__))
