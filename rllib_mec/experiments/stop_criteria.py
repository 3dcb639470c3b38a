"""When training ends: checking the ``stop`` dict, whether it is met, and how far along a run is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rllib_mec.errors import MecError, nearest
from rllib_mec.experiments.translate import STOP_KEYS, translate_metric
from rllib_mec.network.checks import Number, Positive, checked

STEPS = "num_env_steps_sampled_lifetime"
RETURN = "env_runners/episode_return_mean"

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

_LEARNER = (
    "clip_fraction", "curr_entropy_coeff", "curr_kl_coeff", "default_optimizer_learning_rate",
    "entropy", "entropy_channel", "entropy_partition", "entropy_power", "entropy_server",
    "entropy_window", "mean_kl", "mean_kl_loss", "num_module_steps_trained", "policy_loss",
    "total_loss", "vf_explained_var", "vf_explained_variance", "vf_loss", "window_loss",
)  # fmt: skip
_RUNNERS = (
    "energy_j", "episode_duration_sec_mean", "episode_len_max", "episode_len_mean",
    "episode_len_min", "episode_return_max", "episode_return_mean", "episode_return_min",
    "latency_ms", "local_share", "num_agent_steps_sampled_lifetime", "num_env_steps_sampled",
    "num_env_steps_sampled_lifetime", "num_episodes", "num_episodes_lifetime", "reward",
    "waiting_ms", "window_size",
)  # fmt: skip
KNOWN = {
    *_PREDICTABLE,
    *STOP_KEYS.values(),
    "num_agent_steps_trained_lifetime",
    "time_this_iter_s",
    "iterations_since_restore",
    "time_since_restore",
    "done",
    *(f"env_runners/{name}" for name in _RUNNERS),
    *(f"evaluation/env_runners/{name}" for name in _RUNNERS),
    *(f"learners/default_policy/{name}" for name in _LEARNER),
}
"""Result keys of RLlib's and our algorithms; metrics of the user's own come beside them."""


def check_stop(stop: Any, notify: Callable[[str], None]) -> dict[str, float]:
    """The stop criteria under present names.

    A result key that nobody knows may be a metric of the user's own, so it is an error only where
    it looks like a slip of a known one.

    Args:
        stop: What the file or the flag held.
        notify: Called with one line for each old key.

    Raises:
        MecError: Not a mapping of result keys to numbers, a misspelt key, or a number that is
            reached before training begins.
    """
    if stop is None:
        return {}
    if not isinstance(stop, dict):
        raise MecError(f"stop must be a mapping like {{training_iteration: 10}}, got {stop!r}")
    criteria: dict[str, float] = {}
    for key, value in _flatten(stop).items():
        name = translate_metric(key, notify)
        checked(f"stop: {key}", value, Positive if _counts_up(name) else Number)
        criteria[_checked_key("stop key", key, name)] = value
    return criteria


def check_result_key(what: str, key: str, notify: Callable[[str], None]) -> str:
    """A result key under its present name.

    Args:
        what: What it is given for, for the message.
        key: The key.
        notify: Called with one line if it is an old one.

    Raises:
        MecError: It looks like a slip of a known one.
    """
    return _checked_key(what, key, translate_metric(key, notify))


def _checked_key(what: str, key: str, name: str) -> str:
    if name not in KNOWN and (close := _meant(key)):
        raise MecError(f"unknown {what} {key!r}: did you mean {close!r}?")
    return name


def _counts_up(name: str) -> bool:
    """Whether a result begins at 0 and only grows, so that training cannot end at or below 0."""
    leaf = name.rpartition("/")[2]
    return name in _PREDICTABLE or leaf.startswith(("num_", "time_", "iterations_"))


def _meant(key: str) -> str | None:
    """The known key that an unknown one is a slip of, if it looks like one."""
    parent, _, name = key.rpartition("/")
    known = KNOWN | STOP_KEYS.keys()
    groups = {other.rpartition("/")[0] for other in known}
    group = parent if parent in groups else nearest(parent, groups - {""}, cutoff=0.8)
    if group is None:
        return None
    beside = [other.rpartition("/")[2] for other in known if other.rpartition("/")[0] == group]
    close = nearest(name, beside, cutoff=0.75)
    # `reward_p95` and `my_reward` vary a known name on purpose.
    if close is None or (close != name and close in name):
        return None
    return f"{group}/{close}" if group else close


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
    """A number of a nested result; None where there is none.

    Args:
        result: A training result.
        key: The keys that lead to the number, with ``/`` between them.
    """
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
    """Whether a result ends the trial: any criterion reached.

    Args:
        stop: Result key -> the least number that ends the trial.
        result: The newest result.
    """
    values = ((lookup(result, key), limit) for key, limit in stop.items())
    return any(value is not None and value >= limit for value, limit in values)


def share_done(stop: dict[str, float], result: dict[str, Any]) -> float | None:
    """How much of a training is done, by the criterion that is nearest to being met.

    Args:
        stop: The criteria.
        result: The newest result.

    Returns:
        A share in [0, 1], or None if no criterion grows steadily.
    """
    values = [(lookup(result, key), stop[key]) for key in stop.keys() & set(_PREDICTABLE)]
    shares = [min(1.0, value / limit) for value, limit in values if value is not None and limit > 0]
    return max(shares, default=None)
