"""Doing one trial: train, keep the curve and the checkpoint, measure."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterable
from typing import Any

from machine import commit

from rllib_mec.evaluation import evaluate
from rllib_mec.experiments.stop_criteria import STEPS, is_met, lookup
from rllib_mec.policies import Policy, load_policy
from rllib_mec.registry import make_policy
from suite.store import Store, source_fingerprint
from suite.trial import Protocol, Trial

CURVE_POINTS = 40
CURVE_EPISODES = 100
"""Greedy episodes behind each point of a curve."""

CURVE_METRICS = ("reward", "latency_ms", "energy_j", "waiting_ms")

Report = Callable[[float], None]
"""Called with the share of the training that is done."""


def do(trial: Trial, protocols: Iterable[Protocol], store: Store, report: Report) -> None:
    """Do whatever of a trial is not in the store yet.

    Args:
        trial: The trial.
        protocols: How to measure it.
        store: What has been done, and where to keep what is done here.
        report: Hears of the training's progress.
    """
    if trial.is_trained and store.training(trial) is None:
        train(trial, store, report)
    policy = None
    for protocol in protocols:
        if store.evaluation(trial, protocol) is not None:
            continue
        began = time.monotonic()
        policy = policy or policy_of(trial, store)
        result = evaluate(policy, episodes=protocol.episodes, **protocol.beginnings)
        record = {**result.to_dict(), **_origin(trial, began)}
        store.write_evaluation(trial, protocol, record)


def policy_of(trial: Trial, store: Store) -> Policy:
    """The policy that a trial stands for, out of its checkpoint if it is trained."""
    if trial.is_trained:
        return load_policy(store.checkpoint(trial))
    return make_policy(trial.source, trial.mdp)


def train(trial: Trial, store: Store, report: Report) -> None:
    """Train and keep checkpoint and curve.

    A row of the curve has the mean of the training's own episodes since the row before and, as
    ``eval_...``, greedy episodes of the paper's protocol.
    """
    import torch

    torch.set_num_threads(1)
    began = time.monotonic()
    experiment = trial.experiment()
    config = experiment.config.copy(copy_frozen=False)
    steps = experiment.stop[STEPS]
    iterations = max(1, math.ceil(steps / config.total_train_batch_size))
    config.env_runners(num_env_runners=0)
    config.learners(num_learners=0)
    interval = max(1, iterations // CURVE_POINTS)
    config.evaluation(
        evaluation_interval=interval,
        evaluation_num_env_runners=0,
        evaluation_duration=CURVE_EPISODES,
        evaluation_duration_unit="episodes",
        evaluation_config={"explore": False},
    )
    part = store.folder(trial) / f".checkpoint.{os.getpid()}"
    algorithm = config.build_algo()
    curve: list[dict[str, float]] = []
    try:
        while True:
            result = algorithm.train()
            # RLlib repeats the last evaluation in the results that follow it.
            if algorithm.iteration % interval == 0:
                curve.append(_row(result, time.monotonic() - began))
            report(min(1.0, lookup(result, STEPS) / steps))
            if is_met(experiment.stop, result):
                break
        algorithm.save_to_path(str(part))
    finally:
        algorithm.stop()
        shutil.rmtree(algorithm.logdir, ignore_errors=True)  # an empty folder in ~/ray_results
    shutil.rmtree(store.checkpoint(trial), ignore_errors=True)
    part.replace(store.checkpoint(trial))
    record = {"steps": int(lookup(result, STEPS)), **_origin(trial, began)}
    store.write_training(trial, record, curve)


def _row(result: dict[str, Any], seconds: float) -> dict[str, float]:
    # An episode metric is absent until the first episode has ended.
    return {
        "steps": lookup(result, STEPS),
        "seconds": seconds,
        **{m: result["env_runners"].get(m, math.nan) for m in CURVE_METRICS},
        **{f"eval_{m}": result["evaluation"]["env_runners"][m] for m in CURVE_METRICS},
    }


def _origin(trial: Trial, began: float) -> dict[str, Any]:
    return {
        "seconds": round(time.monotonic() - began, 1),
        "commit": commit(),
        "sources": source_fingerprint(trial.source),
    }
