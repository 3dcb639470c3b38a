"""Building blocks of the actors and critics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from rllib_mec.algorithms.distributions import HybridActionLayout
from rllib_mec.network.checks import Count

HEADS_GAIN = 0.01
"""Every decision starts near uniform, the power near mid-scale."""

FIRST_LOG_STD = -1.0
"""The power's log std at the start: neighbouring powers are told apart from then on."""


Layers = Annotated[Sequence[Count], Field(min_length=1)]
"""Units of each hidden layer."""


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
        """Map each agent's inputs to its outputs, ``(N, B, out_features)``.

        Args:
            x: ``(N, B, in_features)``.
        """
        return torch.baddbmm(self.bias, x, self.weight)


def agent_layers(num_agents: int, sizes: Sequence[int]) -> nn.ModuleList:
    """The hidden layers of N agent networks, to be followed by ReLU each.

    Args:
        num_agents: N.
        sizes: Inputs, then hidden layers.
    """
    return nn.ModuleList(
        AgentLinear(num_agents, n_in, n_out, math.sqrt(2.0))
        for n_in, n_out in itertools.pairwise(sizes)
    )


def agent_heads(in_features: int, layout: HybridActionLayout) -> AgentLinear:
    """The last layer of N agent networks: inputs of the hybrid distribution.

    Args:
        in_features: Outputs of the last hidden layer.
        layout: Sizes of the action; has N.
    """
    heads = AgentLinear(layout.num_devices, in_features, layout.num_inputs, HEADS_GAIN)
    start_log_std(heads.bias, layout)
    return heads


def start_log_std(bias: torch.Tensor, layout: HybridActionLayout) -> None:
    """Set the biases of the power's log std.

    Args:
        bias: ``(..., layout.num_inputs)``, changed in place.
        layout: Sizes of the action.
    """
    with torch.no_grad():
        decisions = bias[..., : -layout.max_window].unflatten(-1, (layout.num_decisions, -1))
        decisions[..., -1] = FIRST_LOG_STD


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


def in_steps(x: torch.Tensor, num_steps: int) -> torch.Tensor:
    """How far each of the first steps is filled, in [0, 1], ``(..., steps)``.

    A network that sees ``x`` itself hardly tells one task more from one less.

    Args:
        x: In steps, ``(...)``.
        num_steps: How many of them.
    """
    below = torch.arange(num_steps, device=x.device, dtype=x.dtype)
    return (x.unsqueeze(-1) - below).clamp(0.0, 1.0)
