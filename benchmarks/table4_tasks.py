"""Table IV: 50 to 200 tasks an MD, with the policies of Fig. 6 as they were trained.

    python benchmarks/table4_tasks.py [--budget quick|full]

Flags and files are those of ``reproduce.py``, which runs all items.
"""

from __future__ import annotations

import functools
import sys

from suite import charts, cli
from suite.cells import BASELINES, SOURCES, Budget, Cell, Results, learned, references
from suite.item import Item
from suite.trial import Protocol

NUM_TASKS = (50, 100, 150, 200)


def cells(budget: Budget) -> list[Cell]:
    """Table III; only the evaluation differs."""
    found = []
    for number in NUM_TASKS:
        common = {"where": {"tasks": number}, "protocol": Protocol(num_tasks=number)}
        found += [learned(policy, budget, **common) for policy in ("EMH-PPO", *BASELINES)]
        found += references(**common)
    return found


def quantities(results: Results) -> dict[str, float]:
    """What Section V-C says of Table IV: latency per additional task."""

    def slope(policy: str) -> float:
        few, many = (results.mean(policy, "latency_ms", tasks=n) for n in (50, 200))
        return (many - few) / 150

    others = {f"latency_a_task_{SOURCES[policy]}": slope(policy) for policy in ("MAHPPO", "H-PPO")}
    return {"latency_a_task": slope("EMH-PPO"), **others}


ITEM = Item(
    name="table4",
    title="Table IV: 50 to 200 tasks",
    explanation="ResNet-50, 3 MDs, 2 MEC servers, 2 channels. The policies are those of Fig. 6, "
    "trained with 50 tasks on average: no number of tasks above some 80 was seen in training.",
    cells=cells,
    draw=functools.partial(charts.comparison_over, column="tasks", label="tasks of every MD"),
    quantities=quantities,
)

if __name__ == "__main__":
    sys.exit(cli.main([ITEM], __doc__))
