"""Greedy episodes of any RLlib checkpoint, through the very connectors it was trained with."""

from __future__ import annotations

from typing import Any

from rllib_mec.checkpoints import CheckpointInfo
from rllib_mec.errors import MecError, one_line

_LEARNED = ("learner_group", "learner", "rl_module")


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
        MecError: The policy does not fit the environment.
    """
    runner = _make_runner(info, env, env_config, seed)
    try:
        _restore(runner, info)
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


def _make_runner(info: CheckpointInfo, env: Any, env_config: dict[str, Any], seed: int) -> Any:
    from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    config = info.config.copy(copy_frozen=False)
    config.environment(env=env)
    config.env_config = env_config
    config.debugging(seed=seed)
    config.learners(num_learners=0, num_gpus_per_learner=0)
    # One env: of several in parallel, the short episodes would come in first and be favoured.
    config.env_runners(
        num_env_runners=0, num_envs_per_env_runner=1, num_gpus_per_env_runner=0, explore=False
    )
    default = MultiAgentEnvRunner if config.is_multi_agent else SingleAgentEnvRunner
    try:
        return (config.env_runner_cls or default)(config=config, worker_index=0, num_workers=0)
    except Exception as error:
        raise MecError(f"environment {env!r} cannot be made: {one_line(error)}") from None


def _restore(runner: Any, info: CheckpointInfo) -> None:
    """Restore the connectors from the env runner's part, the weights from the learner's.

    Asynchronous algorithms leave the local env runner's own weights behind.
    """
    from ray.rllib.core import DEFAULT_MODULE_ID
    from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule

    if (info.path / "env_runner").is_dir():
        runner.restore_from_path(str(info.path / "env_runner"))
    else:  # trained with create_local_env_runner=False
        for name, pipeline in (
            ("env_to_module_connector", runner._env_to_module),
            ("module_to_env_connector", runner._module_to_env),
        ):
            if (info.path / name).is_dir():
                pipeline.restore_from_path(str(info.path / name))
    learned_path = info.path.joinpath(*_LEARNED)
    if learned_path.is_dir():
        learned = MultiRLModule.from_checkpoint(str(learned_path))
        if isinstance(runner.module, MultiRLModule):
            pairs = [(runner.module[key], learned[key]) for key in runner.module.keys()]
        else:
            pairs = [(runner.module, learned[DEFAULT_MODULE_ID])]
        for module, source in pairs:
            module.set_state(source.get_state(inference_only=bool(module.inference_only)))
    for connector in runner._env_to_module.connectors:
        if hasattr(connector, "_update_stats"):  # a filter must not learn from being measured
            connector._update_stats = False
