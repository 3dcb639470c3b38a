"""Greedy episodes of any RLlib checkpoint, through the very connectors it was trained with."""

from __future__ import annotations

from typing import Any

from rllib_mec.checkpoints import CheckpointInfo, load_modules
from rllib_mec.errors import MecError, one_line
from rllib_mec.experiments.restore import make_runner, restore_connectors


def greedy_episodes(
    info: CheckpointInfo, env: Any, env_config: dict[str, Any], episodes: int, seed: int
) -> tuple[list[float], list[int]]:
    """Run episodes with the most likely actions.

    RLlib's own EnvRunner does it, in this process and without Ray, so that observations are
    preprocessed and actions unsquashed exactly as in training.

    Args:
        info: The checkpoint.
        env: What ``config.environment`` takes.
        env_config: The env's settings.
        episodes: How many.
        seed: Seed of the episodes.

    Returns:
        Return and length of each episode; of several agents the sum of their returns.

    Raises:
        MecError: The checkpoint is incomplete, or does not fit the environment.
    """
    config = info.config.copy(copy_frozen=False)
    config.environment(env=env)
    config.env_config = env_config
    config.debugging(seed=seed)
    modules = load_modules(info.path)
    runner = make_runner(config)
    try:
        restore_connectors(runner, info)
        _set_weights(runner, modules)
    except MecError:
        raise
    except Exception as error:
        raise MecError(f"the checkpoint does not fit {env!r}: {one_line(error)}") from None
    try:
        # In one call, since each call starts from the same seed again.
        sampled = runner.sample(num_episodes=episodes, explore=False)[:episodes]
    finally:
        runner.stop()
    return (
        [float(episode.get_return()) for episode in sampled],
        [
            episode.env_steps() if hasattr(episode, "env_steps") else len(episode)
            for episode in sampled
        ],
    )


def _set_weights(runner: Any, learned: Any) -> None:
    """Give an env runner the learner's weights, and end what its connectors learn from being used.

    Asynchronous algorithms leave the local env runner's own weights behind.
    """
    from ray.rllib.core import DEFAULT_MODULE_ID
    from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule

    if isinstance(runner.module, MultiRLModule):
        pairs = [(runner.module[key], learned[key]) for key in runner.module.keys()]
    else:
        pairs = [(runner.module, learned[DEFAULT_MODULE_ID])]
    for module, source in pairs:
        module.set_state(source.get_state(inference_only=bool(module.inference_only)))
    for connector in runner._env_to_module.connectors:
        if hasattr(connector, "_update_stats"):  # a filter must not learn from being measured
            connector._update_stats = False
