"""Policies side by side, as a table of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rllib_mec.envs.episodes import total_cost
from rllib_mec.envs.mdp import MDP
from rllib_mec.evaluation.bound import BOUNDED, Bound
from rllib_mec.evaluation.interval import Interval
from rllib_mec.evaluation.paper import paper_row
from rllib_mec.evaluation.protocol import COSTS, METRICS, Evaluation, is_comparable, is_near_optimal
from rllib_mec.network.mobility import movement, moves

COLLAPSED_SHARE = 0.999

_MOST_CUTS = 3
"""So many partition points of a policy are named, those with the most tasks."""

_WITH_SAVING = ("latency_ms", "energy_j")

_NONE = "-"


def comparison_table(
    evaluations: Sequence[Evaluation], *, paper: bool = True, bound: Bound | None = None
) -> str:
    """A table of policies side by side, with their savings against local only, and their cuts.

    Args:
        evaluations: All of one scenario; local only among them gives the savings, the planner the
            optimality gaps, or else the bound.
        paper: Whether to add the paper's row where it has one.
        bound: What no policy gets below, for the same queues and distances.

    Returns:
        Lines of text, without a newline at the end.
    """
    first = evaluations[0]
    by_name = {evaluation.policy: evaluation for evaluation in reversed(evaluations)}
    baseline, planner = by_name.get("local only"), by_name.get("planner")
    entries = [(e.policy, {m: e[m] for m in METRICS}, e.mdp) for e in evaluations]
    published = paper_row(first.mdp, first.num_tasks, first.distance_m) if paper else None
    if published is not None and isinstance(first.num_tasks, int):
        published["cost"] = total_cost(
            published["latency_ms"],
            published["energy_j"],
            first.num_tasks,
            first.scenario.energy_weight,
        )
        values = {metric: Interval(value, math.nan) for metric, value in published.items()}
        entries.append(("the paper's EMH-PPO", values, first.mdp))

    if bound is not None:
        values = {metric: Interval(getattr(bound, metric), math.nan) for metric in BOUNDED}
        entries.append(("bound", values, bound.mdp))
    yardstick = planner or bound
    gap = [] if yardstick is None else ["/bound" if planner is None else "/planner"]
    of_energy = gap if planner is not None else []
    rows = [["policy", "reward", *gap, "Eq. (4)", *gap, "latency, ms", "", *gap]]
    rows[0] += ["energy, J/task", "", *of_energy, "waiting, ms/task", "window"]
    for name, values, mdp in entries:
        row = [name]
        for metric in COSTS:
            value = values.get(metric)
            row.append(_NONE if value is None else value.text(4 if metric == "energy_j" else 2))
            if metric in _WITH_SAVING:
                row.append(_saving(value, baseline and baseline[metric]))
            if yardstick is not None and (metric in BOUNDED or planner is not None):
                row.append(_ratio(metric, value, mdp, yardstick))
        row.append(values["waiting_ms"].text(2) if "waiting_ms" in values else _NONE)
        row.append(f"{values['window_size'].mean:.2f}" if "window_size" in values else _NONE)
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "─" * max(len(line) for line in lines))
    measured = _measured_table(evaluations, widths[0])
    cuts = [f"{e.policy.ljust(widths[0])}  {cut_summary(e.point_share)}" for e in evaluations]
    head = f"{'policy'.ljust(widths[0])}  partition point: share of tasks"
    return "\n".join(
        [*lines, *measured, "", head, *cuts, "", *_notes(evaluations, baseline, planner, bound)]
    )


def _saving(value: Interval | None, baseline: Interval | None) -> str:
    if value is None or baseline is None:
        return ""
    if baseline.mean == 0.0:  # no task was done, or none takes energy
        return _NONE
    return f"{100 * (value.mean / baseline.mean - 1):+.1f} %"


def _ratio(metric: str, value: Interval | None, mdp: MDP, yardstick: Evaluation | Bound) -> str:
    """How many times the planner's or the bound's number it is, if they can be compared."""
    if isinstance(yardstick, Bound):
        reference, comparable = getattr(yardstick, metric), yardstick.holds_for(mdp)
    else:
        reference, comparable = yardstick[metric].mean, is_comparable(metric, mdp, yardstick.mdp)
    if value is None or not comparable:
        return ""
    return f"{value.mean / reference:.2f}×" if reference else _NONE


_COLUMNS = {
    "sojourn_ms": ("sojourn, ms", 1, 1.0),
    "sojourn_p50_ms": ("p50", 1, 1.0),
    "sojourn_p95_ms": ("p95", 1, 1.0),
    "sojourn_p99_ms": ("p99", 1, 1.0),
    "deadline_hit_rate": ("in time, %", 1, 100.0),
    "throughput_hz": ("tasks/s", 2, 1.0),
    "backlog": ("backlog", 1, 1.0),
    "fairness": ("fairness", 3, 1.0),
    "abandoned": ("abandoned", 1, 1.0),
}
"""Title, decimals and factor of what an MDP may measure; others stand under their name."""


def _measured_table(evaluations: Sequence[Evaluation], width: int) -> list[str]:
    """What the MDP measures besides, in a table of its own; nothing where that is nothing."""
    names = evaluations[0].mdp.measures
    if not names:
        return []
    columns = [_COLUMNS.get(name, (name, 3, 1.0)) for name in names]
    rows = [["policy".ljust(width), *(title for title, _, _ in columns)]]
    for evaluation in evaluations:
        cells = []
        for name, (_, digits, factor) in zip(names, columns, strict=True):
            found = evaluation[name] if name in evaluation.mdp.measures else Interval.of([])
            cells.append(Interval(factor * found.mean, factor * found.half_width).text(digits))
        rows.append([evaluation.policy.ljust(width), *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return ["", *(line.rstrip() for line in lines)]


def cut_summary(point_share: np.ndarray) -> str:
    """Where tasks are cut, e.g. ``0: 62 %, 47: 30 %, local: 8 %``.

    Points have the index that ``rllib-mec partition`` gives them, full local is ``local``.

    Args:
        point_share: Share of tasks at each partition point, ``(S,)``.

    Returns:
        The points with the most tasks, in their order, and what the others have together; without
        what rounds to 0 %; ``-`` if no task was done.
    """
    if not point_share.any():
        return _NONE
    named = np.sort(np.argsort(-point_share, kind="stable")[:_MOST_CUTS])
    labels = ["local" if point == len(point_share) - 1 else str(point) for point in named]
    percents = [round(100 * share) for share in (*point_share[named], 1 - point_share[named].sum())]
    pairs = zip([*labels, "other"], percents, strict=True)
    return ", ".join(f"{label}: {percent} %" for label, percent in pairs if percent)


def _notes(
    evaluations: Sequence[Evaluation],
    baseline: Evaluation | None,
    planner: Evaluation | None,
    bound: Bound | None,
) -> list[str]:
    """What stands under the table: what to beware of, then what was measured."""
    notes = [
        f"note: {evaluation.policy} runs every task locally: it has collapsed"
        for evaluation in evaluations
        if evaluation is not baseline and evaluation["local_share"].mean > COLLAPSED_SHARE
    ]
    ratio = ""
    if planner is not None:
        ratio = "; × of the planner's"
        if is_near_optimal(planner):
            ratio += ", where 1 is near-optimal in reward"
        else:
            notes.append(f"note: {_why_not_near_optimal(planner)}: there may be far better ones")
    elif bound is not None:
        ratio = "; × of the bound"
    if bound is not None:
        ratio += "; bound: no policy's expectation is better"
        if bound.distance_m is None:
            ratio += f", with all at {bound.mdp.scenario.distance_range_m[0]:g} m"
    first = evaluations[0]
    return [
        *notes,
        f"{first.mdp.title}: mean ± 95 % interval over {len(first.episodes)} episodes "
        f"(seed {first.seed}), {_placement(first)}; % against local only{ratio}",
    ]


def _why_not_near_optimal(planner: Evaluation) -> str:
    if planner.distance_m is None:
        how = "change as MDs move" if moves(planner.scenario) else "are drawn"
        return f"where distances {how}, the planner knows plans for some of them"
    num_devices = planner.scenario.num_devices
    return f"of {num_devices} devices the planner knows a few plans for all of them together"


def _placement(evaluation: Evaluation) -> str:
    """How many tasks the MDs had, and where they stood."""
    scenario = evaluation.scenario
    low, high = scenario.distance_range_m
    tasks = _mean_tasks(evaluation)
    moving = f"moving by {movement(scenario)} between {low:g} and {high:g} m"
    where = moving if evaluation.distance_m is None else f"{_listed(evaluation.distance_m)} m"
    is_placed = evaluation.distance_m is not None or moves(scenario)
    if evaluation.mdp.tasks_arrive and is_placed:
        given = evaluation.num_tasks
        at_start = "" if given is None else f", {_listed(given)} an MD at the start"
        return f"tasks as they come{at_start}, {where}"
    if evaluation.num_tasks is None or not is_placed:
        where = f", {moving}" if is_placed else ""
        drawn = "queues" if is_placed else "queues and distances"
        return f"{drawn} drawn as in training (mean {tasks} tasks an MD){where}"
    tasks = _listed(evaluation.num_tasks)
    if low < high and evaluation.distance_m == (low + high) / 2:
        where += f" (the mean of {low:g} to {high:g} m)"
    return f"{tasks} tasks an MD, {where}"


def _mean_tasks(evaluation: Evaluation) -> str:
    """Mean number of tasks of an MD in an episode, as they were drawn."""
    episodes = evaluation.episodes
    return f"{(episodes.window_size * episodes.num_windows).mean():.1f}"


def _listed(values: float | tuple[float, ...]) -> str:
    if isinstance(values, tuple):
        return f"({', '.join(_listed(value) for value in values)})"
    return f"{values:g}" if isinstance(values, float) else str(values)
