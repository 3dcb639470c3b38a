"""Draw training curves from the folders that training leaves, also while it still runs.

rllib-mec plot ~/ray_results/emh-ppo
rllib-mec plot ~/ray_results/emh-ppo ~/ray_results/mahppo --out both.pdf --metrics reward latency_ms
rllib-mec plot ~/ray_results/cartpole --metrics episode_return_mean vf_loss --x training_iteration

Runs that differ in their seed only are one curve: their mean, with a band of its 95 % interval.
Other runs get a curve each, named by what they differ in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import click

from rllib_mec.cli.command import OK, command, option
from rllib_mec.errors import MecError, unknown
from rllib_mec.experiments.results import Trial, find_trials, group_by_seed
from rllib_mec.experiments.stop_criteria import STEPS
from rllib_mec.viz import plotting

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


@command(help=__doc__)
@click.argument("folders", nargs=-1, required=True, metavar="RESULT_DIR...")
@option("--out", metavar="FILE", help="the picture (default: the first folder's name, .png)")
@option(
    "--metrics", multiple=True, metavar="KEY...",
    help="results to draw, e.g. reward or learners/default_policy/vf_loss "
    f"(default {' '.join(PAPER_METRICS)}, or else episode_return_mean)",
)  # fmt: skip
@option("--x", default=STEPS, metavar="KEY", help="what to draw them over")
def plot(folders: tuple[str, ...], out: str | None, metrics: tuple[str, ...], x: str) -> int:
    """Draw the curves."""
    name = Path(folders[0]).expanduser().resolve().name
    target = plotting.check_target(out or f"{name}.png")
    plotting.check_installed()
    trials = {t.folder: t for folder in folders for t in find_trials(folder)}
    groups = group_by_seed(list(trials.values()))
    names = {name for trial in trials.values() for name in trial.results.columns}
    x = _resolve(x, names)
    chosen = [_resolve(metric, names) for metric in metrics]
    chosen = chosen or [m for m in (f"env_runners/{name}" for name in PAPER_METRICS) if m in names]
    chosen = chosen or [_resolve(_RETURN, names)]
    _draw(groups, x, list(dict.fromkeys(chosen)), target)
    for label, group in groups.items():
        points = max(len(trial.results) for trial in group)
        print(f"{label}: {_count(len(group), 'run')}, {_count(points, 'result')}")
    print(f"wrote {target}")
    return OK


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
