"""Fig. 12: how the energy weight beta trades latency for energy.

    python benchmarks/fig12_energy_weight.py [--budget quick|full]

Flags and files are those of ``reproduce.py``, which runs all items.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from suite import cli
from suite.cells import Budget, Cell, Results, learned, references
from suite.item import Item

from rllib_mec.viz.plotting import add_legend, look, new_figure

WEIGHTS = (1, 10, 50, 100, 200, 500)


def cells(budget: Budget) -> list[Cell]:
    """Table III with other energy weights."""
    found = []
    for weight in WEIGHTS:
        scenario, where = {"energy_weight": float(weight)}, {"β": weight}
        found += [learned("EMH-PPO", budget, scenario, where=where)]
        found += references(scenario, where=where)
    return found


def draw(results: Results) -> Any:
    """Latency and energy in per cent of local only, over beta and against each other."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    figure, (over, against) = new_figure(1, 2, panel_inches=(4.2, 3.0))
    for index, (metric, name) in enumerate((("latency_ms", "latency"), ("energy_j", "energy"))):
        for policy, suffix in (("EMH-PPO", ""), ("planner", ", planner")):
            shares = _share_of_local(results, policy, metric)
            looks = {**look(index=index), **({} if policy == "EMH-PPO" else _THIN)}
            over.plot(WEIGHTS, shares, label=f"{name}{suffix}", **looks)
    over.set_xscale("log")
    over.set_xticks(WEIGHTS, [str(weight) for weight in WEIGHTS])
    over.set_yscale("log")
    over.minorticks_off()
    over.set_xlabel("energy weight β")
    over.set_ylabel("% of local only")
    add_legend(figure, over)
    for policy in ("EMH-PPO", "planner"):
        x, y = (_share_of_local(results, policy, metric) for metric in ("latency_ms", "energy_j"))
        against.plot(x, y, label=policy, **look(policy))
        if policy == "EMH-PPO":
            for weight, *place in zip(WEIGHTS, x, y, strict=True):
                against.annotate(
                    f"β = {weight}", place, xytext=(4, 4), textcoords="offset points", fontsize=7
                )
    against.set_xlabel("latency, % of local only")
    against.set_ylabel("energy, % of local only")
    against.margins(0.12)
    against.legend()
    against.set_yscale("log")
    for axes in (over, against):
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    return figure


_THIN = {"linewidth": 0.8, "markerfacecolor": "white", "linestyle": (0, (1, 1))}


def _share_of_local(results: Results, policy: str, metric: str) -> np.ndarray:
    return np.array(
        [
            100 * results.mean(policy, metric, β=w) / results.mean("local only", metric, β=w)
            for w in WEIGHTS
        ]
    )


def quantities(results: Results) -> dict[str, float]:
    """What Section V-D says of Fig. 12."""
    energy = _share_of_local(results, "EMH-PPO", "energy_j")
    most, usual = (results.mean("EMH-PPO", "latency_ms", β=weight) for weight in (500, 50))
    return {
        "energy_of_local_at_500": energy[WEIGHTS.index(500)],
        "latency_added_at_500": 100 * (most / usual - 1),
    }


ITEM = Item(
    name="fig12",
    title="Fig. 12: trade-off between latency and energy",
    explanation="EMH-PPO, ResNet-50, 3 MDs, 2 MEC servers, 2 channels. Rewards of different β "
    "cannot be compared with each other; the planner's of the same β can.",
    cells=cells,
    draw=draw,
    quantities=quantities,
)

if __name__ == "__main__":
    sys.exit(cli.main([ITEM], __doc__))
