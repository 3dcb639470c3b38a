"""Ctrl-C and SIGTERM: every running trial writes a checkpoint, then Tune ends its loop.

Tune's own handler ends the loop at once and loses what was learned since the last checkpoint. So it
is switched off, and a Tune callback works in its place:

1. the first signal sets a flag; from then on each trial's next result asks for a checkpoint;
2. once every trial that was running has written one, the callback raises SIGUSR1, on which Tune
   ends its loop in order: it saves the experiment's state with those trials still "running", so
   that ``--resume`` goes on from exactly there;
3. a second signal does the last step at once, without waiting for checkpoints.

The same callback writes a checkpoint every few minutes if the user asked for no other rhythm, so
that also ``kill -9`` costs minutes, not the run.
"""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.result import SHOULD_CHECKPOINT

from rllib_mec.experiments.messages import note


class CheckpointKeeper(Callback):
    """Writes checkpoints on a signal and, if wanted, at a steady interval.

    Args:
        interval_s: Seconds between checkpoints of a trial, or None for no rhythm of its own.
    """

    def __init__(self, interval_s: float | None):
        """Make a keeper that has seen no signal."""
        self.interrupted = False
        self._interval_s = interval_s
        self._saved_at: dict[str, float] = {}
        self._waiting_for: set[str] | None = None

    def handle_signals(self) -> None:
        """Handle SIGINT and SIGTERM by this keeper, until Ray's session puts others back."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.interrupted:
            note("stopping at once, without a new checkpoint")
            _end_tune_loop()
            return
        self.interrupted = True
        note("stopping: finishing this iteration to write a checkpoint; again to stop at once")

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Start the trial's clock; see the base class."""
        self._saved_at[trial.trial_id] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any
    ) -> None:
        """Ask Tune for a checkpoint with this result if one is due; see the base class."""
        age = time.monotonic() - self._saved_at.setdefault(trial.trial_id, time.monotonic())
        if self.interrupted or (self._interval_s is not None and age >= self._interval_s):
            result[SHOULD_CHECKPOINT] = True

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note that the trial's checkpoint is on disk; see the base class."""
        self._saved_at[trial.trial_id] = time.monotonic()
        if self._waiting_for is not None:
            self._waiting_for.discard(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """End Tune's loop once all checkpoints that were asked for are written.

        See the base class.
        """
        if not self.interrupted:
            return
        running = {t.trial_id for t in trials if t.status == Trial.RUNNING}
        if self._waiting_for is None:
            self._waiting_for = set(running)
        if self._waiting_for & running:
            return
        for trial in trials:
            # The next iteration is under way already; its result would be thrown away.
            if trial.trial_id in running and trial.temporary_state.ray_actor is not None:
                with contextlib.suppress(Exception):
                    ray.kill(trial.temporary_state.ray_actor)
        _end_tune_loop()


def _end_tune_loop() -> None:
    signal.raise_signal(signal.SIGUSR1)  # Tune's only handle on its loop from within the process
