"""A warm start: actor and critic learn from a planner's demonstrations before EMH-PPO begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.policy.sample_batch import SampleBatch

from rllib_mec.algorithms.columns import PLAYED
from rllib_mec.algorithms.distributions import HEADS, TASK_HEADS, HybridActionDistribution
from rllib_mec.algorithms.gae import per_task_gae
from rllib_mec.algorithms.joint_ppo.rl_module import JointRLModule
from rllib_mec.envs import laws
from rllib_mec.envs.masks import MASKS
from rllib_mec.envs.mdp import MDP
from rllib_mec.network.streams import DEMONSTRATION_SEED
from rllib_mec.policies.policy import Policy

LEARNING_RATE = 3e-3
LEAST_RATE = 0.02  # of it, at the end
MINIBATCH_SIZE = 128

POWER_NOISE = 0.03
"""Std of the noise on demonstrated powers: what the policy's own exploration starts from."""

SHORT_EPISODES = 0.25
"""Half of the demonstrations are of episodes with this share of the mean number of tasks: how an
episode is best brought to its end takes as much to learn as all of what comes before."""

EQUAL_QUEUES = 0.5
"""Share of the episodes that begin with equal queues, of any length: drawn ones hardly ever are
equal, but those of MDs that share the work well are, and so are those of the paper's protocol."""

MOST_TASKS = 1.2
"""Longest of the equal queues, as a share of the mean number of tasks."""

Tell = Callable[[float], None]
"""Is told the share of the work that is done, now and then."""

_SEEDS_A_LESSON = 1 << 32  # more than a config's seed can be


def demonstrate(
    teacher: Policy,
    num_windows: int,
    config: Any,
    reward_scale: float | None = None,
    lesson: int = 0,
    tell: Tell = lambda share: None,
) -> SampleBatch:
    """Let a policy decide, to learn from it.

    Args:
        teacher: Decides.
        num_windows: Task windows, rounded up to whole steps of all worlds.
        config: The algorithm's config: number of worlds, seed, and how rewards are learned from.
        reward_scale: What rewards are divided by; the config's by default.
        lesson: Each has episodes of its own.
        tell: Is told the share of them that is there.

    Returns:
        The windows with ``obs``, masks, the heads' actions, ``played`` and ``value_targets``.
    """
    num_steps = -(-num_windows // (2 * config.num_envs_per_env_runner))
    average = None if config.average_reward else 0.0
    parts = []
    for part, share in enumerate((1.0, SHORT_EPISODES)):
        played = _play(
            teacher,
            num_steps,
            share,
            config,
            lesson,
            lambda done, part=part: tell((part + done) / 2),
        )
        columns, rewards, terminated = played
        rewards = rewards / (reward_scale or config.reward_scale)
        average = rewards.mean() if average is None else average
        # Discounted returns: the critic knows nothing yet.
        unknown = np.zeros((num_steps + 1, *rewards.shape[1:]))
        _, targets = per_task_gae(rewards - average, unknown, terminated, config.gamma, 1.0)
        parts.append({**columns, Columns.VALUE_TARGETS: targets})
    # (T, B, ...) of both parts to rows.
    return SampleBatch(
        {
            name: np.concatenate([part[name].reshape(-1, *part[name].shape[2:]) for part in parts])
            for name in parts[0]
        }
    )


def _play(
    teacher: Policy, num_steps: int, share: float, config: Any, lesson: int, tell: Tell
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Windows of episodes with a share of the mean number of tasks: columns, rewards, ends."""
    scenario = teacher.scenario
    shorter = scenario.replace(mean_tasks=share * scenario.mean_tasks)
    mdp = dataclasses.replace(teacher.mdp, scenario=shorter)
    seed = (config.seed or 0) + _SEEDS_A_LESSON * lesson
    worlds = mdp.make(config.num_envs_per_env_runner, DEMONSTRATION_SEED + seed)
    rng = np.random.default_rng(seed)
    most = max(1, int(MOST_TASKS * mdp.scenario.mean_tasks))
    rows: list[dict[str, np.ndarray]] = []
    rewards, terminated = [], []
    beginning = np.ones(worlds.num_envs, dtype=bool)
    for number in range(num_steps):
        tell(number / num_steps)
        equal = np.flatnonzero(beginning & (rng.random(worlds.num_envs) < EQUAL_QUEUES))
        if len(equal):
            state = worlds.get_state()
            state["queues"][equal] = rng.integers(1, most, (len(equal), 1), endpoint=True)
            worlds.set_state(state)
        observation = laws.observed(
            teacher.mdp, worlds.state
        )  # as it is seen in the whole scenario
        masks = laws.mask_columns(mdp, worlds.state)
        actions = teacher.decide(observation)
        step = worlds.step(actions)
        played = step.played.astype(np.float32)
        rows.append({**actions, **masks, Columns.OBS: observation, PLAYED: played})
        rewards.append(step.task_rewards)
        terminated.append(step.terminated)
        beginning = step.terminated
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return columns, np.stack(rewards), np.stack(terminated)


def imitate(
    module: JointRLModule,
    *batches: SampleBatch,
    num_epochs: int,
    seed: int,
    mdps: Sequence[MDP] = (),
    tell: Tell = lambda share: None,
) -> float:
    """Fit actor and critic of a joint module to demonstrations, by maximum likelihood.

    Args:
        module: Changed in place.
        *batches: Windows with ``obs``, the heads' actions, ``played`` and ``value_targets``, each
            of one MDP; minibatches of all come in mixed order.
        num_epochs: Passes over the batches, with a learning rate that falls linearly.
        seed: Seed of the order of windows and of the noise on the powers.
        mdps: Those that the batches are of, where there are several; the module is then bound to
            one of them in the end.
        tell: Is told the share of the passes that is done.

    Returns:
        The loss of the last epoch.
    """
    data = [
        {
            name: torch.from_numpy(batch[name])
            for name in (*HEADS, Columns.OBS, PLAYED, Columns.VALUE_TARGETS, *MASKS.values())
            if name in batch
        }
        for batch in batches
    ]
    device = next(module.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, fused=True)
    steps_an_epoch = sum(max(batch.count // MINIBATCH_SIZE, 1) for batch in batches)
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimizer, 1.0, LEAST_RATE, total_iters=num_epochs * steps_an_epoch
    )
    loss_sum = 0.0
    for epoch in range(num_epochs):
        loss_sum = 0.0
        minibatches = _minibatches([batch.count for batch in batches], generator)
        for number, (index, rows) in enumerate(minibatches):
            tell((epoch + number / len(minibatches)) / num_epochs)
            if mdps:
                module.bind(mdps[index])  # type: ignore[operator]  # it carries over
            part = {name: values[rows] for name, values in data[index].items()}
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


def _minibatches(
    counts: Sequence[int], generator: torch.Generator
) -> list[tuple[int, torch.Tensor]]:
    """Batches and rows of them, each row at most once, in random order."""
    drawn = []
    for index, count in enumerate(counts):
        parts = torch.randperm(count, generator=generator).split(MINIBATCH_SIZE)
        drawn += [(index, rows) for rows in parts[: max(count // MINIBATCH_SIZE, 1)]]
    if len(counts) == 1:
        return drawn
    return [drawn[i] for i in torch.randperm(len(drawn), generator=generator).tolist()]


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
