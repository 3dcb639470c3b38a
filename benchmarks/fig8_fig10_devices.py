"""Figs. 8 and 10: one to six MDs; how EMH-PPO converges, and how all policies compare.

    python benchmarks/fig8_fig10_devices.py [--only fig8] [--budget quick|full]

Flags and files are those of ``reproduce.py``, which runs all items.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

import numpy as np
from suite import charts, cli
from suite.cells import BASELINES, SOURCES, Budget, Cell, Results, learned, references
from suite.item import Item

NUM_DEVICES = (1, 2, 3, 4, 5, 6)


def cells(budget: Budget, policies: Sequence[str]) -> list[Cell]:
    """Table III with other numbers of MDs."""
    found = []
    for number in NUM_DEVICES:
        scenario, where = {"num_devices": number}, {"N": number}
        found += [learned(policy, budget, scenario, where=where) for policy in policies]
        found += references(scenario, where=where)
    return found


def convergence_quantities(results: Results) -> dict[str, float]:
    """What Section V-C says of Fig. 8."""
    ours, local = (results.mean(name, "latency_ms", N=6) for name in ("EMH-PPO", "local only"))
    return {"latency_saved_at_6_devices": 100 * (1 - ours / local)}


def comparison_quantities(results: Results) -> dict[str, float]:
    """What Section V-C says of Fig. 10: 1 - EMH-PPO's reward / theirs, the mean over N."""
    return {
        f"reward_below_{SOURCES[policy]}": 100
        * np.mean(
            [
                1 - results.mean("EMH-PPO", "reward", N=n) / results.mean(policy, "reward", N=n)
                for n in NUM_DEVICES
            ]
        )
        for policy in ("MAHPPO", "H-PPO")
    }


CONVERGENCE = Item(
    name="fig8",
    title="Fig. 8: convergence with 1 to 6 MDs",
    explanation="EMH-PPO, ResNet-50, 2 MEC servers, 2 channels. The curves begin after the "
    "planner's demonstrations: what is left to learn is little.",
    cells=functools.partial(cells, policies=("EMH-PPO",)),
    draw=functools.partial(charts.convergence_over, column="N"),
    quantities=convergence_quantities,
    has_curves=True,
)
COMPARISON = Item(
    name="fig10",
    title="Fig. 10: all policies with 1 to 6 MDs",
    explanation="ResNet-50, 2 MEC servers, 2 channels.",
    cells=functools.partial(cells, policies=("EMH-PPO", *BASELINES)),
    draw=functools.partial(charts.comparison_over, column="N", label="number of MDs"),
    quantities=comparison_quantities,
)

if __name__ == "__main__":
    sys.exit(cli.main([CONVERGENCE, COMPARISON], __doc__))
