"""EMH-PPO's networks: shared embedding, one agent network per MD, per-task critic (Section V-A)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import nn

from rllib_mec.algorithms.joint_ppo.rl_module import JointRLModule, ModelConfig
from rllib_mec.algorithms.networks import agent_heads, agent_layers, mlp


@dataclasses.dataclass(frozen=True)
class EMHPPOModelConfig(ModelConfig):
    """Sizes of the networks; the defaults are those of Section V-A.

    Attributes:
        embedding_hiddens: GELU layers of the embedding shared by all MDs.
        agent_hiddens: ReLU layers of each MD's agent network.
        critic_hiddens: ReLU layers of the critic.
    """

    embedding_hiddens: Sequence[int] = (512, 256)
    agent_hiddens: Sequence[int] = (256, 128, 64)
    critic_hiddens: Sequence[int] = (256, 128, 64)


class EMHPPORLModule(JointRLModule):
    """The actor-critic of EMH-PPO for all MDs at once (Fig. 5).

    The embedding φ runs once for all MDs, the agent networks θ_n run as one batched product, and
    the critic ω gives one value per task slot.
    """

    model_config_cls = EMHPPOModelConfig

    def setup(self) -> None:
        """Build the networks from the spaces and the model config."""
        config = EMHPPOModelConfig.from_dict(self.model_config)
        layout = self.layout
        num_inputs = self.observation_space.shape[0]  # type: ignore[union-attr,index]
        sizes = [config.embedding_hiddens[-1], *config.agent_hiddens]

        self.embedding = mlp([num_inputs, *config.embedding_hiddens], nn.GELU, out_gain=None)
        self.agent_layers = agent_layers(layout.num_devices, sizes)
        self.agent_heads = agent_heads(sizes[-1], layout)
        self.critic = mlp(
            [num_inputs, *config.critic_hiddens, layout.max_window], nn.ReLU, out_gain=1.0
        )

    def actor_outputs(self, observation: torch.Tensor) -> torch.Tensor:
        """Map observations ``(B, 2N)`` to the distribution's inputs."""
        x = self.embedding(observation).expand(len(self.agent_heads.weight), -1, -1)
        for layer in self.agent_layers:
            x = torch.relu(layer(x))
        return self.agent_heads(x).transpose(0, 1)
