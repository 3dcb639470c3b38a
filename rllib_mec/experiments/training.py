"""Running a checked experiment with Tune, from start or resume to the final report."""

from __future__ import annotations

import dataclasses
import functools
import re
import shlex
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.stopper import Stopper
from ray.tune.tune_config import ResumeConfig

from rllib_mec import registry, remote
from rllib_mec.algorithms.stock_checks import check_restore
from rllib_mec.errors import MecError, one_line
from rllib_mec.experiments import job_folder, nodes, ray_session, storage
from rllib_mec.experiments.experiment import Experiment
from rllib_mec.experiments.interruption import CheckpointKeeper
from rllib_mec.experiments.messages import error, note
from rllib_mec.experiments.progress import Progress, env_runners
from rllib_mec.experiments.report import print_summary
from rllib_mec.experiments.restore import check_whole, read_here
from rllib_mec.experiments.stop_criteria import is_met, lookup

CHECKPOINT_EVERY_S = 300.0
"""Rhythm of checkpoints where the user sets none."""

_KEEP = 3
"""How many of those are kept."""

OK, FAILED, INTERRUPTED = 0, 1, 130
"""Exit codes."""


class _StopAt(Stopper):
    """Ends a trial once a criterion is met.

    Tune pickles the stopper and, on resume, prefers the pickled one. The criteria therefore live in
    the class, so that a resumed run obeys the ``stop`` of today.
    """

    criteria: ClassVar[dict[str, float]] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether this result ends the trial."""
        return is_met(self.criteria, result)

    def stop_all(self) -> bool:
        """Never: trials end one by one."""
        return False


class _MetricWatch(Callback):
    """Says so if the metric is in no result: then nothing is told apart by it."""

    def __init__(self, metric: str):
        self._metric, self._seen = metric, False

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any
    ) -> None:
        """Look whether it is there; see the base class."""
        self._seen = self._seen or lookup(result, self._metric) is not None

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Tell if it never was; see the base class."""
        if not self._seen:
            note(f"metric {self._metric!r} was in no result: no trial was told to be good by it")


def run_all(
    experiments: Sequence[Experiment],
    ray_options: ray_session.RayOptions,
    *,
    resume: bool = False,
    verbosity: int = 0,
    callbacks: Sequence[list[Any]] = (),
    argv: list[str] | None = None,
) -> int:
    """Train experiments in turn; one that fails does not keep the next from being trained.

    Args:
        experiments: At least one.
        ray_options: How to start Ray.
        resume: Go on from saved states; those of several experiments that have none begin.
        verbosity: 0, 1 or 2.
        callbacks: More Tune callbacks of each.
        argv: The command line, to print how to resume.

    Returns:
        The exit code: the first that is not 0. After Ctrl-C no other experiment begins.

    Raises:
        MecError: As :func:`run`; of several experiments only if none can be resumed.
    """
    begun = [resume] * len(experiments)
    if resume and len(experiments) > 1:
        begun = [_can_resume(experiment) for experiment in experiments]
        if not any(begun):
            names = ", ".join(e.name for e in experiments)
            raise MecError(f"nothing to resume: none of {names} has saved state")
    codes = []
    for i, (experiment, again) in enumerate(zip(experiments, begun, strict=True)):
        if len(experiments) > 1:
            print(f"\n[experiment {i + 1}/{len(experiments)}] {experiment.name}", flush=True)
        own = list(callbacks[i]) if callbacks else []
        codes.append(
            run(
                experiment,
                ray_options,
                resume=again,
                verbosity=verbosity,
                callbacks=own,
                argv=argv,
            )
        )
        if codes[-1] == INTERRUPTED:
            return INTERRUPTED
    return next((code for code in codes if code), OK)


def _can_resume(experiment: Experiment) -> bool:
    try:
        storage.name_to_resume(experiment.storage_path, experiment.name)
    except MecError:
        return False
    return True


def run(
    experiment: Experiment,
    ray_options: ray_session.RayOptions,
    *,
    resume: bool = False,
    verbosity: int = 0,
    callbacks: list[Any] | None = None,
    argv: list[str] | None = None,
) -> int:
    """Train.

    Args:
        experiment: What to train.
        ray_options: How to start Ray.
        resume: Go on from the experiment's saved state.
        verbosity: 0, 1 or 2.
        callbacks: More Tune callbacks, e.g. for logging.
        argv: The command line, to print how to resume.

    Returns:
        The exit code.

    Raises:
        MecError: Nothing to resume, nothing that Ray could restore, a broken checkpoint, or Ray
            cannot start.
    """
    if resume:
        check_restore(experiment.config)
    job_folder.check_storage(experiment.storage_path)
    find_name = storage.name_to_resume if resume else storage.fresh_name
    name = find_name(experiment.storage_path, experiment.name)
    with job_folder.lasting(), storage.probed(experiment.storage_path) as probe:
        return _run(
            experiment, name, probe, ray_options, resume, verbosity, callbacks or [], argv or []
        )


