"""Live progress: one tidy line per result, with the time left."""

from __future__ import annotations

import math
import sys
import time
from typing import Any, TextIO

from ray.tune import Callback
from ray.tune.experiment import Trial

from rllib_mec.experiments.messages import error, note
from rllib_mec.experiments.stop_criteria import STEPS, lookup, seconds_left

_METRICS = (
    ("return", "env_runners/episode_return_mean", "{:.2f}"),
    ("reward", "env_runners/reward", "{:.2f}"),
    ("latency", "env_runners/latency_ms", "{:.1f} ms"),
    ("energy", "env_runners/energy_j", "{:.4f} J"),
    ("eval return", "evaluation/env_runners/episode_return_mean", "{:.2f}"),
)
"""Label, result key and format of what is shown if a result has it."""

_EVERY_S = {True: 1.0, False: 10.0}
"""Least seconds between lines, on a terminal and elsewhere."""


def duration(seconds: float | None) -> str:
    """``h:mm:ss``, or ``?`` if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Progress(Callback):
    """Prints the progress of an experiment.

    Args:
        stop: The stop criteria, for the ETA.
        time_budget_s: Seconds after which Tune ends the experiment, if any.
        verbose: Print every result, however fast they come.
        stream: Where to print.
    """

    def __init__(
        self,
        stop: dict[str, float],
        time_budget_s: float | None = None,
        verbose: bool = False,
        stream: TextIO | None = None,
    ):
        """Make a reporter that has seen nothing yet."""
        self._stop = stop
        self._budget_s = time_budget_s
        self._stream = stream or sys.stdout
        self._every_s = 0.0 if verbose else _EVERY_S[self._stream.isatty()]
        self._began = time.monotonic()
        self._first: dict[str, tuple[float, dict[str, Any]]] = {}
        self._previous: dict[str, tuple[float, float]] = {}
        self._printed_at: dict[str, float] = {}
        self._resumed: dict[str, dict[str, Any]] = {}
        self._total = 1
        self._warned = False

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: int = 1, **info):
        """Tune tells how many trials there will be."""
        self._total = max(1, total_num_samples)
        self._began = time.monotonic()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Announce a trial of many, or that a trial goes on from a checkpoint."""
        saved = trial.latest_checkpoint_result if trial.checkpoint else None
        if saved is not None:
            metrics = self._resumed[trial.trial_id] = saved.metrics or {}
            source = saved.checkpoint
            where = f"from {source.path}" if source else "from a checkpoint"  # of another run
            if "training_iteration" in metrics:
                where = f"after iteration {metrics['training_iteration']}"
                steps = lookup(metrics, STEPS)
                where += "" if steps is None else f", {steps:,.0f} steps"
            self._write(f"{self._label(trials, trial)}going on {where}")
        elif self._total > 1:
            self._write(f"{self._label(trials, trial)}started  {_parameters(trial)}")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any
    ) -> None:
        """Print a line if one is due."""
        now = time.monotonic()
        if trial.trial_id not in self._first:
            self._check_stop_keys(result)
            before = self._resumed.get(trial.trial_id, {})
            if not before and result.get("training_iteration", 0) > 1:
                before = dict(result)  # e.g. a copy of another trial: where it began is unknown
            self._first[trial.trial_id] = (now - result.get("time_this_iter_s", 0.0), before)
            began = (before.get("time_total_s", 0.0), lookup(before, STEPS) or 0.0)
            self._previous[trial.trial_id] = began
        due = now - self._printed_at.get(trial.trial_id, -math.inf) >= self._every_s
        if due or result.get("done"):
            self._printed_at[trial.trial_id] = now
            self._write(self._line(now, trials, trial, result))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Say at once that a trial of many has failed; the end of the run says why."""
        if self._total > 1:
            error(f"{self._label(trials, trial).strip()} failed, see {trial.error_file}")

    def _line(self, now: float, trials: list[Trial], trial: Trial, result: dict) -> str:
        fields = [f"iter {result.get('training_iteration', 0):>4}"]
        steps = lookup(result, STEPS)
        if steps is not None:
            fields.append(f"{steps:>11,.0f} steps")
            seconds = result.get("time_total_s", 0.0)
            seconds_before, steps_before = self._previous[trial.trial_id]
            if seconds > seconds_before:
                fields.append(f"{(steps - steps_before) / (seconds - seconds_before):>7,.0f}/s")
            self._previous[trial.trial_id] = (seconds, steps)
        # The return of our environments grows with the number of windows: the reward says more.
        has_reward = lookup(result, "env_runners/reward") is not None
        for label, key, template in _METRICS:
            value = None if has_reward and label == "return" else lookup(result, key)
            if value is not None and not math.isnan(value):
                fields.append(f"{label} {template.format(value)}")
        fields.append(f"elapsed {duration(now - self._began)}")
        fields.append(f"ETA {duration(self._seconds_left(now, trials, trial, result))}")
        return self._label(trials, trial) + "  ".join(fields)

    def _seconds_left(
        self, now: float, trials: list[Trial], current: Trial, result: dict
    ) -> float | None:
        """Until the last trial ends, with the waiting ones paced like those seen."""
        left, lengths = [], []
        ahead = self._total
        for trial in trials:
            seen = trial.trial_id in self._first
            ahead -= seen or trial.is_finished()
            if not seen:
                continue
            began, first = self._first[trial.trial_id]
            # Tune stores the newest result in the trial only after its callbacks have run.
            last = result if trial is current else trial.last_result or {}
            if trial.is_finished():
                lengths.append(now - began)
                continue
            rest = seconds_left(self._stop, first, last, now - began)
            if rest is None:
                left = []
                break
            left.append(rest)
            lengths.append(now - began + rest)
        estimate = max(left) if left else None
        if estimate is not None and ahead > 0:
            estimate += math.ceil(ahead / len(left)) * sum(lengths) / len(lengths)
        if self._budget_s is not None:
            budget = max(0.0, self._budget_s - (now - self._began))
            estimate = budget if estimate is None else min(estimate, budget)
        return estimate

    def _check_stop_keys(self, result: dict) -> None:
        """A criterion that is not in the first result may never come true."""
        absent = [key for key in self._stop if lookup(result, key) is None]
        if absent and not self._warned:
            self._warned = True
            note(f"stop key {absent[0]!r} is not in the first result; training may not end by it")

    def _label(self, trials: list[Trial], trial: Trial) -> str:
        """Nothing for a single trial, else ``[2/6] ``."""
        if self._total <= 1:
            return ""
        # By id, since Tune reorders its list on resume.
        number = 1 + sum(other.trial_id < trial.trial_id for other in trials)
        return f"[{number}/{self._total}] "

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


def _parameters(trial: Trial) -> str:
    return "  ".join(f"{key}={value}" for key, value in (trial.evaluated_params or {}).items())
