"""EMH-PPO's networks: shared embedding, one agent network per MD, per-task critic (Section V-A)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from rllib_mec.algorithms.joint_ppo.rl_module import JointRLModule, ModelConfig
from rllib_mec.algorithms.networks import Layers, agent_heads, agent_layers, in_steps, mlp
from rllib_mec.errors import MecError
from rllib_mec.network.checks import Natural, Switch, refuse_in_one_line

STEP = 0.02
"""Queues are compared in steps of this share of the mean number of tasks: one task of the paper's
50."""

QUEUE_STEPS = 64
"""Steps in which queues are seen, one task at a time: so the last tasks come out even, and the
first windows already work towards that."""

LEAD_STEPS = 6
"""Steps in which a queue's lead over the shortest one is seen."""


@refuse_in_one_line
@dataclass(frozen=True)
class EMHPPOModelConfig(ModelConfig):
    """Sizes of the networks; the defaults are those of Section V-A.

    Attributes:
        model: The ``paper``'s networks, or those that are functions of a ``set``, whose sizes are
            :class:`~rllib_mec.algorithms.emh_ppo.set_module.SetModelConfig`'s.
        embedding_hiddens: GELU layers of the embedding shared by all MDs.
        agent_hiddens: ReLU layers of each MD's agent network.
        critic_hiddens: ReLU layers of the critic.
        compare_queues: Whether the networks also see the MDs in the order of their queues. Who has
            the shortest queue decides who may take a small window and work locally, but is a
            difference between numbers near 1, which a network hardly learns to tell. The paper's
            networks see the state alone.
        first_queue: Where in an observation the N queues begin; the algorithm's config sets it
            from the MDP's ``observation_layout``.
    """

    model: Literal["paper", "set"] = "paper"
    embedding_hiddens: Layers = (512, 256)
    agent_hiddens: Layers = (256, 128, 64)
    critic_hiddens: Layers = (256, 128, 64)
    compare_queues: Switch = True
    first_queue: Natural = 0


class EMHPPORLModule(JointRLModule):
    """The actor-critic of EMH-PPO for all MDs at once (Fig. 5).

    The embedding φ runs once for all MDs, the agent networks θ_n run as one batched product, and
    the critic ω gives one value per task slot.
    """

    model_config_cls = EMHPPOModelConfig

    def setup(self) -> None:
        """Build the networks from the spaces and the model config."""
        config = EMHPPOModelConfig.from_dict(self.model_config)
        if config.model != "paper":
            raise MecError(
                f"model in model_config must be 'paper' for {type(self).__name__}, "
                f"but is {config.model!r}"
            )
        layout = self.layout
        num_inputs = self.observation_space.shape[0]  # type: ignore[union-attr,index]
        self._compared = layout.num_devices if config.compare_queues else 0
        self._queues = slice(config.first_queue, config.first_queue + self._compared)
        self._ranks = slice(num_inputs, num_inputs + self._compared**2)
        num_inputs += self._compared * (self._compared + QUEUE_STEPS + LEAD_STEPS)
        sizes = [config.embedding_hiddens[-1] + self._compared, *config.agent_hiddens]

        self.embedding = mlp([num_inputs, *config.embedding_hiddens], nn.GELU, out_gain=None)
        self.agent_layers = agent_layers(layout.num_devices, sizes)
        self.agent_heads = agent_heads(sizes[-1], layout)
        self.critic = mlp(
            [num_inputs, *config.critic_hiddens, layout.max_window], nn.ReLU, out_gain=1.0
        )

    def actor_outputs(self, features: torch.Tensor) -> torch.Tensor:
        """Map features of B worlds to the distribution's inputs; see the base class."""
        x = self.embedding(features).expand(len(self.agent_heads.weight), -1, -1)
        if self._compared:
            ranks = features[:, self._ranks].unflatten(-1, (self._compared, -1))
            x = torch.cat([x, ranks.transpose(0, 1)], dim=-1)
        for layer in self.agent_layers:
            x = torch.relu(layer(x))
        return self.agent_heads(x).transpose(0, 1)

    def features(self, observation: torch.Tensor) -> torch.Tensor:
        """The state, each MD's rank, and the queues in falling order and their leads, in steps.

        Args:
            observation: ``(..., O)``.

        Returns:
            ``(..., F)``; the ranks are each MD's place in the order of falling queues, one-hot.
        """
        if not self._compared:
            return observation
        falling, order = observation[..., self._queues].sort(dim=-1, descending=True, stable=True)
        lead = falling - falling[..., -1:]
        devices = torch.arange(self._compared, device=order.device)
        ranks = (order.unsqueeze(-2) == devices.unsqueeze(-1)).to(observation.dtype)
        seen = [
            observation,
            ranks.flatten(-2),
            in_steps(falling / STEP, QUEUE_STEPS).flatten(-2),
            in_steps(lead / STEP, LEAD_STEPS).flatten(-2),
        ]
        return torch.cat(seen, dim=-1)
