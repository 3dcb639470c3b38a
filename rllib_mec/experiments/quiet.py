"""Keeping Ray's own noise off the terminal unless it is asked for."""

from __future__ import annotations

import logging
import os
import warnings


def set_environment() -> None:
    """Environment variables that must be set before Ray is imported."""
    defaults = {
        # More threads than cores make an update several times slower (workers inherit this).
        "OMP_NUM_THREADS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # rllib_mec.experiments.interruption is in its place
        # So that after `kill -9` the newest checkpoint is known.
        "TUNE_GLOBAL_CHECKPOINT_S": "2",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        # The first iterations may end no episode, and so have no return.
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a FutureWarning at every start
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def quieten(verbosity: int) -> None:
    """Set the level of Ray's loggers in this process; imports Ray.

    Args:
        verbosity: 0 shows errors of ours only, 1 Ray's messages too, 2 everything.
    """
    import ray.rllib  # noqa: F401  # sets up its loggers on import, so it must come before

    level = {0: logging.CRITICAL, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    for name in ("ray", "ray.tune", "ray.rllib", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(level)
    if verbosity < 2:
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Tune's newer output has no silent level
    if verbosity == 0:
        warnings.filterwarnings("ignore")
