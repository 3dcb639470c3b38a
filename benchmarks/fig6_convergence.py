"""Fig. 6: how EMH-PPO and the baselines converge on Table III, in four metrics.

    python benchmarks/fig6_convergence.py [--budget quick|full]

Flags and files are those of ``reproduce.py``, which runs all items.
"""

from __future__ import annotations

import sys
from typing import Any

from ablation import from_scratch
from suite import cli
from suite.cells import BASELINES, SOURCES, Budget, Cell, Results, learned, references
from suite.charts import draw_curve, draw_level, finish_curves
from suite.item import Item

from rllib_mec.viz.plotting import add_legend, look, new_figure

METRICS = ("reward", "latency_ms", "energy_j", "waiting_ms")
POLICIES = ("EMH-PPO", *BASELINES)
SCRATCH = "EMH-PPO, from scratch"


def cells(budget: Budget) -> list[Cell]:
    """One setting: Table III."""
    policies = [learned(policy, budget) for policy in POLICIES]
    return [*policies, from_scratch(SCRATCH, budget), *references()]


def draw(results: Results) -> Any:
    """A panel per metric."""
    figure, panels = new_figure(2, 2)
    for axes, metric in zip(panels, METRICS, strict=True):
        for cell in results.of():
            looks = look(cell.policy)
            if cell.policy == SCRATCH:
                looks = {**look("EMH-PPO"), "linestyle": (0, (1, 1))}
            draw_curve(axes, results, cell, metric, cell.policy, looks)
        for policy in ("planner", "local only"):
            draw_level(axes, results, policy, metric)
        finish_curves(axes, metric)
    add_legend(figure, panels[0])
    return figure


def quantities(results: Results) -> dict[str, float]:
    """What Section V-B says of Fig. 6."""
    mean = results.mean
    found = {
        "waiting": mean("EMH-PPO", "waiting_ms"),
        "latency_saved": _saved(results, "EMH-PPO", "latency_ms"),
        "energy_saved": _saved(results, "EMH-PPO", "energy_j"),
    }
    for policy in BASELINES:
        key = SOURCES[policy]
        found[f"reward_over_{key}"] = mean(policy, "reward") / mean("EMH-PPO", "reward")
        found[f"latency_saved_{key}"] = _saved(results, policy, "latency_ms")
        waiting = mean("EMH-PPO", "waiting_ms")
        found[f"waiting_of_{key}"] = mean(policy, "waiting_ms") / max(waiting, 1e-9)
    return found


def _saved(results: Results, policy: str, metric: str) -> float:
    """Per cent of what local only takes."""
    return 100 * (1 - results.mean(policy, metric) / results.mean("local only", metric))


ITEM = Item(
    name="fig6",
    title="Fig. 6: convergence against the baselines",
    explanation="ResNet-50, 3 MDs, 2 MEC servers, 2 channels. EMH-PPO and AgileNN begin with the "
    "planner's demonstrations, so that their curves are flat from the first point on; MAHPPO and "
    "H-PPO, which decide once for all tasks of a window, cannot imitate it, so that EMH-PPO from "
    "scratch stands beside them. The curves show 100 greedy episodes of the evaluation protocol "
    "every few iterations; bands are 95 % intervals over the seeds. "
    "`fig6_curves.csv` has the training's own episodes as well.",
    cells=cells,
    draw=draw,
    metrics=METRICS,
    quantities=quantities,
    has_curves=True,
)

if __name__ == "__main__":
    sys.exit(cli.main([ITEM], __doc__))
