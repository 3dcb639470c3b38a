"""EMH-PPO's networks: shared embedding, one agent network per MD, per-task critic (Section V-A)."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import nn

from rllib_mec.algorithms.distributions import HybridActionLayout, hybrid_distribution_cls
from rllib_mec.errors import unknown


@dataclasses.dataclass(frozen=True)
class EMHPPOModelConfig:
    """Sizes of the networks; the defaults are those of Section V-A.

    Attributes:
        embedding_hiddens: GELU layers of the embedding shared by all MDs.
        agent_hiddens: ReLU layers of each MD's agent network.
        critic_hiddens: ReLU layers of the critic.
    """

    embedding_hiddens: Sequence[int] = (512, 256)
    agent_hiddens: Sequence[int] = (256, 128, 64)
    critic_hiddens: Sequence[int] = (256, 128, 64)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EMHPPOModelConfig:
        """Make the config from RLlib's ``model_config``.

        Raises:
            MecError: A key is unknown.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise unknown("EMH-PPO model_config key", key, names)
        return cls(**values)


class AgentLinear(nn.Module):
    """N linear layers side by side, one per agent, computed as one batched product.

    Args:
        num_agents: N.
        in_features: Inputs of each layer.
        out_features: Outputs of each layer.
        gain: Gain of the orthogonal initialisation.
    """

    def __init__(self, num_agents: int, in_features: int, out_features: int, gain: float):
        """Initialise each agent's layer by itself."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_agents, in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(num_agents, 1, out_features))
        for weight in self.weight:
            nn.init.orthogonal_(weight.data, gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, B, in_features)`` to ``(N, B, out_features)``."""
        return torch.baddbmm(self.bias, x, self.weight)


def mlp(sizes: Sequence[int], activation: type[nn.Module], out_gain: float | None) -> nn.Sequential:
    """Fully connected layers.

    Args:
        sizes: Inputs, hidden layers, outputs.
        activation: Follows every layer, but the last one if ``out_gain`` is given.
        out_gain: Gain of a last, linear layer; ``None`` if the last one is hidden like the others.
    """
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        is_out = out_gain is not None and i == len(sizes) - 2
        linear = nn.Linear(n_in, n_out)
        nn.init.orthogonal_(linear.weight, out_gain if is_out else math.sqrt(2.0))  # type: ignore[arg-type]
        nn.init.zeros_(linear.bias)
        layers += [linear] if is_out else [linear, activation()]
    return nn.Sequential(*layers)


class EMHPPORLModule(TorchRLModule, ValueFunctionAPI):
    """The actor-critic of EMH-PPO for all MDs at once (Fig. 5).

    It is one joint module: the embedding φ runs once for all MDs, the agent networks θ_n run as one
    batched product, and the critic ω gives one value per task slot.

    Input is ``obs`` ``(B, 2N)``, the global state (X_n/λ of all MDs, then d_n/d_max of all MDs).
    The forward methods return ``action_dist_inputs`` ``(B, N, layout.num_inputs)``, from which
    :class:`~rllib_mec.algorithms.distributions.HybridActionDistribution` makes actions;
    :meth:`compute_values` returns ``(B, W_max)``.
    """

    def setup(self) -> None:
        """Build the networks from the spaces and the model config."""
        config = EMHPPOModelConfig.from_dict(self.model_config)
        layout = self.layout
        num_inputs = self.observation_space.shape[0]  # type: ignore[union-attr,index]

        self.embedding = mlp([num_inputs, *config.embedding_hiddens], nn.GELU, out_gain=None)
        sizes = [config.embedding_hiddens[-1], *config.agent_hiddens]
        self.agent_layers = nn.ModuleList(
            AgentLinear(layout.num_devices, n_in, n_out, math.sqrt(2.0))
            for n_in, n_out in itertools.pairwise(sizes)
        )
        # A small gain: every decision starts near uniform, the power near mid-scale.
        self.agent_heads = AgentLinear(layout.num_devices, sizes[-1], layout.num_inputs, 0.01)
        # The power's log std starts at -1: neighbouring powers are told apart from the start.
        log_std = layout.max_window * sum(layout.slot_sizes)
        with torch.no_grad():
            slots = self.agent_heads.bias[..., :log_std].unflatten(-1, (layout.max_window, -1))
            slots[..., -1] = -1.0
        self.critic = mlp(
            [num_inputs, *config.critic_hiddens, layout.max_window], nn.ReLU, out_gain=1.0
        )

    @property
    def layout(self) -> HybridActionLayout:
        """Sizes of the joint action."""
        return HybridActionLayout.from_space(self.action_space)  # type: ignore[arg-type]

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        embedding = self.embedding(batch[Columns.OBS])
        x = embedding.expand(self.agent_heads.weight.shape[0], -1, -1)
        for layer in self.agent_layers:
            x = torch.relu(layer(x))
        return {Columns.ACTION_DIST_INPUTS: self.agent_heads(x).transpose(0, 1)}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """The value of each task slot, V_ω(S_k) of Section IV-C.

        Args:
            batch: With ``obs`` ``(..., 2N)``.
            embeddings: Unused: the critic shares nothing with the actor.

        Returns:
            ``(..., W_max)``.
        """
        return self.critic(batch[Columns.OBS])

    def get_train_action_dist_cls(self) -> type:
        """The hybrid distribution bound to this module's sizes."""
        return hybrid_distribution_cls(self.layout)

    get_exploration_action_dist_cls = get_train_action_dist_cls
    get_inference_action_dist_cls = get_train_action_dist_cls
