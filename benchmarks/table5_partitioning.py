"""Table V: operator-grained against vertical partition points, three DNNs, one to six MDs.

    python benchmarks/table5_partitioning.py [--budget quick|full]

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
from suite.report import TITLES, table

from rllib_mec.network.defaults import PROFILES
from rllib_mec.network.scenario import Scenario
from rllib_mec.viz.plotting import add_legend, draw_band, look, new_figure

DNNS = ("resnet50", "googlenet", "mobilenet_v2")
NUM_DEVICES = (1, 2, 3, 4, 5, 6)
POINTS = {"operator": "pareto", "vertical": "vertical"}
"""What the paper compares -> our name; dropping operator points that cannot win loses nothing."""

METRICS = ("reward", "latency_ms", "energy_j")
SHADOWING = "shadowing (dB)"


def cells(budget: Budget) -> list[Cell]:
    """All of Table V, and its N = 1 without shadowing as well."""
    found = []
    for dnn in DNNS:
        for number in NUM_DEVICES:
            for points, partition in POINTS.items():
                scenario = {"dnn": dnn, "num_devices": number, "partition": partition}
                where = {"DNN": dnn, "N": number, "points": points, SHADOWING: 8}
                cell = learned("EMH-PPO", budget, scenario, where=where)
                found += [cell, *references(scenario, where=where)]
                if number == 1:
                    still, where = {**scenario, "shadowing_std_db": 0.0}, {**where, SHADOWING: 0}
                    same = learned("EMH-PPO", budget, still, where=where)
                    found += [dataclasses.replace(same, paper=cell.paper)]
                    found += references(still, where=where)
    return found


def draw(results: Results) -> Any:
    """A row per metric, a column per DNN."""
    figure, panels = new_figure(3, 3, panel_inches=(3.2, 2.4))
    for panel, (metric, dnn) in zip(panels, ((m, d) for m in METRICS for d in DNNS), strict=True):
        where = {"DNN": dnn, SHADOWING: 8}
        for index, points in enumerate(POINTS):
            chosen = [results.find("EMH-PPO", **where, N=n, points=points) for n in NUM_DEVICES]
            values = np.array([[row[metric] for row in results.rows(cell)] for cell in chosen]).T
            looks = look(index=index)
            draw_band(panel, np.array(NUM_DEVICES), values, label=points, looks=looks, markers=True)
            theirs = [cell.paper[metric] for cell in chosen]
            looks = {**look("paper"), "marker": looks["marker"]}
            panel.plot(NUM_DEVICES, theirs, label=f"{points}, the paper's", **looks)
        planner = [
            results.mean("planner", metric, **where, N=n, points="operator") for n in NUM_DEVICES
        ]
        panel.plot(NUM_DEVICES, planner, label="planner", **look("planner"))
        panel.set_xlabel("number of MDs")
        panel.set_ylabel(TITLES[metric])
        panel.set_title(dnn)
    add_legend(figure, panels[0], columns=5)
    return figure


def quantities(results: Results) -> dict[str, float]:
    """What Section V-E says of Table V, as means over its 18 settings."""

    def saved(metric: str) -> float:
        settings = [{"DNN": dnn, "N": n, SHADOWING: 8} for dnn in DNNS for n in NUM_DEVICES]
        pairs = [
            [results.mean("EMH-PPO", metric, **setting, points=points) for points in POINTS]
            for setting in settings
        ]
        return 100 * float(np.mean([1 - operator / vertical for operator, vertical in pairs]))

    return {
        "latency_saved_by_operator_points": saved("latency_ms"),
        "energy_saved_by_operator_points": saved("energy_j"),
    }


Point = tuple[float, float, float]
"""Bits sent, million MACs on the MD, server latency in ms."""


def useful_points(dnn: str, profile: str, partition: str) -> tuple[int, set[Point]]:
    """How many points there are, and those that no other beats or equals in everything."""
    points = Scenario(dnn=dnn, profile=profile, partition=partition).table
    costs = np.stack([points.bits, points.local_mmacs, points.server_latency_ms], axis=1)
    costs = np.unique(costs.round(6), axis=0)
    no_worse = (costs[:, None] <= costs[None]).all(axis=2) & (costs[:, None] != costs[None]).any(2)
    return points.num_points, {tuple(row) for row in costs[~no_worse.any(axis=0)].tolist()}


def best_alone(points: set[Point]) -> set[Point]:
    """Full local, and the useful points on the lower convex hull of (bits, MACs).

    With rate, power and weights given, a task on its own costs a price per bit and one per MAC, and
    the server's time, which is the same for all cuts or linear in the MACs.
    """
    hull: list[Point] = []
    for point in sorted(points):
        if point[0] == 0.0:  # full local, whose server time is another
            continue
        while len(hull) > 1 and not _turns_left(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return {*hull, *(point for point in points if point[0] == 0.0)}


def _turns_left(a: Point, b: Point, c: Point) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])


def remarks(results: Results) -> str:
    """Whether operator points give any room over vertical ones."""
    rows, sentences = [], []
    for profile in PROFILES:
        same: dict[str, list[str]] = {"useful": [], "alone": []}
        for dnn in DNNS:
            (count, operator), (count_vertical, vertical) = (
                useful_points(dnn, profile, points) for points in ("operator", "vertical")
            )
            alone = best_alone(operator), best_alone(vertical)
            row = [f"`{profile}`", dnn, f"{len(operator)} of {count}"]
            row += [f"{len(vertical)} of {count_vertical}", *(str(len(each)) for each in alone)]
            rows.append(row)
            same["useful"] += [dnn] if operator == vertical else []
            same["alone"] += [dnn] if alone[0] == alone[1] else []
        sentences.append(
            f"Profile `{profile}`: the useful points are the same for {_listed(same['useful'])}; "
            f"those that can be best for a task on its own for {_listed(same['alone'])}."
        )
    head = ["profile", "DNN", "useful: operator", "useful: vertical"]
    head += ["best alone: operator", "best alone: vertical"]
    return "\n\n".join(
        [
            "## How much room there is",
            "A point is *useful* if no other is at least as good in bits sent, MACs on the MD and "
            "server latency. It can be *best alone* if some rate, power and β make it the cheapest "
            "for a task on its own. Where the latter are the same, operator points can pay only by "
            "balancing MDs against each other.",
            table(head, rows),
            *sentences,
            _planners_gain(results),
            "## Against the paper",
            _against_the_paper(results),
        ]
    )


def _listed(dnns: list[str]) -> str:
    return {0: "none of the DNNs", len(DNNS): "all three DNNs"}.get(len(dnns), " and ".join(dnns))


def _planners_gain(results: Results) -> str:
    """What the planner, which does not have to learn, makes of the additional points."""
    gains = {
        f"{dnn}, N = {n}": 100 * (1 - operator / vertical)
        for dnn in DNNS
        for n in NUM_DEVICES
        for operator, vertical in [
            [
                results.mean("planner", "reward", DNN=dnn, N=n, points=points, **{SHADOWING: 8})
                for points in POINTS
            ]
        ]
    }
    least, most = min(gains, key=gains.__getitem__), max(gains, key=gains.__getitem__)
    return (
        f"The planner's cost with operator points is {gains[least]:.2f} % ({least}) to "
        f"{gains[most]:.2f} % ({most}) less than with vertical ones, "
        f"{np.mean(list(gains.values())):.2f} % on average."
    )


def _against_the_paper(results: Results) -> str:
    """In how many cells of Table V ours is better, by metric, and how near it is at N = 1."""
    ours = [cell for cell in results.of() if cell.where["points"] == "operator"]
    many = [cell for cell in ours if cell.where["N"] > 1]
    better = {
        metric: sum(abs(results.interval(c, metric).mean) < abs(c.paper[metric]) for c in many)
        for metric in METRICS
    }
    lines = [
        f"Operator points, N ≥ 2: of {len(many)} cells, reward is better in {better['reward']}, "
        f"latency in {better['latency_ms']}, energy in {better['energy_j']}.",
        "",
        "At N = 1, the reward's cost over the paper's:",
        "",
    ]
    for cell in (cell for cell in ours if cell.where["N"] == 1):
        own = results.interval(cell, "reward").mean / cell.paper["reward"]
        planner = results.mean("planner", "reward", **cell.where) / cell.paper["reward"]
        how = f"{cell.where[SHADOWING]} dB shadowing"
        lines.append(f"- {cell.where['DNN']}, {how}: {own:.3f} (the planner's {planner:.3f})")
    return "\n".join(lines)


ITEM = Item(
    name="table5",
    title="Table V: operator-grained against vertical partitioning",
    explanation="EMH-PPO, 2 MEC servers, 2 channels. *operator* is `partition: pareto`, the "
    "operator points without those that can never be the best choice. The paper's row at N = 1 "
    "fits an evaluation without shadowing, so this setting is trained and evaluated both ways.",
    cells=cells,
    draw=draw,
    quantities=quantities,
    remarks=remarks,
)

if __name__ == "__main__":
    sys.exit(cli.main([ITEM], __doc__))
