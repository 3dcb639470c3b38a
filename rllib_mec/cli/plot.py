"""Draw training curves from the folders that training leaves, also while it still runs.

rllib-mec plot ~/ray_results/emh-ppo
rllib-mec plot ~/ray_results/emh-ppo ~/ray_results/mahppo --out both.pdf --metrics reward latency_ms
rllib-mec plot ~/ray_results/cartpole --metrics episode_return_mean vf_loss --x training_iteration

Runs that differ in their seed only are one curve: their mean, with a band of its 95 % interval.
Other runs get a curve each, named by what they differ in.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from rllib_mec.errors import MecError, unknown
from rllib_mec.experiments.results import Trial, find_trials, group_by_seed
from rllib_mec.viz import plotting

STEPS = "num_env_steps_sampled_lifetime"
PAPER_METRICS = ("reward", "latency_ms", "energy_j", "waiting_ms")
"""The four of Fig. 6, drawn by default where they were measured."""

_RETURN = "env_runners/episode_return_mean"
_NAMES = {
    STEPS: "environment steps",
    "training_iteration": "training iteration",
    "time_total_s": "training time (s)",
    "env_runners/reward": "Mean reward of a task window",
    "env_runners/latency_ms": "Total latency of an episode (ms)",
    "env_runners/energy_j": "Energy of a task (J)",
    "env_runners/waiting_ms": "Waiting time of a task (ms)",
    "env_runners/window_size": "Mean task window",
    "env_runners/local_share": "Share of tasks run locally",
    _RETURN: "Mean return of an episode",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("folders", nargs="+", metavar="RESULT_DIR", help="of a trial, or of experiments")
    add("--out", metavar="FILE", help="the picture (default: the first folder's name, .png)")
    add(
        "--metrics",
        nargs="+",
        metavar="KEY",
        help="results to draw, e.g. reward or learners/default_policy/vf_loss "
        f"(default {' '.join(PAPER_METRICS)}, or else episode_return_mean)",
    )
    add("--x", default=STEPS, metavar="KEY", help=f"what to draw them over (default {STEPS})")


def run(arguments: argparse.Namespace) -> int:
    """Draw the curves.

    Returns:
        0.

    Raises:
        MecError: A folder has no results, or there is no such metric.
    """
    name = Path(arguments.folders[0]).expanduser().resolve().name
    target = plotting.check_target(arguments.out or f"{name}.png")
    plotting.check_installed()
    trials = {t.folder: t for folder in arguments.folders for t in find_trials(folder)}
    groups = group_by_seed(list(trials.values()))
    names = {name for trial in trials.values() for result in trial.results for name in result}
    x = _resolve(arguments.x, names)
    if arguments.metrics:
        metrics = [_resolve(metric, names) for metric in arguments.metrics]
    else:
        metrics = [m for m in (f"env_runners/{name}" for name in PAPER_METRICS) if m in names]
        metrics = metrics or [_resolve(_RETURN, names)]
    _draw(groups, x, list(dict.fromkeys(metrics)), target)
    for label, group in groups.items():
        points = max(len(trial.results) for trial in group)
        print(f"{label}: {_count(len(group), 'run')}, {_count(points, 'result')}")
    print(f"wrote {target}")
    return 0


def _resolve(key: str, names: Collection[str]) -> str:
    """The full name of a result, e.g. ``env_runners/reward`` of ``reward``.

    Raises:
        MecError: There is none, or there are several.
    """
    if key in names:
        return key
    if f"env_runners/{key}" in names:
        return f"env_runners/{key}"
    found = sorted(name for name in names if name.endswith(f"/{key}"))
    if len(found) > 1:
        raise MecError(f"result {key!r} may be any of {', '.join(found)}")
    if not found:
        usual = [name for name in _NAMES if name in names]
        short = {name.rpartition("/")[2] for name in names}
        raise _unknown_result(key, usual, {*names, *short})
    return found[0]


def _unknown_result(key: str, usual: Sequence[str], names: Collection[str]) -> MecError:
    """An error with the nearest name of all, though it lists the usual ones only."""
    nearest = str(unknown("result", key, names)).partition("choose from")[0]
    return MecError(f"{nearest}choose from {', '.join(usual)}, or any other in result.json")


def _draw(groups: dict[str, list[Trial]], x: str, metrics: Sequence[str], target: Path) -> None:
    columns = 1 if len(metrics) == 1 else 2
    rows = -(-len(metrics) // columns)
    algorithms = [group[0].algorithm for group in groups.values()]
    with plotting.style():
        from matplotlib.ticker import EngFormatter

        figure, panels = plotting.new_figure(rows, columns)
        for axes in panels[len(metrics) :]:
            axes.remove()
        for axes, metric in zip(panels, metrics, strict=False):
            for index, (label, group) in enumerate(groups.items()):
                algorithm = algorithms[index]
                named = algorithm if algorithms.count(algorithm) == 1 else None
                curves = [trial.curve(x, metric) for trial in group]
                curves = [curve for curve in curves if len(curve[0])]
                if curves:
                    places, values = plotting.on_common_axis(curves)
                    plotting.draw_band(
                        axes,
                        places,
                        values,
                        label=label if len(group) == 1 else f"{label} ({len(group)} seeds)",
                        looks=plotting.look(named, index),
                    )
            axes.set_title(_NAMES.get(metric, metric))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        for axes in panels[: len(metrics)][-columns:]:
            axes.set_xlabel(_NAMES.get(x, x))
        plotting.add_legend(figure, panels[0], columns=2 * columns)
        plotting.save(figure, target)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
