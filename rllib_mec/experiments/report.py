"""What is said at the end of training: how good the policy is, and what to do next."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rllib_mec import registry
from rllib_mec.errors import one_line
from rllib_mec.experiments.messages import note
from rllib_mec.experiments.stop_criteria import STEPS, lookup

_RETURN = "env_runners/episode_return_mean"


def is_ours(env: Any) -> bool:
    """Whether ``env`` is one of this package's environments."""
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


def print_summary(trials: list[Any], env: Any, score: str | None, mode: str) -> None:
    """Print each trial's last result, the best checkpoint, and the line that evaluates it.

    Args:
        trials: Tune trials, finished or not.
        env: The environment they were trained on.
        score: Result key by which the best trial is chosen; default the mean return.
        mode: ``"max"`` or ``"min"`` of that key.
    """
    trials = sorted(trials, key=lambda trial: trial.trial_id)
    if len(trials) > 1:
        print()
        for number, trial in enumerate(trials, start=1):
            print(_trial_line(number, len(trials), trial))
    saved = [trial for trial in trials if trial.checkpoint]
    if not saved:
        note("no checkpoint was written (checkpoint_at_end is off)")
        return
    best = max(saved, key=lambda trial: _score(trial, score or _RETURN, mode))
    path = best.checkpoint.path
    print()
    if is_ours(env):
        try:
            print(final_report(path))
        except Exception as error:  # the run itself is done and saved: never lose its end over this
            note(f"the comparison table failed: {one_line(error)}")
    else:
        result = best.last_result or {}
        steps = lookup(result, STEPS)
        print(
            f"Mean return {_number(lookup(result, _RETURN))} after "
            f"{result.get('training_iteration', 0)} iterations"
            + (f", {steps:,.0f} environment steps" if steps is not None else "")
        )
    label = "Best checkpoint" if len(saved) > 1 else "Checkpoint"
    print(f"\n{label}:  {path}\nEvaluate it:  rllib evaluate {_quoted(path)}", flush=True)


def _score(trial: Any, key: str, mode: str) -> float:
    value = lookup(trial.last_result or {}, key)
    if value is None or math.isnan(value):
        return -math.inf
    return value if mode == "max" else -value


def _trial_line(number: int, total: int, trial: Any) -> str:
    result = trial.last_result or {}
    parameters = "  ".join(f"{k}={v}" for k, v in (trial.evaluated_params or {}).items())
    fields = [
        f"[{number}/{total}] {trial.status.lower():<10}",
        f"iter {result.get('training_iteration', 0):>4}",
        f"return {_number(lookup(result, _RETURN)):>9}",
        parameters,
        trial.checkpoint.path if trial.checkpoint else "no checkpoint",
    ]
    return "  ".join(fields)


def _number(value: float | None) -> str:
    return "?" if value is None or math.isnan(value) else f"{value:.2f}"


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(str(path))