def _run(
    experiment: Experiment,
    name: str,
    probe: str,
    ray_options: ray_session.RayOptions,
    resume: bool,
    verbosity: int,
    callbacks: list[Any],
    argv: list[str],
) -> int:
    folder = remote.joined(experiment.storage_path, name)
    if not resume and name != experiment.name:
        note(f"{experiment.name!r} has results already, these go to {name!r} (--resume goes on)")
    resume_config = _resume_config(folder, experiment) if resume else None
    if experiment.runtime_env:
        ray_options = dataclasses.replace(ray_options, runtime_env=experiment.runtime_env)
    needs = experiment.algorithm.default_resource_request(experiment.config).required_resources
    keeps_rhythm = "checkpoint_frequency" not in experiment.checkpoint_config
    keeper = CheckpointKeeper(CHECKPOINT_EVERY_S if keeps_rhythm else None)
    progress = Progress(
        experiment.stop, experiment.options.get("time_budget_s"), verbose=verbosity > 0
    )
    with ray_session.started(ray_options, needs, verbosity):
        if ray_session.spans_nodes(ray_options):
            modules = nodes.modules_of(experiment.algorithm, experiment.config.env)
            restore = experiment.options.get("restore")
            nodes.check(nodes.Needs(modules, probe, experiment.storage_path, restore))
        if threading.current_thread() is threading.main_thread():
            keeper.handle_signals()
        _print_start(experiment, folder, resume)
        try:
            trials = _run_tune(
                experiment,
                name,
                resume_config,
                verbosity,
                [keeper, progress, *experiment.callbacks, *callbacks],
            )
        except Exception as failure:
            if verbosity > 1:
                traceback.print_exc()
            error(f"training failed: {one_line(failure)} (results: {folder})")
            return FAILED
        finally:
            progress.on_experiment_end([])
        if keeper.interrupted:
            _print_interrupted(trials, experiment, argv)
            return INTERRUPTED
        return _finish(experiment, trials)


def _run_tune(
    experiment: Experiment,
    name: str,
    resume_config: ResumeConfig | None,
    verbosity: int,
    callbacks: list[Any],
) -> list[Trial]:
    settings = {"checkpoint_at_end": True, **experiment.checkpoint_config}
    if "checkpoint_frequency" not in settings:
        settings.setdefault("num_to_keep", _KEEP)
    _StopAt.criteria = experiment.stop
    tuning = experiment.tuning
    if tuning.asked:
        callbacks = [*callbacks, _MetricWatch(tuning.metric)]
    # Not `tune.Tuner`: it starts from no checkpoint (`restore`), and its `restore` goes on with the
    # callbacks and the `stop` of the process before, and never with trials that have ended.
    analysis = tune.run(
        experiment.algorithm,
        name=name,
        config=experiment.param_space,
        stop=_StopAt(),
        storage_path=experiment.storage_path,
        checkpoint_config=tune.CheckpointConfig(**settings),
        scheduler=tuning.make_scheduler(),
        search_alg=tuning.make_search_alg(),
        callbacks=callbacks,
        verbose=3 if verbosity > 1 else 0,
        raise_on_failed_trial=False,
        resume_config=resume_config,
        **experiment.options,
    )
    return analysis.trials or []


