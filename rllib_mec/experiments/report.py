"""What is said at the end of training: how good the policy is, and what to do next."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_mec import registry
from rllib_mec.errors import one_line
from rllib_mec.experiments.messages import as_table, note
from rllib_mec.experiments.stop_criteria import STEPS, lookup

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

_RETURN = "env_runners/episode_return_mean"


def parameters(trial: Trial) -> str:
    """What a trial of a search was given.

    Args:
        trial: The trial.
    """
    return "  ".join(f"{key}={value}" for key, value in (trial.evaluated_params or {}).items())


def is_ours(env: Any) -> bool:
    """Whether an environment is one of this package's.

    Args:
        env: An id, or whatever else RLlib takes for an environment.
    """
    return isinstance(env, str) and env in registry.ENVIRONMENTS


def final_report(checkpoint_path: str | Path) -> str:
    """The paper's table for a trained policy: beside local only and the paper's own row.

    Args:
        checkpoint_path: A checkpoint trained on one of our environments.
    """
    from rllib_mec.evaluation import comparison_table, evaluate
    from rllib_mec.policies import LocalOnly, load_policy

    policy = load_policy(str(checkpoint_path))
    evaluations = [evaluate(each) for each in (LocalOnly(policy.mdp), policy)]
    return comparison_table(evaluations, paper=True)


def print_summary(
    trials: list[Trial],
    env: Any,
    score: str | None,
    mode: str,
    located: Callable[[str], str] = str,
) -> None:
    """Print each trial's last result, the best checkpoint, and the line that evaluates it.

    Args:
        trials: Tune trials, finished or not.
        env: The environment they were trained on.
        score: Result key by which the best trial is chosen; default the mean return.
        mode: ``"max"`` or ``"min"`` of that key.
        located: The folder or URL of what Tune calls a path.
    """
    trials = sorted(trials, key=lambda trial: trial.trial_id)
    if len(trials) > 1:
        header = ["trial", "", "iter", "return", "parameters", "checkpoint"]
        rows = [
            [f"[{i}/{len(trials)}]", *_row(trial, located)]
            for i, trial in enumerate(trials, start=1)
        ]
        print(f"\n{as_table(header, rows, left=['trial', '', 'parameters', 'checkpoint'])}")
    by_scenario: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.checkpoint:
            env_config = (trial.config or {}).get("env_config")
            scenario = json.dumps(env_config, sort_keys=True, default=str)
            by_scenario.setdefault(scenario, []).append(trial)
    if not by_scenario:
        note("no checkpoint was written (checkpoint_at_end is off)")
    elif len(by_scenario) > 1:
        note("returns of different env_config cannot be compared: here is the best of each")
    for same in by_scenario.values():
        best = max(same, key=lambda trial: _score(trial, score or _RETURN, mode))
        path = located(best.checkpoint.path)  # pyright: ignore[reportOptionalMemberAccess]
        print(f"\n{_result(best, path, env, len(by_scenario) > 1)}")
        label = "Best checkpoint" if len(same) > 1 else "Checkpoint"
        print(f"\n{label}:  {path}\nEvaluate it:  rllib evaluate {shlex.quote(path)}", flush=True)


def _result(trial: Trial, path: str, env: Any, is_one_of_many: bool) -> str:
    """What came out of a trial."""
    result = trial.last_result or {}
    if is_one_of_many:
        return f"{parameters(trial)}: return {_number(lookup(result, _RETURN))}"
    if is_ours(env):
        try:
            return final_report(path)
        except Exception as error:  # the run itself is done and saved: never lose its end over this
            return f"(the comparison table failed: {one_line(error)})"
    steps = lookup(result, STEPS)
    return (
        f"Mean return {_number(lookup(result, _RETURN))} after "
        f"{result.get('training_iteration', 0)} iterations"
        + (f", {steps:,.0f} environment steps" if steps is not None else "")
    )


def _score(trial: Trial, key: str, mode: str) -> float:
    value = lookup(trial.last_result or {}, key)
    if value is None or math.isnan(value):
        return -math.inf
    return value if mode == "max" else -value


def _row(trial: Trial, located: Callable[[str], str]) -> list[str]:
    result = trial.last_result or {}
    path = located(trial.checkpoint.path) if trial.checkpoint else "none"
    iteration, mean = str(result.get("training_iteration", 0)), lookup(result, _RETURN)
    return [trial.status.lower(), iteration, _number(mean), parameters(trial), path]


def _number(value: float | None) -> str:
    return "?" if value is None or math.isnan(value) else f"{value:.2f}"
