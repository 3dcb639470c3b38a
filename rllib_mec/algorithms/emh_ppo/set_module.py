"""Set-structured networks of EMH-PPO: the same weights for any number of MDs, servers, channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import InstanceOf
from pydantic.dataclasses import dataclass
from torch import nn
from torch.nn import functional
from typing_extensions import Self

from rllib_mec.algorithms.distributions import HybridActionLayout
from rllib_mec.algorithms.emh_ppo.set_features import FEW_STEPS, Part, SetFeatures
from rllib_mec.algorithms.joint_ppo.rl_module import JointRLModule, ModelConfig
from rllib_mec.algorithms.networks import FIRST_LOG_STD, HEADS_GAIN, mlp
from rllib_mec.envs import laws
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import state_space
from rllib_mec.errors import MecError
from rllib_mec.network.checks import Count, refuse_in_one_line

_NUM_OFFSETS = 3 * 3 + 1  # features of who is whose turn


@refuse_in_one_line
@dataclass(frozen=True)
class SetModelConfig(ModelConfig):
    """Sizes of the set-structured networks.

    Attributes:
        model: Which networks these are.
        width: Numbers that stand for an MD, a server, a channel or a task slot.
        num_layers: Layers of attention among the MDs.
        num_heads: Heads of each.
        critic_hidden: Width of the critic.
        mdp: Where decisions are made; the algorithm's config sets it.
        parts: Parts of the observation that are a user's own; likewise.
    """

    model: Literal["set"] = "set"
    width: Count = 64
    num_layers: Count = 2
    num_heads: Count = 4
    critic_hidden: Count = 128
    mdp: InstanceOf[MDP] | None = None
    parts: Mapping[str, tuple[str, int]] | None = None

    def __post_init__(self) -> None:
        """Check what no single field shows."""
        if self.width % self.num_heads:
            raise MecError(
                f"width must be a multiple of num_heads, {self.num_heads}, but is {self.width}"
            )


class SetRLModule(JointRLModule):
    """The actor-critic of EMH-PPO as functions of sets.

    Attention runs among the MDs; each has the same heads, which point at its DNN's partition
    points, at servers and at channels. No weight has a size that depends on how many there are of
    anything.
    """

    model_config_cls = SetModelConfig

    def setup(self) -> None:
        """Build the networks for an MDP."""
        config = SetModelConfig.from_dict(self.model_config)
        assert config.mdp is not None  # by the algorithm's config
        size = laws.size_of(config.mdp)
        if self.observation_space.shape != (size,):  # type: ignore[union-attr]
            raise MecError(
                f"model 'set' in model_config takes the MDP's observation of {size} numbers as it "
                f"is, but connectors make {self.observation_space.shape} of it"  # type: ignore[union-attr]
            )
        parts = {name: Part(*part) for name, part in (config.parts or {}).items()}
        self.seen = SetFeatures(config.mdp, parts)
        sizes = {kind: width for kind, (_, width) in self.seen.sizes.items()}
        self.actor = _Actor(config, sizes, self.seen.points.shape[-1])
        self.critic = _Critic(config.critic_hidden, self.seen, self.layout.max_window)

    def features(self, observation: torch.Tensor) -> torch.Tensor:
        """Features of devices, servers, channels and world, flat; see the base class."""
        return self.seen(observation)

    def actor_outputs(self, features: torch.Tensor) -> torch.Tensor:
        """Map features of B worlds to the distribution's inputs; see the base class."""
        return self.actor(split(features, self.seen), self.seen, self.layout)

    def on(self, mdp: MDP) -> Self:
        """These networks, with the same weights, where another MDP is to be decided in.

        Args:
            mdp: The MDP.

        Raises:
            MecError: It shows what the networks have no inputs for.
        """
        layout = HybridActionLayout(
            num_devices=mdp.scenario.num_devices,
            max_window=mdp.scenario.max_window,
            num_points=mdp.scenario.num_points,
            num_channels=mdp.scenario.num_channels,
            num_servers=mdp.scenario.num_servers,
            num_decisions=mdp.scenario.max_window,
        )
        module = type(self)(
            observation_space=state_space(laws.size_of(mdp)),
            action_space=layout.joint_space(),
            model_config={**self.model_config, "mdp": mdp},
        )
        module.set_state(self.get_state())
        return module


def split(features: torch.Tensor, seen: SetFeatures) -> dict[str, torch.Tensor]:
    """Features of each kind, ``(B, number, width)``.

    Args:
        features: ``(B, F)``, as of :meth:`SetRLModule.features`.
        seen: Made them.
    """
    sizes = seen.sizes
    parts = features.split([number * width for number, width in sizes.values()], dim=-1)
    return {
        kind: part.unflatten(-1, size)
        for (kind, size), part in zip(sizes.items(), parts, strict=True)
    }


