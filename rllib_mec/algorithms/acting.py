"""From what B worlds show to actions: the joint module, and the connectors before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import ENV_TO_MODULE_CONNECTOR, MODULE_TO_ENV_CONNECTOR
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.spaces.space_utils import batch as as_batch

from rllib_mec.algorithms.columns import TASK_LOGP, WINDOW_LOGP
from rllib_mec.algorithms.distributions import (
    TASK_HEADS,
    HybridActionDistribution,
    HybridActionLayout,
)
from rllib_mec.algorithms.diverged import TrainingDiverged

GENERATOR = "generator"
"""Key of the env runner's source of randomness in the connectors' shared data."""


@torch.no_grad()
def draw_actions(
    dist: HybridActionDistribution,
    explore: bool,
    generator: torch.Generator | None,
    drawn: dict[str, torch.Tensor] | None = None,
) -> dict[str, Any]:
    """Draw an action of all MDs, with the log-probabilities that the learner needs.

    Args:
        dist: The policy in B worlds.
        explore: Whether to draw, or to take the most likely action.
        generator: Source of randomness, torch's global one by default.
        drawn: What a module has drawn already by itself.

    Returns:
        ``actions``, tensors ``(B, N, D)`` by head, ``window`` ``(B, N)``; ``task_logp``
        ``(B, N, D, 4)``, ``window_logp`` ``(B, N)``, and ``action_logp`` ``(B,)``, their sum.
    """
    actions = drawn
    if actions is None:
        actions = dist.sample(generator=generator) if explore else dist.mode()
    logp = dist.head_logp(actions)
    task_logp = torch.stack([logp[head] for head in TASK_HEADS], dim=-1)
    return {
        Columns.ACTIONS: actions,
        Columns.ACTION_LOGP: task_logp.sum((1, 2, 3)) + logp["window"].sum(1),
        TASK_LOGP: task_logp,
        WINDOW_LOGP: logp["window"],
    }


class DrawActions(ConnectorV2):
    """Draws actions from ``action_dist_inputs``, where the module has not done so by itself.

    It stands in the place of RLlib's ``GetActions``, from which it differs in that it draws from
    the env runner's own generator and keeps the log-probability of each head.
    """

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        explore: bool | None = None,
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Add ``actions`` and log-probabilities to ``batch``, if they are not there.

        See RLlib's base class.

        Args:
            rl_module: The joint module.
            batch: Its outputs.
            explore: Whether to draw, or to take the most likely action.
            shared_data: With the generator.
            **kwargs: Unused.

        Returns:
            The batch.
        """
        if TASK_LOGP not in batch:
            dist = HybridActionDistribution(batch[Columns.ACTION_DIST_INPUTS], rl_module.layout)
            generator = (shared_data or {}).get(GENERATOR)
            drawn = batch.get(Columns.ACTIONS)
            batch.update(draw_actions(dist, bool(explore), generator, drawn))
        return batch


class Decision(NamedTuple):
    """What a module decided in B worlds.

    Attributes:
        actions: As drawn, arrays ``(B, N, D)``, ``window`` ``(B, N)``.
        played: As the worlds take them, ``(B, N, W_max)``.
        outputs: What an episode keeps of it besides, arrays ``(B, ...)``.
        dist: The policy that was drawn from.
    """

    actions: dict[str, np.ndarray]
    played: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    dist: HybridActionDistribution


class Actor:
    """Decides in a batch of worlds, by the module and the connectors before and after it.

    A pipeline of defaults alone is not called, since it would only take the batch apart and put it
    together again.

    Args:
        module: The joint module.
        pipelines: Env-to-module and module-to-env, each ``None`` if it is to be left out.
        generator: Source of randomness.
        metrics: Where the connectors log.
    """

    def __init__(
        self,
        module: Any,
        pipelines: tuple[Any | None, Any | None],
        generator: torch.Generator,
        metrics: Any,
    ):
        """Keep what it decides by."""
        self._module = module
        self._env_to_module, self._module_to_env = pipelines
        self._generator = generator
        self._metrics = metrics
        self._shared_data: dict[str, Any] = {GENERATOR: generator}

    def decide(
        self,
        observation: np.ndarray,
        episodes: list[Any],
        masks: Mapping[str, np.ndarray] = MappingProxyType({}),
        *,
        explore: bool,
        at_random: bool,
        iteration: int,
    ) -> Decision:
        """Decide in B worlds.

        Args:
            observation: What the worlds show, ``(B, O)``.
            episodes: The worlds' episodes; needed by pipelines only.
            masks: Which choices may be taken, for the module, and the learner after it; see
                :func:`rllib_mec.envs.laws.mask_columns`.
            explore: Whether to draw, or to take the most likely action.
            at_random: Whether to decide uniformly, whatever the module says.
            iteration: Of training, after which the module is as it is.

        Returns:
            The decision.

        Raises:
            TrainingDiverged: The module's outputs are not finite.
        """
        layout: HybridActionLayout = self._module.layout
        shared: Any = {
            "rl_module": self._module,
            "episodes": episodes,
            "explore": explore,
            "shared_data": self._shared_data,
            "metrics": self._metrics,
        }
        if self._env_to_module is None:
            batch = {Columns.OBS: torch.from_numpy(observation)}
        else:
            batch = self._env_to_module(
                batch={}, metrics_prefix_key=(ENV_TO_MODULE_CONNECTOR,), obs=observation, **shared
            )
        batch.update({name: torch.from_numpy(mask) for name, mask in masks.items()})
        forward = self._module.forward_exploration if explore else self._module.forward_inference
        with torch.no_grad():
            outputs: Any = forward(batch, generator=self._generator)
        inputs = outputs[Columns.ACTION_DIST_INPUTS]
        if not bool(torch.isfinite(inputs).all()):
            raise TrainingDiverged(
                f"training diverged at iteration {iteration}: the policy's outputs are not finite"
            )
        if at_random:
            inputs = layout.masked(torch.zeros_like(inputs), batch)
            outputs[Columns.ACTION_DIST_INPUTS] = inputs
            outputs.pop(Columns.ACTIONS, None)
        dist = HybridActionDistribution(inputs, layout)
        if self._module_to_env is None:
            drawn = outputs.get(Columns.ACTIONS)
            outputs.update(draw_actions(dist, explore, self._generator, drawn))
        else:
            outputs = self._module_to_env(
                batch=outputs, metrics_prefix_key=(MODULE_TO_ENV_CONNECTOR,), **shared
            )
            outputs = {
                name: as_batch(values) if isinstance(values, list) else values
                for name, values in outputs.items()
            }
        outputs = convert_to_numpy(outputs)
        actions = outputs.pop(Columns.ACTIONS)
        played = layout.playable(outputs.pop(Columns.ACTIONS_FOR_ENV, actions))
        return Decision(actions, played, {**outputs, **masks}, dist)
