"""Figs. 9 and 11: one to six MEC servers for four MDs; EMH-PPO's convergence, and all policies.

    python benchmarks/fig9_fig11_servers.py [--only fig9] [--budget quick|full]

Flags and files are those of ``reproduce.py``, which runs all items.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

from suite import charts, cli
from suite.cells import BASELINES, SOURCES, Budget, Cell, Results, learned, references
from suite.item import Item

NUM_SERVERS = (1, 2, 3, 4, 5, 6)


def cells(budget: Budget, policies: Sequence[str]) -> list[Cell]:
    """Table III with four MDs and other numbers of MEC servers."""
    found = []
    for number in NUM_SERVERS:
        scenario, where = {"num_devices": 4, "num_servers": number}, {"M": number}
        found += [learned(policy, budget, scenario, where=where) for policy in policies]
        found += references(scenario, where=where)
    return found


def quantities(results: Results) -> dict[str, float]:
    """What Section V-C says of Fig. 11: how much of the cost at M = 1 is gone at M = 6."""

    def gain(policy: str) -> float:
        one, six = (results.mean(policy, "reward", M=m) for m in (1, 6))
        return 100 * (1 - six / one)

    baselines = {f"reward_gain_{SOURCES[policy]}": gain(policy) for policy in BASELINES}
    return {"reward_gain": gain("EMH-PPO"), **baselines}


CONVERGENCE = Item(
    name="fig9",
    title="Fig. 9: convergence with 1 to 6 MEC servers",
    explanation="EMH-PPO, ResNet-50, 4 MDs, 2 channels. The curves begin after the "
    "planner's demonstrations: what is left to learn is little.",
    cells=functools.partial(cells, policies=("EMH-PPO",)),
    draw=functools.partial(charts.convergence_over, column="M"),
    has_curves=True,
)
COMPARISON = Item(
    name="fig11",
    title="Fig. 11: all policies with 1 to 6 MEC servers",
    explanation="ResNet-50, 4 MDs, 2 channels.",
    cells=functools.partial(cells, policies=("EMH-PPO", *BASELINES)),
    draw=functools.partial(charts.comparison_over, column="M", label="number of MEC servers"),
    quantities=quantities,
)

if __name__ == "__main__":
    sys.exit(cli.main([CONVERGENCE, COMPARISON], __doc__))
