"""What each choice is worth: algorithms as they are, and without one of their choices at a time.

    python benchmarks/ablation.py [--budget quick|full]

Flags and files are those of ``reproduce.py``, which runs all items.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from suite import cli
from suite.cells import SOURCES, Budget, Cell, Results, learned, references
from suite.item import Item
from suite.report import DIGITS, TITLES, table

from rllib_mec.evaluation import Interval
from rllib_mec.viz.plotting import add_legend, look, new_figure

STATE_ALONE: dict[str, Any] = {"model_config": {"compare_queues": False}}

WARM: dict[str, dict[str, Any]] = {
    "as it is": {},
    "a quarter of the demonstrations, four times as often": {
        "demonstrations": 25_600,
        "imitation_epochs": 8,
    },
    "no PPO after the demonstrations": {"lr": 0.0},
    "networks see the state alone": STATE_ALONE,
    "no counterfactuals": {"counterfactuals": 0},
}
"""Variant -> changes to ``config`` in ``tuned_configs/emh_ppo.yaml``."""

FROM_SCRATCH: dict[str, Any] = {
    "demonstrations": 0,
    "lr": [[0, 1e-3], [20_480, 0.0]],
    "entropy_coeff": [[0, 0.02], [15_360, 0.001]],
}
"""As EMH-PPO is tuned without demonstrations; schedules stretch with the steps."""

SCRATCH: dict[str, dict[str, Any]] = {
    "the other choices": {},
    "networks see the state alone": STATE_ALONE,
    "no counterfactuals": {"counterfactuals": 0},
    "no counterfactuals, one advantage for all slots": {
        "counterfactuals": 0,
        "per_task_advantages": False,
    },
    "mean reward of a window as the objective": {"average_reward": True},
}
"""Variant -> changes to :data:`FROM_SCRATCH`."""

STEPS = 20_480
"""Of ``tuned_configs/emh_ppo.yaml``."""

LONG = 10
"""Times as many steps for what starts from scratch."""

_EMH_PPO = "EMH-PPO, "
_SCRATCH = "from scratch: "
_SUM = ", discounted sum of rewards"

BASELINES = ("MAHPPO", "H-PPO")
"""Those that maximise the mean reward of a window."""


def cells(budget: Budget) -> list[Cell]:
    """Table III with every variant."""
    warm = [
        learned(f"{_EMH_PPO}{name}", budget, source="emh_ppo", settings=settings)
        for name, settings in WARM.items()
    ]
    scratch = [
        from_scratch(f"{_EMH_PPO}{_SCRATCH}{name}", budget, settings)
        for name, settings in SCRATCH.items()
    ]
    baselines = [
        learned(f"{name}{_SUM}", budget, source=SOURCES[name], settings={"average_reward": False})
        for name in BASELINES
    ]
    own = [learned(name, budget) for name in BASELINES]
    return [*warm, *scratch, *own, *baselines, *references()]


def from_scratch(name: str, budget: Budget, settings: Mapping[str, Any] | None = None) -> Cell:
    """EMH-PPO on Table III without demonstrations, and with other changes if there are any."""
    long = dataclasses.replace(budget, steps=(budget.steps or STEPS) * LONG)
    return learned(name, long, source="emh_ppo", settings={**FROM_SCRATCH, **(settings or {})})


def draw(results: Results) -> Any:
    """Every variant's reward with its interval, and its seeds as dots: evaluated, in training."""
    names = [cell.policy.removeprefix(_EMH_PPO) for cell in results.of()]
    figure, panels = new_figure(1, 2, panel_inches=(5.2, 0.9 + 0.35 * len(names)))
    measures = {TITLES["reward"]: _at_the_end, "The same, in training": _in_training}
    for axes, (title, measure) in zip(panels, measures.items(), strict=True):
        for row, cell in enumerate(results.of()):
            seeds = measure(results, cell)
            interval = Interval.of(seeds)
            looks = {**look("EMH-PPO"), "linestyle": "none"}
            if len(seeds) > 1:
                axes.errorbar(interval.mean, row, xerr=interval.half_width, capsize=3, **looks)
            label = None if row else "a training seed"
            axes.plot(seeds, [row] * len(seeds), label=label, **look("paper"))
        axes.set_yticks(range(len(names)), names if axes is panels[0] else [""] * len(names))
        axes.invert_yaxis()
        axes.set_xlabel(title)
    planner = results.mean("planner", "reward")
    panels[0].axvline(planner, label="planner", color="black", linestyle=":")
    add_legend(figure, panels[0])
    return figure


def remarks(results: Results) -> str:
    """How far each variant is from the algorithm as it is, seed by seed."""
    lines = [
        "## What a choice is worth",
        "Reward gained by the choice over doing without it, over paired seeds. *At the end*: of "
        "the evaluation, whose episodes all take the same windows, so that a single state can "
        "decide. *On the way*: the mean over the training's greedy evaluations, which is higher "
        "the sooner it learns. *In training*: of the last quarter of the training's own episodes, "
        "with drawn queues, distances and actions.",
    ]
    groups = {
        "With the demonstrations": [f"{_EMH_PPO}{name}" for name in WARM],
        f"From scratch, with {LONG} times the steps": [
            f"{_EMH_PPO}{_SCRATCH}{name}" for name in SCRATCH
        ],
        **{
            f"{name}, whose objective is the mean reward of a window": [name, f"{name}{_SUM}"]
            for name in BASELINES
        },
    }
    for title, policies in groups.items():
        first, *others = results.of(policies)
        rows = []
        for cell in others:
            name = cell.policy.removeprefix(_EMH_PPO).removeprefix(_SCRATCH)
            gains = [
                _gained(measure(results, first), measure(results, cell))
                for measure in (_at_the_end, _on_the_way, _in_training)
            ]
            rows.append([name, *gains])
        head = ["variant", "at the end", "on the way", "in training"]
        lines += [f"{title}:", table(head, rows)]
    return "\n\n".join(lines)


def _at_the_end(results: Results, cell: Cell) -> list[float]:
    return [row["reward"] for row in results.rows(cell)]


def _on_the_way(results: Results, cell: Cell) -> list[float]:
    return [float(rewards.mean()) for _, rewards in results.curves(cell, "eval_reward")]


def _in_training(results: Results, cell: Cell) -> list[float]:
    curves = [rewards for _, rewards in results.curves(cell, "reward")]
    return [float(np.nanmean(rewards[-(len(rewards) // 4) :])) for rewards in curves]


def _gained(own: list[float], without: list[float]) -> str:
    gains = [with_it - other for with_it, other in zip(own, without, strict=True)]
    return Interval.of(gains).text(DIGITS["reward"])


ITEM = Item(
    name="ablation",
    title="Ablation: EMH-PPO and two baselines without one of their choices at a time",
    explanation="ResNet-50, 3 MDs, 2 MEC servers, 2 channels.",
    cells=cells,
    draw=draw,
    remarks=remarks,
    has_curves=True,
)

if __name__ == "__main__":
    sys.exit(cli.main([ITEM], __doc__))
