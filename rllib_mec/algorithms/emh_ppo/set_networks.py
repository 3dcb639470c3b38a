"""Networks that are functions of sets: the same weights for any number of members."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

from rllib_mec.algorithms.distributions import HybridActionLayout
from rllib_mec.algorithms.emh_ppo.set_features import FEW_STEPS, HAS_TASKS, RANK
from rllib_mec.algorithms.networks import FIRST_LOG_STD, HEADS_GAIN, in_steps, mlp

Sizes = Mapping[str, tuple[int, int]]
"""Kind -> how many there are of it, and the width of their features."""

POINTED_AT = ("channels", "servers")

_NUM_OF_TURN = 3 * 3 + 1
NUM_OF_SLOT = FEW_STEPS + 2
"""Features of a task slot."""


def split(features: torch.Tensor, sizes: Sizes) -> dict[str, torch.Tensor]:
    """Features of each kind, ``(B, number, width)``.

    Args:
        features: ``(B, F)``, as of :class:`~.set_features.SetFeatures`.
        sizes: What they are of.
    """
    parts = features.split([number * width for number, width in sizes.values()], dim=-1)
    return {
        kind: part.unflatten(-1, size)
        for (kind, size), part in zip(sizes.items(), parts, strict=True)
    }


class Attention(nn.Module):
    """Tokens attend to each other, then each changes by itself; both on top of what they were.

    Args:
        width: Of a token.
        num_heads: Heads of attention.
    """

    def __init__(self, width: int, num_heads: int):
        """Make the layer."""
        super().__init__()
        self.num_heads = num_heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.projected = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.hidden = nn.Linear(width, 2 * width)
        self.out = nn.Linear(2 * width, width)

    def forward(
        self,
        tokens: torch.Tensor,
        seen: torch.Tensor | None = None,
        may_see: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The tokens after it, ``(B, tokens, width)``.

        Args:
            tokens: Likewise.
            seen: What they attend to, ``(B, others, width)``; each other by default.
            may_see: Which of these each may attend to, bool, ``(B, tokens, others)``; all by
                default.
        """
        query, key, value = self._heads(tokens)
        if seen is not None:
            _, key, value = self._heads(seen)
        # For few tokens twice as fast as torch's own.
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if may_see is not None:
            scores = scores.masked_fill(~may_see.unsqueeze(1), -math.inf)
        weights = scores.softmax(-1)
        tokens = tokens + self.attended((weights @ value).transpose(1, 2).flatten(-2))
        return tokens + self.out(torch.relu(self.hidden(self.norms[1](tokens))))

    def _heads(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """Query, key and value of every token, ``(B, heads, tokens, width of a head)`` each."""
        return [
            each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for each in self.projected(self.norms[0](tokens)).chunk(3, dim=-1)
        ]


class Encoded(NamedTuple):
    """What the heads decide from.

    Attributes:
        devices: Tokens of the MDs after attention among them, ``(B, N, width)``.
        points: Tokens of each MD's partition points, ``(N, S, width)``.
        pointed: Tokens of each kind of :data:`POINTED_AT`, ``(B, number, width)``.
    """

    devices: torch.Tensor
    points: torch.Tensor
    pointed: Mapping[str, torch.Tensor]


class SetActor(nn.Module):
    """Attention among the MDs, then the same heads for each of them and of its task slots.

    The heads point: a score of a partition point, a channel or a server is the product of a query
    of the task slot and a key of theirs, so that there may be any number of them.

    Args:
        sizes: Of the features.
        num_of_point: Features of a partition point.
        width: Of a token.
        num_layers: Layers of attention.
        num_heads: Heads of each.
    """

    def __init__(
        self, sizes: Sizes, num_of_point: int, width: int, num_layers: int, num_heads: int
    ):
        """Make the layers; every decision starts near uniform."""
        super().__init__()
        self.inputs = nn.ModuleDict({k: nn.Linear(n, width) for k, (_, n) in sizes.items()})
        self.points = mlp([num_of_point, width, width], nn.ReLU, out_gain=1.0)
        self.pointed = nn.ModuleDict({kind: nn.Linear(width, width) for kind in POINTED_AT})
        self.layers = nn.ModuleList(Attention(width, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.of_device = nn.Linear(width, 2 * width)
        self.of_slot = nn.Linear(NUM_OF_SLOT, 2 * width, bias=False)
        self.hidden = nn.Linear(2 * width, width)
        self.split = [width, width, width, _NUM_OF_TURN, _NUM_OF_TURN, 2, 1]
        self.heads = nn.Linear(width, sum(self.split))
        nn.init.orthogonal_(self.heads.weight, HEADS_GAIN)
        nn.init.zeros_(self.heads.bias)
        with torch.no_grad():
            self.heads.bias[-2] = FIRST_LOG_STD

    def forward(
        self, of: Mapping[str, torch.Tensor], points: torch.Tensor, layout: HybridActionLayout
    ) -> torch.Tensor:
        """The distribution's inputs, ``(B, N, layout.num_inputs)``.

        Args:
            of: Features of each kind, as of :func:`split`.
            points: Features of each MD's partition points, ``(N, S, ...)``.
            layout: Sizes of the action.
        """
        return self.decide(self.encode(of, points), of["devices"], layout)

    def encode(self, of: Mapping[str, torch.Tensor], points: torch.Tensor) -> Encoded:
        """The tokens.

        Args:
            of: Features of each kind, as of :func:`split`.
            points: Features of each MD's partition points, ``(N, S, ...)``.
        """
        points = self.points(points)
        pointed = {kind: torch.relu(self.inputs[kind](of[kind])) for kind in POINTED_AT}
        world = self.inputs["world"](of["world"])
        world = world + sum(tokens.mean(1, keepdim=True) for tokens in pointed.values())
        devices = self.inputs["devices"](of["devices"]) + points.amax(1) + world
        tokens = torch.relu(torch.cat([devices, world], dim=1))
        for layer in self.layers:
            tokens = layer(tokens)
        return Encoded(tokens[:, :-1], points, pointed)

    def decide(
        self, encoded: Encoded, devices: torch.Tensor, layout: HybridActionLayout
    ) -> torch.Tensor:
        """The distribution's inputs, ``(B, N, layout.num_inputs)``.

        Args:
            encoded: The tokens.
            devices: The MDs' features, which say whose turn it is.
            layout: Sizes of the action.
        """
        own = self.of_device(self.norm(encoded.devices)).unsqueeze(2)
        slots = self.of_slot(slot_features(layout.max_window, own))
        x = torch.relu(self.hidden(torch.relu(own + slots)))  # (B, N, W_max, width)
        to_point, to_channel, to_server, *turns, power, window = self.heads(x).split(
            self.split, dim=-1
        )
        scale = 1.0 / math.sqrt(x.shape[-1])
        logits = [torch.einsum("bnxk,nsk->bnxs", to_point, encoded.points) * scale]
        for kind, query, turn in zip(POINTED_AT, (to_channel, to_server), turns, strict=True):
            keys = self.pointed[kind](encoded.pointed[kind])
            scores = torch.einsum("bnxk,bmk->bnxm", query, keys) * scale
            taken = _turns(devices, layout.max_window, keys.shape[1])
            logits.append(scores + (turn.unsqueeze(-2) * taken).sum(-1))
        decisions = torch.cat([*logits, power], dim=-1)[:, :, : layout.num_decisions]
        return torch.cat([decisions.flatten(2), window.squeeze(-1)], dim=-1)


class SetCritic(nn.Module):
    """A value for each task slot, from the MDs' features, each by itself and then together.

    Args:
        sizes: Of the features.
        hidden: Width of its layers.
    """

    def __init__(self, sizes: Sizes, hidden: int):
        """Make the layers."""
        super().__init__()
        self.devices = mlp([sizes["devices"][1], hidden, hidden], nn.ReLU, out_gain=None)
        self.pooled = mlp([2 * hidden + sizes["world"][1], hidden], nn.ReLU, out_gain=None)
        self.of_slot = nn.Linear(NUM_OF_SLOT, hidden, bias=False)
        self.out = mlp([hidden, hidden, 1], nn.ReLU, out_gain=1.0)

    def forward(self, features: torch.Tensor, sizes: Sizes, max_window: int) -> torch.Tensor:
        """Values, ``(..., W_max)``.

        Args:
            features: ``(..., F)``.
            sizes: What they are of.
            max_window: W_max.
        """
        of = split(features.reshape(-1, features.shape[-1]), sizes)
        devices = self.devices(of["devices"])
        pooled = torch.cat([devices.mean(1), devices.amax(1), of["world"][:, 0]], dim=-1)
        slots = self.of_slot(slot_features(max_window, pooled))
        values = self.out(torch.relu(self.pooled(pooled).unsqueeze(1) + slots)).squeeze(-1)
        return values.unflatten(0, features.shape[:-1])


def slot_features(number: int, like: torch.Tensor) -> torch.Tensor:
    """What tells task slots apart, ``(W_max, ...)``.

    Args:
        number: W_max.
        like: A tensor of the same device and type.
    """
    slot = torch.arange(number, device=like.device, dtype=like.dtype)
    scales = torch.stack([slot / number, slot.log1p() / 2.0], dim=-1)
    return torch.cat([in_steps(slot, FEW_STEPS), scales], dim=-1)


def _turns(devices: torch.Tensor, num_slots: int, number: int) -> torch.Tensor:
    """Whose turn it is, of servers or channels, ``(B, N, W_max, number, ...)``.

    Equal ones have nothing to choose between them, yet work must be shared evenly. So the MDs, in
    the order of their queues, are dealt to them one by one, or task by task too, or as many in a
    row to each; a head learns which of these is to count.
    """
    num_devices = devices.shape[1]
    active = (devices[..., HAS_TASKS] > 0).sum(1, keepdim=True).clamp(min=1)
    rank = (devices[..., RANK] * num_devices).round().unsqueeze(-1)
    slot = torch.arange(num_slots, device=rank.device, dtype=rank.dtype)
    each = torch.arange(number, device=rank.device, dtype=rank.dtype)
    in_a_row = (rank * number / active.unsqueeze(-1)).floor()
    turn = torch.stack(torch.broadcast_tensors(rank, rank + slot, in_a_row), dim=-1)
    offset = torch.remainder(turn.unsqueeze(-2) - each.unsqueeze(-1), number)
    angle = offset * (2.0 * math.pi / number)
    first = (each == 0).to(rank.dtype).unsqueeze(-1).expand(*offset.shape[:-1], 1)
    return torch.cat([(offset == 0).to(rank.dtype), angle.cos(), angle.sin(), first], dim=-1)
