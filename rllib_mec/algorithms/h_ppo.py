"""H-PPO, hybrid PPO of a single agent (Fan et al., IJCAI 2019): a baseline of Section V."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic.dataclasses import dataclass
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core.learner.learner import POLICY_LOSS_KEY
from ray.rllib.utils.from_config import NotProvided
from torch import nn
from typing_extensions import Self

from rllib_mec.algorithms.columns import WINDOW_ADVANTAGES
from rllib_mec.algorithms.joint_ppo import (
    ClippedTerm,
    JointPPO,
    JointPPOConfig,
    JointPPOTorchLearner,
    JointRLModule,
    ModelConfig,
)
from rllib_mec.algorithms.networks import HEADS_GAIN, Layers, mlp, start_log_std
from rllib_mec.network.checks import Switch, refuse_in_one_line

DISCRETE_HEADS = ("partition", "channel", "server", "window")
POWER_LOSS = "power_loss"


class HPPO(JointPPO):
    """Hybrid PPO: one actor for all MDs, who are one agent to it."""

    @classmethod
    def get_default_config(cls) -> HPPOConfig:
        """The config this algorithm is built from."""
        return HPPOConfig()


class HPPOConfig(JointPPOConfig):
    """Defines a configuration from which an H-PPO algorithm can be built.

    .. code-block:: python

        from rllib_mec.algorithms.h_ppo import HPPOConfig

        config = HPPOConfig().environment("mec_task_window_v0", env_config={"num_devices": 3})
        algorithm = config.build_algo()
        print(algorithm.train()["env_runners"]["reward"])
    """

    bounds: ClassVar[Mapping[str, Any]] = {**JointPPOConfig.bounds, "separate_ratios": Switch}

    def __init__(self, algo_class: type[Algorithm] | None = None):
        """Set the defaults."""
        super().__init__(algo_class=algo_class or HPPO)
        self.separate_ratios = False

    def training(
        self,
        *,
        separate_ratios: bool = NotProvided,  # type: ignore[assignment]
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            separate_ratios: Whether the discrete decisions and the powers have a probability ratio
                each, clipped by itself, as in Fan et al.; else one ratio for the joint action.
            **kwargs: Those of :meth:`JointPPOConfig.training`.

        Returns:
            This updated config.
        """
        super().training(**kwargs)
        self._set_provided(separate_ratios=separate_ratios)
        return self

    def joint_module_class(self) -> type[HPPORLModule]:
        """H-PPO's networks."""
        return HPPORLModule

    def get_default_learner_class(self) -> type[HPPOTorchLearner]:
        """The learner with H-PPO's loss."""
        return HPPOTorchLearner


class HPPOTorchLearner(JointPPOTorchLearner):
    """A window has one probability ratio, that of the joint action of all MDs."""

    def policy_terms(
        self, log_ratio: dict[str, torch.Tensor], played: torch.Tensor, batch: dict[str, Any]
    ) -> list[ClippedTerm]:
        """The joint action's ratio with the window's advantage, or two of them.

        See the base class.
        """
        advantages = batch[WINDOW_ADVANTAGES]
        joint = {head: value.flatten(1).sum(1) for head, value in log_ratio.items()}
        discrete = torch.stack([joint[head] for head in DISCRETE_HEADS]).sum(0)
        everything = torch.ones_like(discrete)
        if self.config.separate_ratios:
            return [
                ClippedTerm(POLICY_LOSS_KEY, discrete, advantages, everything),
                ClippedTerm(POWER_LOSS, joint["power"], advantages, everything),
            ]
        return [ClippedTerm(POLICY_LOSS_KEY, discrete + joint["power"], advantages, everything)]


@refuse_in_one_line
@dataclass(frozen=True)
class HPPOModelConfig(ModelConfig):
    """Sizes of the networks: as many layers and units as EMH-PPO has for one MD.

    Attributes:
        actor_hiddens: ReLU layers of the actor.
        critic_hiddens: ReLU layers of the critic.
    """

    actor_hiddens: Layers = (512, 256, 256, 128, 64)
    critic_hiddens: Layers = (256, 128, 64)


class HPPORLModule(JointRLModule):
    """One hybrid actor for the joint action, and a critic of whole windows."""

    model_config_cls = HPPOModelConfig

    def setup(self) -> None:
        """Build the networks from the spaces and the model config."""
        config = HPPOModelConfig.from_dict(self.model_config)
        layout = self.layout
        num_inputs = self.observation_space.shape[0]  # type: ignore[union-attr,index]
        num_outputs = layout.num_devices * layout.num_inputs

        self.actor = mlp([num_inputs, *config.actor_hiddens, num_outputs], nn.ReLU, HEADS_GAIN)
        heads: Any = self.actor[-1]
        start_log_std(heads.bias.view(layout.num_devices, -1), layout)
        self.critic = mlp([num_inputs, *config.critic_hiddens, 1], nn.ReLU, out_gain=1.0)

    def actor_outputs(self, features: torch.Tensor) -> torch.Tensor:
        """Map observations ``(B, 2N)`` to the distribution's inputs; see the base class."""
        return self.actor(features).unflatten(-1, (-1, self.layout.num_inputs))
