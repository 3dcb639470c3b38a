"""Live progress: bars on a terminal, elsewhere one tidy line now and then, with the time left."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, TextIO

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich import progress as rich_progress
from rich.console import Console

from rllib_mec.algorithms import long_work
from rllib_mec.experiments.messages import error, note
from rllib_mec.experiments.report import parameters
from rllib_mec.experiments.stop_criteria import STEPS, lookup, share_done

_METRICS = (
    ("return", "env_runners/episode_return_mean", "{:.2f}"),
    ("reward", "env_runners/reward", "{:.2f}"),
    ("latency", "env_runners/latency_ms", "{:.1f} ms"),
    ("energy", "env_runners/energy_j", "{:.4f} J"),
    ("eval return", "evaluation/env_runners/episode_return_mean", "{:.2f}"),
)
"""Label, result key and format of what is shown if a result has it."""

_BAR = 20
"""Width of a bar."""

_EVERY_S = 10.0
"""Least seconds between lines where there is no terminal."""

_ASK_EVERY_S = 1.0
"""Seconds between looks at what trials do within an iteration."""


def duration(seconds: float | None) -> str:
    """A time as ``h:mm:ss``.

    Args:
        seconds: The time; None or infinite: unknown, ``?``.
    """
    if seconds is None or not math.isfinite(seconds):
        return "?"
    return str(datetime.timedelta(seconds=round(seconds)))


def env_runners(trial: Trial, result: dict[str, Any]) -> tuple[int, int]:
    """How many remote env runners of a trial are there, and how many it should have.

    Args:
        trial: The trial.
        result: What it reports.
    """
    wanted = int((trial.config or {}).get("num_env_runners") or 0)
    there = lookup(result, "fault_tolerance/num_healthy_workers")
    return wanted if there is None else int(there), wanted


class Pace:
    """The time left of work in equal parts, by how fast their shares have been done.

    Args:
        parts: How many there are.
    """

    def __init__(self, parts: int):
        """Nothing is done yet."""
        self.parts = parts
        self._began = math.inf
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def note(self, part: str, share: float, first: float | None = None, ago_s: float = 0.0) -> None:
        """Note how much of a part is done.

        Args:
            part: Its name.
            share: What is done, in [0, 1].
            first: What was done before the time counts; default: the first share noted.
            ago_s: Seconds before now in which the time began to count.
        """
        self._began = min(self._began, time.monotonic() - ago_s)
        self._first.setdefault(part, share if first is None else first)
        self._last[part] = share

    def seconds_left(self) -> float | None:
        """Until all parts are done, or None while nothing has moved."""
        done = sum(self._last.values())
        moved = done - sum(self._first.values())
        return (time.monotonic() - self._began) * (self.parts - done) / moved if moved > 0 else None


class Progress(Callback):
    """Shows the progress of an experiment.

    Args:
        stop: The stop criteria, for the time left.
        time_budget_s: Seconds after which Tune ends the experiment, if any.
        verbose: Print every result, however fast they come.
        stream: Where to print; default: stdout.
    """

    def __init__(
        self,
        stop: dict[str, float],
        time_budget_s: float | None = None,
        verbose: bool = False,
        stream: TextIO | None = None,
    ):
        """Make a reporter that has seen nothing yet."""
        self._stop, self._budget_s = stop, time_budget_s
        self._console = Console(file=stream, soft_wrap=True, markup=False, highlight=False)
        self._bars = rich_progress.Progress(
            rich_progress.BarColumn(_BAR),
            rich_progress.TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
            disable=verbose or not self._console.is_terminal,
        )
        self._bar_of: dict[str, rich_progress.TaskID] = {}
        self._every_s = 0.0 if verbose else _EVERY_S
        self._began = time.monotonic()
        self._pace = Pace(1)
        self._previous: dict[str, dict[str, Any]] = {}
        self._printed_at: dict[str, float] = {}
        self._stop_keys_checked = False
        self._asked_at = 0.0
        self._stages: dict[str, tuple[str, Pace, float]] = {}  # and when it was last heard of
        self._short_since: dict[str, float] = {}

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: int = 1, **info):
        """Tune tells how many trials there will be; see the base class."""
        self._pace = Pace(max(1, total_num_samples))
        self._began = time.monotonic()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Take the bars off the terminal; see the base class."""
        self._bars.stop()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Announce a trial of many, or that a trial goes on from a checkpoint.

        See the base class.
        """
        saved = trial.latest_checkpoint_result if trial.checkpoint else None
        if saved is not None:
            metrics = self._previous[trial.trial_id] = saved.metrics or {}
            where = f"from {saved.checkpoint.path}" if saved.checkpoint else "from a checkpoint"
            if "training_iteration" in metrics:  # of this run, not of another one
                where = f"after iteration {metrics['training_iteration']}"
                steps = lookup(metrics, STEPS)
                where += "" if steps is None else f", {steps:,.0f} steps"
            self._console.print(f"{self._label(trials, trial)}going on {where}")
        elif self._pace.parts > 1:
            self._console.print(f"{self._label(trials, trial)}started  {parameters(trial)}")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any
    ) -> None:
        """Move the trial's bar, and print a line if one is due; see the base class."""
        now, name = time.monotonic(), trial.trial_id
        before = self._previous.get(name, {})
        if not self._stop_keys_checked:
            self._stop_keys_checked = True
            self._check_stop_keys(result)
        if not before and result.get("training_iteration", 0) > 1:
            before = result  # e.g. a copy of another trial: where it began is unknown
        share = 1.0 if result.get("done") else share_done(self._stop, result)
        if share is not None:
            first = share_done(self._stop, before) or 0.0
            # What took long before the iteration says nothing about those to come.
            *_, since = self._stages.pop(name, (-math.inf,))
            ago_s = min(result.get("time_this_iter_s", 0.0), now - since)
            self._pace.note(name, share, first, ago_s)
        for other in trials:
            if other.is_finished():
                self._pace.note(other.trial_id, 1.0)
        missing = self._missing(now, trials, trial, result)
        self._previous[name] = result
        line = self._line(now, before, result, missing)
        self._show(trials, trial, line, share, done=result.get("done"))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Show how far trials are with what is long within an iteration; see the base class."""
        now = time.monotonic()
        if now - self._asked_at < _ASK_EVERY_S:
            return
        self._asked_at = now
        for trial in trials:
            running = trial.status == Trial.RUNNING
            told = long_work.told(PurePath(trial.path or "").name) if running else None
            if told is not None:
                stage, share = told
                before, pace, _ = self._stages.get(trial.trial_id, (None, Pace(1), now))
                pace = pace if stage == before else Pace(1)
                pace.note(stage, share)
                self._stages[trial.trial_id] = stage, pace, now
                line = f"{stage} {share:.0%}, {duration(pace.seconds_left())} left"
                self._show(trials, trial, f"{line}  elapsed {duration(now - self._began)}", share)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Say at once that a trial of many has failed; the end of the run says why.

        See the base class.
        """
        if self._pace.parts > 1:
            error(f"{self._label(trials, trial).strip()} failed, see {trial.error_file}")

    def _show(
        self,
        trials: Sequence[Trial],
        trial: Trial,
        line: str,
        share: float | None,
        done: bool | None = False,
    ) -> None:
        """Move a trial's bar; without bars, print its line if one is due."""
        name, line = trial.trial_id, self._label(trials, trial) + line
        if name not in self._bar_of:
            self._bars.start()
            self._bar_of[name] = self._bars.add_task("", total=1.0)
        fits = line[: self._console.width - _BAR - 2]  # else rich leaves the bar away
        self._bars.update(
            self._bar_of[name], completed=share or 0.0, description=fits, visible=not done
        )
        now = time.monotonic()
        due = self._bars.disable and now - self._printed_at.get(name, -math.inf) >= self._every_s
        if due or done:
            self._printed_at[name] = now
            self._console.print(line)

    def _missing(self, now: float, trials: list[Trial], trial: Trial, result: dict) -> str | None:
        """How many env runners are missing and since when; a note when that changes."""
        there, wanted = env_runners(trial, result)
        name, label = trial.trial_id, self._label(trials, trial)
        if there >= wanted:
            if self._short_since.pop(name, None) is not None:
                note(f"{label}all {wanted} env runners are there again")
            return None
        if name not in self._short_since:
            self._short_since[name] = now
            note(f"{label}{wanted - there} of {wanted} env runners are lost, training goes on")
        since = duration(now - self._short_since[name])
        return f"{there}/{wanted} env runners, {wanted - there} missing for {since}"

    def _line(self, now: float, before: dict, result: dict, missing: str | None) -> str:
        left = self._pace.seconds_left()
        if self._budget_s is not None:
            of_budget = max(0.0, self._budget_s - (now - self._began))
            left = of_budget if left is None else min(left, of_budget)
        # What a narrow terminal must not cut off comes first.
        fields = [f"iter {result.get('training_iteration', 0):>4}", f"ETA {duration(left)}"]
        fields += [missing] if missing else []
        steps = lookup(result, STEPS)
        if steps is not None:
            fields.append(f"{steps:>11,.0f} steps")
            seconds = result.get("time_total_s", 0.0) - before.get("time_total_s", 0.0)
            if seconds > 0:
                fields.append(f"{(steps - (lookup(before, STEPS) or 0.0)) / seconds:>7,.0f}/s")
        # The return of our environments grows with the number of windows: the reward says more.
        has_reward = lookup(result, "env_runners/reward") is not None
        for label, key, template in _METRICS:
            value = None if has_reward and label == "return" else lookup(result, key)
            if value is not None and not math.isnan(value):
                fields.append(f"{label} {template.format(value)}")
        return "  ".join([*fields, f"elapsed {duration(now - self._began)}"])

    def _check_stop_keys(self, result: dict) -> None:
        """A criterion that is not in the first result may never come true."""
        absent = [key for key in self._stop if lookup(result, key) is None]
        if absent:
            note(f"stop key {absent[0]!r} is not in the first result; training may not end by it")

    def _label(self, trials: Sequence[Trial], trial: Trial) -> str:
        """Nothing for a single trial, else ``[2/6] ``."""
        if self._pace.parts <= 1:
            return ""
        # By id, since Tune reorders its list on resume.
        number = 1 + sum(other.trial_id < trial.trial_id for other in trials)
        return f"[{number}/{self._pace.parts}] "
