"""Running trials in parallel over Ray Tune, with progress and an orderly Ctrl-C."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ray import tune
from ray.tune import Callback

from rllib_mec.experiments import ray_session
from rllib_mec.experiments.progress import Pace, duration
from rllib_mec.experiments.quiet import quieten
from rllib_mec.experiments.training import root_cause
from suite import worker
from suite.store import Store
from suite.trial import Protocol, Trial

_EVERY_S = 15.0
"""Least seconds between lines about trials under way."""


@dataclasses.dataclass
class Work:
    """What is left to do of a trial.

    Attributes:
        trial: The trial.
        protocols: The measurements wanted.
    """

    trial: Trial
    protocols: set[Protocol]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run of trials ended.

    Attributes:
        failed: Label and cause of each trial that failed.
        interrupted: Whether it was ended before all were done.
    """

    failed: list[tuple[str, str]]
    interrupted: bool


def left_to_do(wanted: Iterable[tuple[Trial, Protocol]], store: Store) -> list[Work]:
    """The work without what the store has, each trial once.

    Args:
        wanted: Measurements.
        store: What has been done.

    Returns:
        In the order of the first mention, but those without training first: a planner keeps its
        plans, from which trainings may begin.
    """
    work: dict[str, Work] = {}
    for trial, protocol in wanted:
        if not store.has(trial, protocol):
            work.setdefault(trial.key, Work(trial, set())).protocols.add(protocol)
    return sorted(work.values(), key=lambda each: each.trial.is_trained)


def run(
    work: list[Work], store: Store, jobs: int, on_done: Callable[[Trial], None] = lambda trial: None
) -> Outcome:
    """Do the work, ``jobs`` trials at a time, each on one core.

    Args:
        work: From :func:`left_to_do`.
        store: Where results go.
        jobs: Trials at a time.
        on_done: Called with every trial that is done.

    Returns:
        How it ended; what is in the store then stays.
    """
    quieten(0)
    for each in work:
        if each.trial.is_trained:
            each.trial.experiment()  # a slip in a file is found before hours of work

    def trainable(config: dict[str, Any]) -> None:
        own = work[config["index"]]
        worker.do(own.trial, own.protocols, store, lambda share: tune.report({"share": share}))
        tune.report({"share": 1.0})

    progress = Progress(work, on_done)
    with (
        _environment(),
        tempfile.TemporaryDirectory(prefix="reproduce_") as folder,
        ray_session.started(ray_session.RayOptions(num_cpus=jobs), {"CPU": 1}, verbosity=0),
    ):
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"index": tune.grid_search(list(range(len(work))))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=jobs,
                reuse_actors=True,  # starting one takes 10 s
            ),
            run_config=tune.RunConfig(storage_path=folder, callbacks=[progress], verbose=0),
        ).fit()
    ended = len(progress.done) + len(progress.failed)
    return Outcome(progress.failed, interrupted=ended < len(work))


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Set what Ray's workers inherit, for as long as they are needed."""
    here = str(pathlib.Path(__file__).resolve().parents[1])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    before = dict(os.environ)
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # nobody reads Tune's own logs
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([here, *filter(None, paths)])),
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


class Progress(Callback):
    """Prints a line for every trial that ends, and now and then one about those under way.

    Args:
        work: All of it.
        on_done: Called with every trial that is done.

    Attributes:
        done: Keys of the trials that are done.
        failed: Label and cause of those that failed.
    """

    def __init__(self, work: list[Work], on_done: Callable[[Trial], None]):
        """Start the clock."""
        self.done: set[str] = set()
        self.failed: list[tuple[str, str]] = []
        self._work, self._on_done = work, on_done
        self._began = self._printed = time.monotonic()
        self._pace = Pace(len(work))
        self._running: dict[str, tuple[Trial, float, float]] = {}  # with start and share done

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Start the trial's clock."""
        own = self._own(trial)
        self._pace.note(own.key, 0.0)
        self._running[own.key] = (own, time.monotonic(), 0.0)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict, **info: Any
    ) -> None:
        """Note how far the trial is."""
        own, began, _ = self._running[self._own(trial).key]
        self._running[own.key] = (own, began, result.get("share", 1.0))
        self._pace.note(own.key, result.get("share", 1.0))
        if time.monotonic() - self._printed > _EVERY_S:
            under_way = [f"{t.label} {100 * share:.0f} %" for t, _, share in self._running.values()]
            self._print(", ".join(under_way))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say that it is done."""
        own, began, _ = self._running.pop(self._own(trial).key)
        seconds = time.monotonic() - began
        self._pace.note(own.key, 1.0)
        self.done.add(own.key)
        self._print(f"{own.label}: done in {seconds:.0f} s")
        self._on_done(own)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say that it failed; the others go on."""
        own = self._own(trial)
        self._pace.note(own.key, 1.0)
        self._running.pop(own.key, None)
        self.failed.append((own.label, root_cause(trial)))
        self._print("{}: failed, {}".format(*self.failed[-1]))

    def _own(self, trial: Any) -> Trial:
        return self._work[trial.config["index"]].trial

    def _print(self, what: str) -> None:
        self._printed = time.monotonic()
        ended = len(self.done) + len(self.failed)
        print(
            f"[{ended}/{len(self._work)}] {what}  elapsed {duration(self._printed - self._began)}"
            f"  ETA {duration(self._pace.seconds_left())}",
            flush=True,
        )
