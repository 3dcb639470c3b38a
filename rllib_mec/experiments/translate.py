"""Names that older RLlib releases used, and what they are called now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rllib_mec.errors import MecError

CONFIG_KEYS: dict[str, str] = {
    "callbacks": "callbacks_class",
    "evaluation_num_workers": "evaluation_num_env_runners",
    "ignore_worker_failures": "ignore_env_runner_failures",
    "input": "input_",
    "lambda": "lambda_",
    "max_num_worker_restarts": "max_num_env_runner_restarts",
    "model": "model_config",
    "model_config_dict": "model_config",
    "num_cpus_for_driver": "num_cpus_for_main_process",
    "num_cpus_for_local_worker": "num_cpus_for_main_process",
    "num_cpus_per_learner_worker": "num_cpus_per_learner",
    "num_cpus_per_worker": "num_cpus_per_env_runner",
    "num_envs_per_worker": "num_envs_per_env_runner",
    "num_gpus": "num_gpus_per_learner",
    "num_gpus_per_learner_worker": "num_gpus_per_learner",
    "num_gpus_per_worker": "num_gpus_per_env_runner",
    "num_learner_workers": "num_learners",
    "num_rollout_workers": "num_env_runners",
    "num_sgd_iter": "num_epochs",
    "num_workers": "num_env_runners",
    "recreate_failed_env_runners": "restart_failed_env_runners",
    "recreate_failed_workers": "restart_failed_env_runners",
    "sgd_minibatch_size": "minibatch_size",
    "min_time_s_per_reporting": "min_time_s_per_iteration",
    "train_batch_size": "train_batch_size_per_learner",
}
"""Old config key -> the argument of an ``AlgorithmConfig`` method that replaced it."""

_SPELLINGS = {"callbacks", "input", "lambda"}
"""Not old, only Python spellings: translated without a notice."""

STOP_KEYS: dict[str, str] = {
    "episode_len_mean": "env_runners/episode_len_mean",
    "episode_return_max": "env_runners/episode_return_max",
    "episode_return_mean": "env_runners/episode_return_mean",
    "episode_return_min": "env_runners/episode_return_min",
    "episode_reward_max": "env_runners/episode_return_max",
    "episode_reward_mean": "env_runners/episode_return_mean",
    "episode_reward_min": "env_runners/episode_return_min",
    "episodes_total": "env_runners/num_episodes_lifetime",
    "env_runners/episode_reward_mean": "env_runners/episode_return_mean",
    "evaluation/episode_reward_mean": "evaluation/env_runners/episode_return_mean",
    "evaluation/env_runners/episode_reward_mean": "evaluation/env_runners/episode_return_mean",
    "evaluation/sampler_results/episode_reward_mean": (
        "evaluation/env_runners/episode_return_mean"
    ),
    "num_env_steps_sampled": "num_env_steps_sampled_lifetime",
    "num_env_steps_trained": "num_env_steps_trained_lifetime",
    "num_agent_steps_sampled": "num_agent_steps_sampled_lifetime",
    "sampler_results/episode_reward_mean": "env_runners/episode_return_mean",
    "timesteps_total": "num_env_steps_sampled_lifetime",
}
"""Old result key -> the key of the same number in today's results."""

SCHEDULERS: dict[str, str] = {
    "asha": "async_hyperband",
    "ashascheduler": "async_hyperband",
    "asynchyperbandscheduler": "async_hyperband",
    "hyperbandforbohb": "hb_bohb",
    "hyperbandscheduler": "hyperband",
    "medianstoppingrule": "median_stopping_rule",
    "populationbasedtraining": "pbt",
}
"""What schedulers are called elsewhere, in lower case -> Tune's name."""

EXPERIMENT_KEYS: dict[str, str] = {
    "checkpoint_at_end": "checkpoint_config.checkpoint_at_end",
    "checkpoint_freq": "checkpoint_config.checkpoint_frequency",
    "checkpoint_score_attr": "checkpoint_config.checkpoint_score_attribute",
    "keep_checkpoints_num": "checkpoint_config.num_to_keep",
    "local_dir": "storage_path",
    "repeat": "num_samples",
    "trial_resources": "resources_per_trial",
    "upload_dir": "storage_path",
}
"""Old experiment key -> today's; a dot leads into a nested dict."""


def translate_config(config: dict[str, Any], notify: Callable[[str], None]) -> dict[str, Any]:
    """Give old config keys their present names.

    Args:
        config: Flat RLlib config, as in a YAML file; not changed.
        notify: Called with one line for each key that was renamed.

    Returns:
        The config under present names.

    Raises:
        MecError: A setting is given under its old and its new name.
    """
    renamed: dict[str, Any] = {}
    for key, value in config.items():
        new = CONFIG_KEYS.get(key, key)
        if new in renamed or (new != key and new in config):
            raise MecError(f"config sets {new!r} twice (also under its old name): keep one")
        if new != key and key not in _SPELLINGS:
            notify(f"config key {key!r} is now {new!r}")
        if new == "evaluation_config" and isinstance(value, dict):
            value = translate_config(value, notify)
        renamed[new] = value
    return renamed


def translate_metric(key: str, notify: Callable[[str], None]) -> str:
    """Give an old result key, as used in ``stop``, its present name.

    Args:
        key: Nested as ``a/b``.
        notify: Called with one line if it was renamed.
    """
    new = STOP_KEYS.get(key, key)
    if new != key:
        notify(f"result key {key!r} is now {new!r}")
    return new


def translate_experiment(spec: dict[str, Any], notify: Callable[[str], None]) -> dict[str, Any]:
    """Give old experiment keys their present names and places.

    Args:
        spec: An experiment as in a YAML file; not changed.
        notify: Called with one line for each key that was renamed.

    Raises:
        MecError: A setting is given under its old and its new name.
    """
    renamed = {key: value for key, value in spec.items() if key not in EXPERIMENT_KEYS}
    for key in spec.keys() & EXPERIMENT_KEYS.keys():
        new = EXPERIMENT_KEYS[key]
        notify(f"experiment key {key!r} is now {new!r}")
        parent, _, leaf = new.rpartition(".")
        target = renamed
        if parent:
            target = renamed[parent] = dict(renamed.get(parent) or {})
        if leaf in target:
            raise MecError(f"experiment sets {new!r} twice (also as {key!r}): keep one")
        target[leaf] = spec[key]
    return renamed
