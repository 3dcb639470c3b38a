"""MAT, the multi-agent transformer (Wen et al., NeurIPS 2022): MDs decide one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic.dataclasses import dataclass
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core.columns import Columns
from torch import nn

from rllib_mec.algorithms.distributions import (
    HEADS,
    HybridActionDistribution,
    HybridActionLayout,
)
from rllib_mec.algorithms.emh_ppo.set_features import HAS_TASKS, RANK
from rllib_mec.algorithms.emh_ppo.set_module import SetModelConfig
from rllib_mec.algorithms.emh_ppo.set_networks import (
    NUM_OF_SLOT,
    POINTED_AT,
    Attention,
    Encoded,
    SetActor,
    Sizes,
    slot_features,
    split,
)
from rllib_mec.algorithms.mappo import MAPPO, MAPPOConfig, MAPPORLModule
from rllib_mec.algorithms.networks import mlp
from rllib_mec.network.checks import refuse_in_one_line


class MAT(MAPPO):
    """Multi-agent transformer: MAPPO whose MDs know what those before them have decided."""

    @classmethod
    def get_default_config(cls) -> MATConfig:
        """The config this algorithm is built from."""
        return MATConfig()


class MATConfig(MAPPOConfig):
    """Defines a configuration from which a MAT algorithm can be built.

    .. code-block:: python

        from rllib_mec.algorithms.mat import MATConfig

        config = MATConfig().environment("mec_task_window_v0", env_config={"num_devices": 3})
        algorithm = config.build_algo()
        print(algorithm.train()["env_runners"]["reward"])
    """

    def __init__(self, algo_class: type[Algorithm] | None = None):
        """Set the defaults."""
        super().__init__(algo_class=algo_class or MAT)

    def joint_module_class(self) -> type[MATRLModule]:
        """MAT's networks."""
        return MATRLModule


@refuse_in_one_line
@dataclass(frozen=True)
class MATModelConfig(SetModelConfig):
    """Sizes of the networks, ``num_layers`` of encoder and decoder each.

    Attributes:
        order: Who decides before whom: by ``falling_queues``, the MD with the longest first, or as
            ``listed`` in the scenario.
    """

    order: Literal["falling_queues", "listed"] = "falling_queues"


class MATActor(SetActor):
    """The encoder of :class:`SetActor`, then a decoder that sees the decisions of earlier MDs.

    A layer of the decoder is attention among the decisions made, the later to the earlier ones, and
    attention of every MD to those before it.

    Args:
        sizes: As of :class:`SetActor`.
        num_of_point: Likewise.
        width: Likewise.
        num_layers: Of encoder and decoder each.
        num_heads: Likewise.
    """

    def __init__(
        self, sizes: Sizes, num_of_point: int, width: int, num_layers: int, num_heads: int
    ):
        """Make the layers."""
        super().__init__(sizes, num_of_point, width, num_layers, num_heads)
        self.chosen = nn.ModuleDict({k: nn.Linear(width, width) for k in ("points", *POINTED_AT)})
        self.chosen_power = nn.Linear(1, width, bias=False)
        self.chosen_slot = nn.Linear(NUM_OF_SLOT, width, bias=False)
        self.decision = nn.Linear(width, width)
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.among = nn.ModuleList(Attention(width, num_heads) for _ in range(num_layers))
        self.onto = nn.ModuleList(Attention(width, num_heads) for _ in range(num_layers))

    def follow(
        self,
        encoded: Encoded,
        devices: torch.Tensor,
        turns: torch.Tensor,
        actions: Mapping[str, torch.Tensor],
        layout: HybridActionLayout,
    ) -> torch.Tensor:
        """Each MD's inputs of the distribution, given the decisions of those before it.

        Args:
            encoded: The tokens.
            devices: The MDs' features.
            turns: Each MD's place in the order, ``(B, N)``.
            actions: As of :meth:`HybridActionDistribution.sample`; an MD's own and later ones
                change nothing of what is returned for it.
            layout: Sizes of the action.

        Returns:
            ``(B, N, layout.num_inputs)``.
        """
        has_tasks = devices[..., HAS_TASKS] > 0
        decisions = self._tokens(encoded, actions, has_tasks, layout.max_window)
        decisions = torch.cat([self.start.expand(len(decisions), -1, -1), decisions], dim=1)
        made = torch.cat([turns.new_full((len(turns), 1), -1), turns], dim=1).unsqueeze(1)
        tokens = encoded.devices
        for among, onto in zip(self.among, self.onto, strict=True):
            decisions = among(decisions, may_see=made <= made.transpose(1, 2))
            tokens = onto(tokens, decisions, made < turns.unsqueeze(2))
        return self.decide(encoded._replace(devices=tokens), devices, layout)

    def _tokens(
        self,
        encoded: Encoded,
        actions: Mapping[str, torch.Tensor],
        has_tasks: torch.Tensor,
        max_window: int,
    ) -> torch.Tensor:
        """What each MD does in the window, by what it has chosen, ``(B, N, width)``."""
        points = self.chosen["points"](encoded.points)
        own = torch.arange(len(points), device=points.device).unsqueeze(-1)
        x = points[own, actions["partition"]]  # (B, N, D, width)
        for kind, head in zip(POINTED_AT, ("channel", "server"), strict=True):
            index = actions[head].flatten(1).unsqueeze(-1).expand(-1, -1, x.shape[-1])
            x = x + self.chosen[kind](encoded.pointed[kind]).gather(1, index).view_as(x)
        x = x + self.chosen_power(actions["power"].clamp(0.0, 1.0).unsqueeze(-1))
        slot = torch.arange(max_window, device=x.device)
        x = torch.relu(x + self.chosen_slot(slot_features(max_window, x)))
        played = (slot <= actions["window"].unsqueeze(-1)) & has_tasks.unsqueeze(-1)
        done = (x * played.unsqueeze(-1)).sum(2) / max_window
        return torch.relu(self.decision(done) + encoded.devices)


