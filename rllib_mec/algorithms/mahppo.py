"""MAHPPO, multi-agent hybrid PPO (Hao et al., IEEE TMC 2023): a baseline of Section V."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core.learner.learner import POLICY_LOSS_KEY
from ray.rllib.utils.from_config import NotProvided
from torch import nn
from typing_extensions import Self

from rllib_mec.algorithms.columns import WINDOW_ADVANTAGES
from rllib_mec.algorithms.distributions import HEADS, TASK_HEADS
from rllib_mec.algorithms.gae import per_task_gae
from rllib_mec.algorithms.joint_ppo import (
    ClippedTerm,
    JointPPO,
    JointPPOConfig,
    JointPPOTorchLearner,
    JointRLModule,
    ModelConfig,
)
from rllib_mec.algorithms.joint_ppo.connectors import PerTaskAdvantages
from rllib_mec.algorithms.networks import Layers, agent_heads, agent_layers, mlp
from rllib_mec.errors import MecError
from rllib_mec.network.checks import Switch, refuse_in_one_line


class MAHPPO(JointPPO):
    """Multi-agent hybrid PPO: an actor per MD, and a critic in common."""

    @classmethod
    def get_default_config(cls) -> MAHPPOConfig:
        """The config this algorithm is built from."""
        return MAHPPOConfig()


class MAHPPOConfig(JointPPOConfig):
    """Defines a configuration from which an MAHPPO algorithm can be built.

    .. code-block:: python

        from rllib_mec.algorithms.mahppo import MAHPPOConfig

        config = MAHPPOConfig().environment("mec_task_window_v0", env_config={"num_devices": 3})
        algorithm = config.build_algo()
        print(algorithm.train()["env_runners"]["reward"])

    Four switches, off by default, do as the authors' public code (github.com/Hao840/MAHPPO) does
    where it departs from textbook PPO. What else it has of its own are ordinary settings:
    ``num_epochs=20, train_batch_size_per_learner=1024, minibatch_size=256, entropy_coeff=0.001,
    lr=1e-4, grad_clip=None``, ``power_scale: linear`` in ``env_config``, and an evaluation that
    draws actions (``evaluation_config={"explore": True}``).
    """

    bounds: ClassVar[Mapping[str, Any]] = {
        **JointPPOConfig.bounds,
        "ratio_per_head": Switch,
        "gae_without_gamma": Switch,
        "one_step_targets": Switch,
        "cut_ends_episode": Switch,
    }

    def __init__(self, algo_class: type[Algorithm] | None = None):
        """Set the defaults."""
        super().__init__(algo_class=algo_class or MAHPPO)
        self.ratio_per_head = False
        self.gae_without_gamma = False
        self.one_step_targets = False
        self.cut_ends_episode = False

    def training(
        self,
        *,
        ratio_per_head: bool = NotProvided,  # type: ignore[assignment]
        gae_without_gamma: bool = NotProvided,  # type: ignore[assignment]
        one_step_targets: bool = NotProvided,  # type: ignore[assignment]
        cut_ends_episode: bool = NotProvided,  # type: ignore[assignment]
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            ratio_per_head: Whether each head of an MD has a probability ratio of its own, clipped
                by itself; else an MD's decisions have one ratio.
            gae_without_gamma: Whether advantages decay by λ alone from window to window, instead of
                by γλ (Eq. 18).
            one_step_targets: Whether the critic learns r + γ·V of the next state, instead of the
                λ-return.
            cut_ends_episode: Whether a batch's last window counts as its episode's last, with
                nothing to come.
            **kwargs: Those of :meth:`JointPPOConfig.training`.

        Returns:
            This updated config.
        """
        super().training(**kwargs)
        self._set_provided(
            ratio_per_head=ratio_per_head,
            gae_without_gamma=gae_without_gamma,
            one_step_targets=one_step_targets,
            cut_ends_episode=cut_ends_episode,
        )
        return self

    def validate(self) -> None:
        """Check the configuration; see the base class."""
        super().validate()
        if self.gae_without_gamma and not self.gamma:
            raise MecError("gae_without_gamma needs a gamma above 0, but it is 0: leave it false")

    def advantages_class(self) -> type[MAHPPOAdvantages]:
        """How advantages are estimated."""
        return MAHPPOAdvantages

    def joint_module_class(self) -> type[MAHPPORLModule]:
        """MAHPPO's networks."""
        return MAHPPORLModule

    def get_default_learner_class(self) -> type[MAHPPOTorchLearner]:
        """The learner with MAHPPO's loss."""
        return MAHPPOTorchLearner


