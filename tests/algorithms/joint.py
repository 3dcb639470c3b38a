"""What the tests of joint algorithms share: a runner, a learner, and the batch between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.algorithms.env_runner import TaskWindowEnvRunner


def small(config_class: Any = EMHPPOConfig, **env_config: Any) -> Any:
    """A config of two devices whose episodes and batches are short."""
    scenario = {"num_devices": 2, "mean_tasks": 6, **env_config}
    return (
        config_class()
        .environment("mec_task_window_v0", env_config=scenario)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1)
        .debugging(seed=3)
    )


def make_runner(config: Any, **kwargs: Any) -> TaskWindowEnvRunner:
    """A local env runner of a config."""
    return config.env_runner_cls(config=config, worker_index=0, num_workers=0, **kwargs)


def make_learner(config: Any, runner: TaskWindowEnvRunner) -> Any:
    """A local learner with the weights of a runner."""
    learner = config.build_learner(spaces=runner.get_spaces())
    learner.module.set_state(runner.module.get_state())
    return learner


def train_batch(
    runner: TaskWindowEnvRunner, episodes: list[Any], pipeline: Any = None
) -> dict[str, torch.Tensor]:
    """The batch that the config's learner connectors make of episodes."""
    pipeline = pipeline or runner.config.build_learner_connector(None, None)
    batch = pipeline(rl_module=runner.module, batch={}, episodes=episodes, shared_data={})
    return batch[DEFAULT_MODULE_ID]


def most_likely(runner: TaskWindowEnvRunner, observation: np.ndarray) -> dict[str, np.ndarray]:
    """What a runner plays where it does not explore."""
    actor = runner._actor
    decision = actor.decide(observation, [], explore=False, at_random=False, iteration=0)
    return decision.played


def loss_of(learner: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The learner's loss on a batch."""
    return learner.compute_loss_for_module(
        module_id=DEFAULT_MODULE_ID,
        config=learner.config,
        batch=batch,
        fwd_out=learner.module[DEFAULT_MODULE_ID].forward_train(batch),
    )
