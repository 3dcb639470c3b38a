"""Made-up results in the form that the store keeps: to test what is written from results."""

from __future__ import annotations

from typing import Any

import numpy as np
from suite.cells import Results
from suite.store import Store, source_fingerprint
from suite.trial import Protocol, Trial

from rllib_mec.evaluation import METRICS


def record(trial: Trial) -> dict[str, Any]:
    """How something of a trial came about."""
    sources = source_fingerprint(trial.source)
    return {"seconds": 60.0, "commit": "abc1234", "sources": sources}


def fill(results: Results) -> None:
    """Put numbers for everything that is missing into the store."""
    for trial, protocol in results.missing():
        if trial.is_trained and results.store.training(trial) is None:
            add_training(results.store, trial)
        if results.store.evaluation(trial, protocol) is None:
            add_evaluation(results.store, trial, protocol)


def add_training(store: Store, trial: Trial, steps: int = 20_480) -> None:
    """A curve that falls off towards what :func:`add_evaluation` says."""
    final = metrics(trial, Protocol())
    curve = []
    for share in np.linspace(0.05, 1, 20):
        row = {"steps": share * steps, "seconds": 60 * share}
        for metric in ("reward", "latency_ms", "energy_j", "waiting_ms"):
            value = final[metric] * (1 + np.exp(-4 * share))
            row |= {metric: 1.1 * value, f"eval_{metric}": value}
        curve.append(row)
    store.write_training(trial, {**record(trial), "steps": steps}, curve)


def add_evaluation(store: Store, trial: Trial, protocol: Protocol) -> None:
    """Numbers that depend on everything that a trial is."""
    values = metrics(trial, protocol)
    measured = {metric: {"mean": values[metric], "half_width": 0.1} for metric in METRICS}
    store.write_evaluation(trial, protocol, {**record(trial), **measured})


def metrics(trial: Trial, protocol: Protocol) -> dict[str, float]:
    """Numbers of the right size for a policy in its scenario."""
    factor = {"planner": 0.9, "local-only": 3.0, "emh_ppo": 1.0, "time_slot": 1.2}
    number = trial.scenario.get("num_devices", 3) / min(trial.scenario.get("num_servers", 2), 4)
    worth = factor.get(trial.source, 1.6) * (0.4 + 0.4 * number) * (1 + 0.01 * (trial.seed or 0))
    worth *= 1 - 0.001 * len(str(sorted(trial.settings)))
    beta = trial.scenario.get("energy_weight", 50.0)
    latency_ms = 14.6 * protocol.num_tasks * worth * (1 + beta / 4000)
    energy_j = 0.02 * worth * (50.0 / beta) ** 0.3
    return {
        "reward": -15.0 * worth,
        "cost": latency_ms + beta * energy_j * protocol.num_tasks,
        "latency_ms": latency_ms,
        "energy_j": energy_j,
        "waiting_ms": 0.0 if trial.source == "local-only" else worth,
        "window_size": 5.0,
        "local_share": 0.0,
    }
