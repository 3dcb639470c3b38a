"""Fig. 7: the task-aware MDP against the time-slot MDP, over slot times and channel conditions.

    python benchmarks/fig7_time_slot.py [--budget quick|full]

Flags and files are those of ``reproduce.py``, which runs all items.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from suite import cli
from suite.cells import Budget, Cell, Results, learned, references
from suite.charts import draw_curve, finish_curves
from suite.item import Item
from suite.report import DIGITS, TITLES, table
from suite.trial import Protocol

from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.task_window import TaskWindowMDP
from rllib_mec.envs.time_slot import TimeSlotMDP
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import FullOffload
from rllib_mec.viz.plotting import add_legend, draw_band, look, new_figure

SLOTS_MS = (10, 50, 300)
TASK_AWARE = "task-aware"
FIXED_MS = 50
LONG_MS = 3000
POWER_W = 0.02
SHADOWING, DISTANCE = "shadowing (dB)", "distance (m)"
SHADOWING_DB = (4.0, 8.0, 12.0)
DISTANCES_M = (25.0, 50.0, 75.0)
USUAL = {SHADOWING: 8.0, DISTANCE: 50.0}
METRICS = ("latency_ms", "energy_j")
_INDEX = {TASK_AWARE: 0, 50: 1, 10: 2, 300: 3}


def slot_name(slot_ms: float) -> str:
    """What the legend calls a slot time."""
    return f"time slot, {slot_ms:g} ms"


def cells(budget: Budget) -> list[Cell]:
    """Table III with all slot times, and the other channel conditions with slots of 50 ms."""
    found = []
    for where in settings():
        scenario = {}
        if where[SHADOWING] != USUAL[SHADOWING]:
            scenario["shadowing_std_db"] = where[SHADOWING]
        distance = where[DISTANCE]
        if distance != USUAL[DISTANCE]:
            scenario["distance_range_m"] = [1.0, 2 * distance]  # its mean is half a metre more
        common = {"where": where, "protocol": Protocol(distance_m=distance)}
        found.append(learned(TASK_AWARE, budget, scenario, source="emh_ppo", **common))
        for slot in SLOTS_MS if where == USUAL else (FIXED_MS,):
            slotted = {**scenario, "slot_ms": float(slot)}
            found.append(learned(slot_name(slot), budget, slotted, source="time_slot", **common))
        found += references(scenario, **common)
    return found


def settings() -> list[dict[str, float]]:
    """The channel conditions: the usual one, then one property changed at a time."""
    shadowings = [{**USUAL, SHADOWING: s} for s in SHADOWING_DB]
    distances = [{**USUAL, DISTANCE: d} for d in DISTANCES_M]
    return [USUAL, *(where for where in shadowings + distances if where != USUAL)]


def draw(results: Results) -> Any:
    """Convergence in the upper row, channel conditions in the two lower ones."""
    figure, panels = new_figure(3, 2)
    for axes, metric in zip(panels[:2], METRICS, strict=True):
        for slot in (TASK_AWARE, *SLOTS_MS):
            name = slot if slot == TASK_AWARE else slot_name(slot)
            cell = results.find(name, **USUAL)
            draw_curve(axes, results, cell, metric, name, look(index=_INDEX[slot]))
        finish_curves(axes, metric)
    rows = ((SHADOWING, panels[2:4]), (DISTANCE, panels[4:]))
    for column, row in rows:
        for axes, metric in zip(row, METRICS, strict=True):
            _draw_conditions(axes, results, column, metric)
    add_legend(figure, panels[0])
    return figure


def _draw_conditions(axes: Any, results: Results, column: str, metric: str) -> None:
    """A line per MDP over one property of the channel."""
    fixed = {name: value for name, value in USUAL.items() if name != column}
    for slot, policy in ((TASK_AWARE, TASK_AWARE), (FIXED_MS, slot_name(FIXED_MS))):
        chosen = [c for c in results.of([policy]) if fixed.items() <= c.where.items()]
        chosen.sort(key=lambda cell: cell.where[column])
        x = np.array([cell.where[column] for cell in chosen])
        values = np.array([[row[metric] for row in results.rows(cell)] for cell in chosen]).T
        draw_band(axes, x, values, label=policy, looks=look(index=_INDEX[slot]), markers=True)
    axes.set_xlabel(column)
    axes.set_xticks(x)
    axes.set_ylabel(TITLES[metric])


def quantities(results: Results) -> dict[str, float]:
    """What Section V-B says of Fig. 7."""

    def of_ours(slot: float, metric: str) -> float:
        ours = results.mean(TASK_AWARE, metric, **USUAL)
        return results.mean(slot_name(slot), metric, **USUAL) / ours

    slow_energy = results.mean(slot_name(300), "energy_j", **USUAL)
    return {
        "energy_at_50_ms": of_ours(50, "energy_j"),
        "latency_added_at_300_ms": 100 * (of_ours(300, "latency_ms") - 1),
        "energy_at_300_ms": of_ours(300, "energy_j"),
        "energy_at_300_ms_of_local": slow_energy / results.mean("local only", "energy_j", **USUAL),
    }


def remarks(results: Results) -> str:
    """What both MDPs are for: the objective of Eq. (4)."""
    rows = []
    for cell in results.of():
        own = results.interval(cell, "cost").mean
        ours, planned = (
            results.mean(policy, "cost", **cell.where) for policy in (TASK_AWARE, "planner")
        )
        numbers = [f"{own:.1f}", f"{own / ours:.3f}", f"{own / planned:.3f}"]
        rows.append([*map(str, cell.where.values()), cell.policy, *numbers])
    head = [*USUAL, "policy", "Eq. (4)", "over task-aware", "over the planner"]
    return "\n\n".join(
        [
            "## Latency and energy together",
            "An MDP can trade one for the other. The problem that both are made for is Eq. (4): "
            "total latency plus β times the energy of all tasks over N, in ms, with β = "
            f"{Scenario().energy_weight:g}; less is better.",
            table(head, rows),
            same_decisions(),
        ]
    )


def same_decisions() -> str:
    """What the MDPs themselves cost, apart from what is decided in them."""
    episodes = Protocol().episodes
    rows = []
    for num_devices in (1, Scenario().num_devices):
        for shadowing in (0.0, *SHADOWING_DB):
            scenario = Scenario(num_devices=num_devices, shadowing_std_db=shadowing)
            slots = [TimeSlotMDP(scenario, slot_ms=slot) for slot in (FIXED_MS, LONG_MS)]
            mdps: list[MDP] = [TaskWindowMDP(scenario), *slots]
            found = [evaluate(FullOffload(mdp, POWER_W), episodes=episodes) for mdp in mdps]
            cells = [each[m].text(DIGITS[m]) for m in METRICS for each in found]
            rows.append([str(num_devices), str(shadowing), *cells])
    mdps_named = ("task windows", slot_name(FIXED_MS), slot_name(LONG_MS))
    columns = [f"{TITLES[m]}: {name}" for m in METRICS for name in mdps_named]
    return "\n\n".join(
        [
            "## The same decisions in both MDPs",
            f"Full offload at {1000 * POWER_W:g} mW, whatever the state, 50 tasks at 50 m: here "
            "nothing but the MDP differs. A task window keeps its shadowing until its last task is "
            "done, whereas the end of a slot draws it anew, also under a transmission: that cuts "
            f"the deep fades short, where much of the energy goes. Slots of {LONG_MS} ms outlast "
            "them, and one MD is back at what it has in task windows. Several MDs begin every task "
            "window together, and interfere; in slots they drift apart.",
            table(["N", SHADOWING, *columns], rows),
        ]
    )


ITEM = Item(
    name="fig7",
    title="Fig. 7: the task-aware MDP against the time-slot MDP",
    explanation="EMH-PPO on both MDPs, ResNet-50, 3 MDs, 2 MEC servers, 2 channels. At a distance "
    "of d, training draws distances from [1, 2d] m and the evaluation fixes d. In the time-slot "
    "MDP shadowing is drawn anew in every slot. Rewards of the two MDPs cannot be compared.",
    cells=cells,
    draw=draw,
    metrics=METRICS,
    quantities=quantities,
    remarks=remarks,
    has_curves=True,
)

if __name__ == "__main__":
    sys.exit(cli.main([ITEM], __doc__))