class _Attention(nn.Module):
    """A layer of attention among tokens and one of each by itself, both residual, pre-norm."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.projected = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.hidden = nn.Linear(width, 2 * width)
        self.last = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for each in self.projected(self.norm[0](x)).chunk(3, dim=-1)
        )
        heads = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(heads.transpose(1, 2).flatten(-2))
        return x + self.last(functional.relu(self.hidden(self.norm[1](x))))


class _Actor(nn.Module):
    def __init__(self, config: SetModelConfig, sizes: Mapping[str, int], num_of_point: int):
        super().__init__()
        width = config.width
        self.inputs = nn.ModuleDict({k: nn.Linear(sizes[k], width) for k in sizes})
        self.points = mlp([num_of_point, width, width], nn.GELU, out_gain=1.0)
        self.keys = nn.ModuleDict({k: nn.Linear(width, width) for k in ("servers", "channels")})
        self.layers = nn.ModuleList(
            _Attention(width, config.num_heads) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.of_device = nn.Linear(width, 2 * width)
        self.of_slot = nn.Linear(_NUM_OF_SLOT, 2 * width, bias=False)
        self.hidden = nn.Linear(2 * width, 2 * width)
        self.split = [width, width, width, _NUM_OFFSETS, _NUM_OFFSETS, 2, 1]
        self.heads = nn.Linear(2 * width, sum(self.split))
        nn.init.orthogonal_(self.heads.weight, HEADS_GAIN)
        nn.init.zeros_(self.heads.bias)
        with torch.no_grad():
            self.heads.bias[-2] = FIRST_LOG_STD

    def forward(
        self, of: dict[str, torch.Tensor], seen: SetFeatures, layout: HybridActionLayout
    ) -> torch.Tensor:
        points = self.points(seen.points)  # (N, S, W): the same in all worlds
        others = {k: functional.relu(self.inputs[k](of[k])) for k in ("servers", "channels")}
        world = self.inputs["world"](of["world"])
        world = world + sum(tokens.mean(1, keepdim=True) for tokens in others.values())
        devices = self.inputs["devices"](of["devices"]) + points.amax(1) + world
        tokens = torch.cat([functional.relu(devices), functional.relu(world)], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        own = self.of_device(tokens[:, :-1]).unsqueeze(2)
        slots = self.of_slot(_slots(layout.max_window, own))
        x = functional.relu(self.hidden(functional.relu(own + slots)))  # (B, N, W_max, 2 W)
        point, server, channel, s_turn, c_turn, power, window = self.heads(x).split(
            self.split, dim=-1
        )
        rank = of["devices"][..., _RANK]
        active = (of["devices"][..., _HAS_TASKS] > 0).sum(1, keepdim=True).clamp(min=1)
        scale = 1.0 / math.sqrt(point.shape[-1])
        logits = [torch.einsum("bnxk,nsk->bnxs", point, points) * scale]
        for kind, query, turn in (("channels", channel, c_turn), ("servers", server, s_turn)):
            keys = self.keys[kind](others[kind])
            turns = _turns(rank, active, layout.max_window, keys.shape[1])
            logits.append(
                torch.einsum("bnxk,bmk->bnxm", query, keys) * scale
                + torch.einsum("bnxf,bnxmf->bnxm", turn, turns)
            )
        decisions = torch.cat([*logits, power], dim=-1)[:, :, : layout.num_decisions]
        return torch.cat([decisions.flatten(2), window.squeeze(-1)], dim=-1)


_HAS_TASKS = 7 + 6
_RANK = 7 + 7 + 64 + 7 * 8
_NUM_OF_SLOT = FEW_STEPS + 2


def _slots(number: int, like: torch.Tensor) -> torch.Tensor:
    """What tells task slots apart, ``(W_max, ...)``."""
    slot = torch.arange(number, device=like.device, dtype=like.dtype).unsqueeze(-1)
    steps = (slot - torch.arange(FEW_STEPS, device=like.device)).clamp(0.0, 1.0)
    return torch.cat([steps, slot / number, slot.log1p() / 2.0], dim=-1)


def _turns(
    rank: torch.Tensor, active: torch.Tensor, num_slots: int, number: int
) -> torch.Tensor:
    """Whose turn it is, of servers or channels, ``(B, N, W_max, number, features)``.

    They are taken in turn by the MDs in the order of their queues, or along their tasks too, or by
    as many MDs in a row each: that shares work evenly among any number of equal ones.
    """
    slot = torch.arange(num_slots, device=rank.device, dtype=rank.dtype)
    each = torch.arange(number, device=rank.device, dtype=rank.dtype)
    rank = rank.unsqueeze(-1).expand(-1, -1, num_slots)
    in_a_row = (rank * number / active.unsqueeze(-1)).floor()
    turn = torch.stack([rank, rank + slot, in_a_row], dim=-1).unsqueeze(-2)
    offset = torch.remainder(turn - each.unsqueeze(-1), number)  # (B, N, W_max, number, 3)
    angle = offset * (2.0 * math.pi / number)
    is_own = (offset == 0).to(rank.dtype)
    first = (each == 0).to(rank.dtype).expand(*rank.shape, number).unsqueeze(-1)
    return torch.cat([is_own, angle.cos(), angle.sin(), first], dim=-1)


class _Critic(nn.Module):
    """A value for each task slot, from the MDs' features, each by itself and then together."""

    def __init__(self, hidden: int, seen: SetFeatures, max_window: int):
        super().__init__()
        sizes = {kind: width for kind, (_, width) in seen.sizes.items()}
        self._seen = (seen,)  # not as a part: it is the actor's too
        self._max_window = max_window
        self.device = mlp([sizes["devices"], hidden, hidden], nn.ReLU, out_gain=None)
        self.world = mlp([2 * hidden + sizes["world"], hidden], nn.ReLU, out_gain=None)
        self.slot = nn.Linear(_NUM_OF_SLOT, hidden, bias=False)
        self.out = mlp([hidden, hidden // 2, 1], nn.ReLU, out_gain=1.0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        flat = features.reshape(-1, features.shape[-1])
        of = split(flat, self._seen[0])
        devices = self.device(of["devices"])
        pooled = torch.cat([devices.mean(1), devices.amax(1), of["world"][:, 0]], dim=-1)
        slots = self.slot(_slots(self._max_window, pooled))
        values = self.out(torch.relu(self.world(pooled).unsqueeze(1) + slots)).squeeze(-1)
        return values.unflatten(0, features.shape[:-1])
