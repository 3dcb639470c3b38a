"""When training ends: checking the ``stop`` dict, whether it is met, and how far along a run is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rllib_mec.errors import MecError, nearest
from rllib_mec.experiments.translate import STOP_KEYS, translate_metric

STEPS = "num_env_steps_sampled_lifetime"

_PREDICTABLE = (
    "training_iteration",
    STEPS,
    "time_total_s",
    "timesteps_total",
    "num_agent_steps_sampled_lifetime",
    "env_runners/num_episodes_lifetime",
    "env_runners/num_env_steps_sampled_lifetime",
)
"""Results that grow steadily, from which an ETA can be told."""

KNOWN = {
    *_PREDICTABLE,
    *STOP_KEYS.values(),
    "num_agent_steps_trained_lifetime",
    "time_this_iter_s",
    "iterations_since_restore",
    "time_since_restore",
    "done",
    "env_runners/episode_duration_sec_mean",
    "env_runners/episode_len_max",
    "env_runners/episode_len_min",
    "env_runners/num_episodes",
    "evaluation/env_runners/episode_return_max",
    "evaluation/env_runners/episode_return_min",
}
"""Result keys of every algorithm; custom metrics come beside them."""


def check_stop(stop: Any, notify: Callable[[str], None]) -> dict[str, float]:
    """The stop criteria under present names.

    A result key that nobody knows may be a metric of the user's own, so it is an error only where
    it looks like a slip of a known one.

    Args:
        stop: What the file or the flag held.
        notify: Called with one line for each old key.

    Raises:
        MecError: Not a mapping of result keys to numbers, or a misspelt key.
    """
    if stop is None:
        return {}
    if not isinstance(stop, dict):
        raise MecError(f"stop must be a mapping like {{training_iteration: 10}}, got {stop!r}")
    criteria: dict[str, float] = {}
    for key, value in _flatten(stop).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise MecError(f"stop: {key} must be a number, got {value!r}")
        name = translate_metric(key, notify)
        if name not in KNOWN:
            close = nearest(key, KNOWN | STOP_KEYS.keys(), cutoff=0.8 if "/" not in key else 0.95)
            if close and abs(len(close) - len(key)) <= 1 + 2 * ("/" not in key):
                raise MecError(f"unknown stop key {key!r}: did you mean {close!r}?")
        criteria[name] = value
    return criteria


def _flatten(stop: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{env_runners: {episode_return_mean: 1}}`` as ``{env_runners/episode_return_mean: 1}``."""
    flat: dict[str, Any] = {}
    for key, value in stop.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}/"))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def lookup(result: dict[str, Any], key: str) -> float | None:
    """A number of a nested result by its ``a/b/c`` key, or None."""
    value: Any = result
    for part in key.split("/"):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def is_met(stop: dict[str, float], result: dict[str, Any]) -> bool:
    """Whether a result ends the trial: any criterion reached."""
    values = ((lookup(result, key), limit) for key, limit in stop.items())
    return any(value is not None and value >= limit for value, limit in values)


def seconds_left(
    stop: dict[str, float], first: dict[str, Any], last: dict[str, Any], elapsed_s: float
) -> float | None:
    """Time until the first steady criterion is reached at the pace so far.

    Args:
        stop: The criteria.
        first: The first result seen in this process; empty for a run that starts from nothing.
        last: The newest result.
        elapsed_s: Seconds between the two.

    Returns:
        Seconds, or None if no criterion is steady or nothing has moved yet.
    """
    estimates = []
    for key in stop.keys() & set(_PREDICTABLE):
        start = lookup(first, key) if first else 0.0
        now = lookup(last, key)
        if start is None or now is None:
            continue
        if key == "time_total_s":
            estimates.append(max(0.0, stop[key] - now))
        elif now > start and elapsed_s > 0:
            estimates.append(max(0.0, (stop[key] - now) * elapsed_s / (now - start)))
    return min(estimates, default=None)
