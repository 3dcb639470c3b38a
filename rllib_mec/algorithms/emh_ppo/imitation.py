"""A warm start: actor and critic learn from a planner's demonstrations before EMH-PPO begins."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.policy.sample_batch import SampleBatch

from rllib_mec.algorithms.columns import PLAYED
from rllib_mec.algorithms.distributions import HEADS, TASK_HEADS, HybridActionDistribution
from rllib_mec.algorithms.joint_ppo.rl_module import JointRLModule

LEARNING_RATE = 1e-3
LEAST_RATE = 0.02

POWER_NOISE = 0.05
"""Std of the noise on demonstrated powers: what the policy's own exploration starts from."""


def imitate(
    module: JointRLModule, batch: SampleBatch, *, num_epochs: int, minibatch_size: int, seed: int
) -> float:
    """Fit actor and critic of a joint module to demonstrations, by maximum likelihood.

    Args:
        module: Changed in place.
        batch: Windows with ``obs``, the heads' actions, ``played`` and ``value_targets``.
        num_epochs: Passes over the batch, with a learning rate that falls linearly.
        minibatch_size: Windows a step.
        seed: Seed of the order of windows and of the noise on the powers.

    Returns:
        The loss of the last epoch.
    """
    data = {
        name: torch.from_numpy(batch[name])
        for name in (*HEADS, Columns.OBS, PLAYED, Columns.VALUE_TARGETS)
    }
    device = next(module.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)
    steps_an_epoch = max(batch.count // minibatch_size, 1)
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimizer, 1.0, LEAST_RATE, total_iters=num_epochs * steps_an_epoch
    )
    loss_sum = 0.0
    for _ in range(num_epochs):
        loss_sum = 0.0
        order = torch.randperm(batch.count, generator=generator)
        for rows in order.split(minibatch_size)[:steps_an_epoch]:
            part = {name: values[rows] for name, values in data.items()}
            part["power"] = part["power"] + POWER_NOISE * torch.randn(
                part["power"].shape, generator=generator
            )
            loss = _loss(module, {name: values.to(device) for name, values in part.items()})
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item()
    return loss_sum / steps_an_epoch


def _loss(module: JointRLModule, batch: dict[str, Any]) -> torch.Tensor:
    """Negative log-likelihood of the decisions that were about tasks, and the critic's error."""
    outputs = module.forward_train(batch)
    dist = HybridActionDistribution(outputs[Columns.ACTION_DIST_INPUTS], module.layout)
    logp = dist.head_logp(batch)
    played = batch[PLAYED]
    tasks = sum(logp[head] for head in TASK_HEADS) * played
    windows = logp["window"] * played[..., 0]
    values = module.compute_values(batch)
    error = 0.5 * (values - batch[Columns.VALUE_TARGETS]).square().mean()
    return error - tasks.sum((1, 2)).mean() / played.shape[-1] - windows.sum(1).mean()