class MATRLModule(MAPPORLModule):
    """The encoder's tokens give values, the decoder's the decisions, one MD after the other.

    The value of a window is the mean of the MDs' values, which Wen et al. take for the advantage
    that all MDs share.
    """

    model_config_cls = MATModelConfig
    actor_cls = MATActor
    actor: MATActor

    def make_actor(self, config: SetModelConfig) -> SetActor:
        """Encoder and decoder; see the base class."""
        assert isinstance(config, MATModelConfig)
        self._by_queues = config.order == "falling_queues"
        return super().make_actor(config)

    def make_critic(self, config: SetModelConfig) -> nn.Module:
        """The value of an MD's token; see the base class."""
        layers = mlp([config.width, config.critic_hidden, 1], nn.ReLU, out_gain=1.0)
        return nn.Sequential(nn.LayerNorm(config.width), layers)

    def _encode(self, observation: torch.Tensor) -> tuple[torch.Tensor, Encoded]:
        """The MDs' features and the encoder's tokens."""
        of = split(self.features(observation), self._sizes)
        return of["devices"], self.actor.encode(of, self.seen.points)

    def _turns(self, devices: torch.Tensor) -> torch.Tensor:
        """Each MD's place in the order, ``(B, N)``."""
        number = devices.shape[1]
        if self._by_queues:
            return (devices[..., RANK] * number).round().long()
        return torch.arange(number, device=devices.device).expand(len(devices), -1)

    def _draw(
        self, batch: dict[str, Any], explore: bool, generator: torch.Generator | None = None
    ) -> dict[str, Any]:
        """Decide MD by MD.

        Each pass is over all of them, so that the last one is what the learner will do again.
        """
        layout = self.layout
        devices, encoded = self._encode(batch[Columns.OBS])
        turns = self._turns(devices)
        none = turns.new_zeros((*turns.shape, layout.num_decisions))
        actions: dict[str, torch.Tensor] = dict.fromkeys(HEADS, none)
        actions.update(window=none[..., 0], power=none.to(devices.dtype))
        inputs = None
        for turn in range(layout.num_devices):
            given = self.actor.follow(encoded, devices, turns, actions, layout)
            inputs = layout.masked(given, batch)
            dist = HybridActionDistribution(inputs, layout)
            drawn = dist.sample(generator=generator) if explore else dist.mode()
            mine = turns == turn
            actions = {
                head: torch.where(mine.view(*mine.shape, *[1] * (new.ndim - 2)), new, actions[head])
                for head, new in drawn.items()
            }
        return {Columns.ACTION_DIST_INPUTS: inputs, Columns.ACTIONS: actions}

    def _forward_exploration(
        self, batch: dict[str, Any], generator: torch.Generator | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        return self._draw(batch, explore=True, generator=generator)

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._draw(batch, explore=False)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """All MDs at once, each given the decisions that were made before it."""
        devices, encoded = self._encode(batch[Columns.OBS])
        inputs = self.actor.follow(encoded, devices, self._turns(devices), batch, self.layout)
        return {
            Columns.ACTION_DIST_INPUTS: self.layout.masked(inputs, batch),
            Columns.EMBEDDINGS: encoded.devices,  # for the critic
        }

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """The values of windows, ``(..., 1)``; see the base class.

        Args:
            batch: With ``obs``.
            embeddings: The encoder's tokens, if they have been computed already.
        """
        tokens = embeddings
        if tokens is None:
            observation = batch[Columns.OBS]
            tokens = self._encode(observation.flatten(0, -2))[1].devices
            tokens = tokens.unflatten(0, observation.shape[:-1])
        return self.critic(tokens).mean(-2)