def _resume_config(folder: str, experiment: Experiment) -> ResumeConfig:
    """Failed trials are tried again, and ended ones go on if ``stop`` now lies further.

    Raises:
        MecError: The saved state cannot be read, or a checkpoint that a trial would go on from.
    """
    try:
        trials: list[Trial] = tune.ExperimentAnalysis(folder).trials or []
    except Exception as failure:
        raise MecError(f"{folder} cannot be resumed: {one_line(failure)}") from None
    ended = [t for t in trials if t.status == Trial.TERMINATED]
    further = ended and not any(is_met(experiment.stop, t.last_result or {}) for t in ended)
    resumed, skipped = ResumeConfig.ResumeType.RESUME, ResumeConfig.ResumeType.SKIP
    # A scheduler ends trials before `stop` on purpose.
    go_on = further and experiment.stop and experiment.tuning.scheduler == "fifo"
    for trial in trials:
        if trial.checkpoint and (go_on or trial not in ended):
            path = remote.located(experiment.storage_path, trial.checkpoint.path)
            info = read_here(path)
            check_whole(info, info.config)
    return ResumeConfig(
        finished=resumed if go_on else skipped,  # pyright: ignore[reportArgumentType]  # Ray's slip
        unfinished=resumed,  # pyright: ignore[reportArgumentType]
        errored=resumed,  # pyright: ignore[reportArgumentType]
    )


def _print_start(experiment: Experiment, folder: str, resume: bool) -> None:
    env = experiment.config.env
    env = getattr(env, "__name__", env) or "offline data"
    what = f"{registry.algorithm_name(experiment.algorithm)} on {env}"
    print(f"{'Resuming' if resume else 'Training'} {what}  ->  {folder}", flush=True)
    if resume:
        note("the config is the saved one; of the file or the flags only `stop` is read anew")
    elif getattr(experiment.config, "demonstrations", 0):
        config: Any = experiment.config  # EMH-PPO's, or a subclass
        who = "search plays" if config.teacher == "search" else "a planner searches and plays"
        when = "first" if config.lessons == 1 else f"{config.lessons} times"
        each = -(-config.demonstrations // config.lessons)
        note(f"{when} {who} {each:,} windows to imitate: a minute or more")
    if not experiment.stop and "time_budget_s" not in experiment.options:
        note("no stop criterion: training goes on until Ctrl-C (give `stop:` or --stop)")


def _print_interrupted(trials: list[Trial], experiment: Experiment, argv: list[str]) -> None:
    for trial in trials:
        if trial.checkpoint:
            where = remote.located(experiment.storage_path, trial.checkpoint.path)
            done = (trial.last_result or {}).get("training_iteration", 0)
            print(f"Stopped after iteration {done}, checkpoint:  {where}")
    command = [arg for arg in argv if arg != "--resume"]
    print(f"Go on with:  rllib {shlex.join([*command, '--resume'])}", flush=True)
    sys.stdout.flush()


def _finish(experiment: Experiment, trials: list[Trial]) -> int:
    """Print failures and the summary."""
    failed = [trial for trial in trials if trial.status == Trial.ERROR]
    if len(failed) < len(trials):
        score = experiment.checkpoint_config.get("checkpoint_score_attribute")
        mode = experiment.checkpoint_config.get("checkpoint_score_order", "max")
        if score is None:
            score, mode = experiment.tuning.metric, experiment.tuning.mode
        located = functools.partial(remote.located, experiment.storage_path)
        print_summary(trials, experiment.config.env, score, mode, located)
    for trial in failed:
        kept = Path(trial.path or "", "error.txt")  # there if Tune has copied the log already
        log = kept if kept.is_file() else trial.error_file or trial.path
        error(f"training failed: {root_cause(trial)} (log: {log})")
    short = [trial for trial in trials if trial not in failed and _is_short_handed(trial)]
    for trial in short:
        there, wanted = env_runners(trial, trial.last_result or {})
        error(
            f"training ended with {there} of {wanted} env runners: the others were lost, see"
            f" {trial.path}; --resume goes on with all"
        )
    return FAILED if failed or short else OK


def _is_short_handed(trial: Trial) -> bool:
    there, wanted = env_runners(trial, trial.last_result or {})
    return 2 * there < wanted


def root_cause(trial: Trial) -> str:
    """The last exception named in a failed trial's log, on one line.

    Args:
        trial: The trial.
    """
    if not trial.error_file or not Path(trial.error_file).is_file():
        return "unknown cause"
    text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    # Remote tracebacks nest: the innermost exception comes last, at the start of a line.
    named = re.findall(r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b.*)$", text, re.M)
    # If a worker cannot even unpickle its config, RLlib's `__repr__` fails on top of that; and
    # RLlib wraps an environment's exception in a bare `RuntimeError`.
    telling = [line for line in named if ": " in line and "'enable_rl_module_and_l" not in line]
    ours = re.findall(r"^rllib_mec(?:\.\w+)+: (.+)$", text, re.M)  # they say all by themselves
    return one_line([text.strip().splitlines()[-1], *named, *telling, *ours][-1])