class MAHPPOAdvantages(PerTaskAdvantages):
    """Estimates advantages as the config's switches say."""

    def estimate(
        self, rewards: np.ndarray, values: np.ndarray, terminated: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Advantages and value targets, both ``(T, F, 1)``; see the base class.

        Args:
            rewards: ``(T, F, 1)``.
            values: ``(T + 1, F, 1)``.
            terminated: ``(T, F)``.
        """
        config = self.config
        if config.cut_ends_episode:
            values = np.concatenate([values[:-1], np.zeros_like(values[-1:])])
        # With λ/γ in place of λ, the product of both is λ.
        decay = self.lambda_ / config.gamma if config.gae_without_gamma else self.lambda_
        advantages, targets = per_task_gae(rewards, values, terminated, config.gamma, decay)
        if config.one_step_targets:
            _, targets = per_task_gae(rewards, values, terminated, config.gamma, lambda_=0.0)
        return advantages, targets


class MAHPPOTorchLearner(JointPPOTorchLearner):
    """An MD has one probability ratio a window, with the advantage that all MDs share."""

    def policy_terms(
        self, log_ratio: dict[str, torch.Tensor], played: torch.Tensor, batch: dict[str, Any]
    ) -> list[ClippedTerm]:
        """A ratio for each MD, or for each head of each MD; see the base class."""
        heads = torch.stack(
            [*(log_ratio[head].squeeze(-1) for head in TASK_HEADS), log_ratio["window"]], dim=-1
        )
        advantages = batch[WINDOW_ADVANTAGES].unsqueeze(1)
        if self.config.ratio_per_head:
            mask = played.expand(-1, -1, len(HEADS))
            return [ClippedTerm(POLICY_LOSS_KEY, heads, advantages.unsqueeze(2), mask)]
        return [ClippedTerm(POLICY_LOSS_KEY, heads.sum(-1), advantages, played.squeeze(-1))]


@refuse_in_one_line
@dataclass(frozen=True)
class MAHPPOModelConfig(ModelConfig):
    """Sizes of the networks, those of Hao et al.

    Attributes:
        agent_hiddens: ReLU layers of each MD's actor.
        critic_hiddens: ReLU layers of the critic.
    """

    agent_hiddens: Layers = (256, 128, 64)
    critic_hiddens: Layers = (256, 128, 64)


class MAHPPORLModule(JointRLModule):
    """An actor per MD that reads the global state by itself, and one critic of whole windows."""

    model_config_cls = MAHPPOModelConfig

    def setup(self) -> None:
        """Build the networks from the spaces and the model config."""
        config = MAHPPOModelConfig.from_dict(self.model_config)
        layout = self.layout
        num_inputs = self.observation_space.shape[0]  # type: ignore[union-attr,index]
        sizes = [num_inputs, *config.agent_hiddens]

        self.agent_layers = agent_layers(layout.num_devices, sizes)
        self.agent_heads = agent_heads(sizes[-1], layout)
        self.critic = mlp([num_inputs, *config.critic_hiddens, 1], nn.ReLU, out_gain=1.0)

    def actor_outputs(self, features: torch.Tensor) -> torch.Tensor:
        """Map observations ``(B, 2N)`` to the distribution's inputs; see the base class."""
        x = features.expand(len(self.agent_heads.weight), -1, -1)
        for layer in self.agent_layers:
            x = torch.relu(layer(x))
        return self.agent_heads(x).transpose(0, 1)
