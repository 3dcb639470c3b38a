"""Set-structured networks of EMH-PPO: the same weights for any number of MDs, servers, channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from pydantic import InstanceOf
from pydantic.dataclasses import dataclass
from ray.rllib.core.columns import Columns
from torch import nn
from typing_extensions import Self

from rllib_mec.algorithms.distributions import HybridActionLayout
from rllib_mec.algorithms.emh_ppo.set_features import Part, SetFeatures
from rllib_mec.algorithms.emh_ppo.set_networks import SetActor, SetCritic, Sizes, split
from rllib_mec.algorithms.joint_ppo.rl_module import JointRLModule, ModelConfig
from rllib_mec.envs import laws
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import state_space
from rllib_mec.errors import MecError
from rllib_mec.network.checks import Count, refuse_in_one_line


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


class _Place(NamedTuple):
    """An MDP to decide in, and what follows from it."""

    mdp: MDP
    seen: SetFeatures
    layout: HybridActionLayout


class SetRLModule(JointRLModule):
    """The actor-critic of EMH-PPO as functions of sets.

    Attention runs among the MDs; each has the same heads, which point at its DNN's partition
    points, at servers and at channels. No weight has a size that depends on how many there are of
    anything.
    """

    carries_over = True
    model_config_cls: type[SetModelConfig] = SetModelConfig
    actor_cls: type[SetActor] = SetActor

    def setup(self) -> None:
        """Build the networks for an MDP."""
        config = self.model_config_cls.from_dict(self.model_config)
        assert config.mdp is not None  # by the algorithm's config
        size = laws.size_of(config.mdp)
        if self.observation_space.shape != (size,):  # type: ignore[union-attr]
            raise MecError(
                f"model 'set' in model_config takes the MDP's observation of {size} numbers as it "
                f"is, but connectors make {self.observation_space.shape} of it"  # type: ignore[union-attr]
            )
        self._parts = {name: Part(*part) for name, part in (config.parts or {}).items()}
        own = HybridActionLayout.from_space(self.action_space)  # type: ignore[arg-type]
        self._per_task = own.num_decisions == own.max_window
        self._places: list[_Place] = []
        self.bind(config.mdp)
        self.actor = self.make_actor(config)
        self.critic = self.make_critic(config)

    def make_actor(self, config: SetModelConfig) -> SetActor:
        """The actor.

        Args:
            config: Sizes of the networks.
        """
        num_of_point = self.seen.points.shape[-1]
        return self.actor_cls(
            self._sizes, num_of_point, config.width, config.num_layers, config.num_heads
        )

    def make_critic(self, config: SetModelConfig) -> nn.Module:
        """The critic, of task slots.

        Args:
            config: Sizes of the networks.
        """
        return SetCritic(self._sizes, config.critic_hidden)

    @property
    def layout(self) -> HybridActionLayout:
        """Sizes of the joint action where it decides; see the base class."""
        return self._layout

    @property
    def num_values(self) -> int:
        """Values of the critic: of each task slot, or 1 of whole windows."""
        return self.layout.max_window

    @property
    def _sizes(self) -> Sizes:
        """Of the features where it decides."""
        return self.seen.sizes

    def bind(self, mdp: MDP) -> None:
        """Decide in another MDP from now on, by the same weights.

        Args:
            mdp: The MDP; what is known of it is kept for the next time.

        Raises:
            MecError: It shows what the networks have no inputs for.
        """
        place = next((place for place in self._places if place.mdp == mdp), None)
        if place is None:
            seen = SetFeatures(mdp, self._parts)
            place = _Place(mdp, seen, HybridActionLayout.of(mdp, per_task=self._per_task))
            self._places.append(place)
        device = next((parameter.device for parameter in self.parameters()), None)
        self.seen, self._layout = place.seen.to(device), place.layout

    def features(self, observation: torch.Tensor) -> torch.Tensor:
        """Features of devices, servers, channels and world, flat; see the base class."""
        return self.seen(observation)

    def actor_outputs(self, features: torch.Tensor) -> torch.Tensor:
        """Map features of B worlds to the distribution's inputs; see the base class."""
        return self.actor(split(features, self._sizes), self.seen.points, self.layout)

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """A value per task slot; see the base class."""
        features = self.features(batch[Columns.OBS]) if embeddings is None else embeddings
        return self.critic(features, self._sizes, self.num_values)

    def on(self, mdp: MDP) -> Self:
        """These networks, with the same weights, where another MDP is to be decided in.

        Args:
            mdp: The MDP.

        Raises:
            MecError: It shows what the networks have no inputs for.
        """
        layout = HybridActionLayout.of(mdp, per_task=self._per_task)
        module = type(self)(
            observation_space=state_space(laws.size_of(mdp)),
            action_space=layout.joint_space(),
            model_config={**self.model_config, "mdp": mdp},
        )
        module.set_state(self.get_state())
        return module
