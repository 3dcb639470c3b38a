"""The interface of a joint actor-critic: one module that decides for all MDs."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import nn
from typing_extensions import Self

from rllib_mec.algorithms.distributions import HybridActionLayout, hybrid_distribution_cls
from rllib_mec.errors import MecError, unknown


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of a module's networks; each algorithm has a subclass with its fields."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make the config from RLlib's ``model_config``.

        Args:
            values: Its keys are the fields; what is missing keeps its default.

        Raises:
            MecError: A key is unknown, or a value is bad.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise unknown("model_config key", key, names)
        try:
            return cls(**values)
        except MecError as error:
            raise MecError(f"model_config: {error}") from None


class JointRLModule(TorchRLModule, ValueFunctionAPI):
    """An actor-critic for all MDs at once.

    Input is ``obs`` ``(B, 2N)``, the global state (X_n/λ of all MDs, then d_n/d_max of all MDs),
    and masks of choices that may not be taken, where there are some
    (:func:`rllib_mec.envs.laws.mask_columns`).
    The forward methods return ``action_dist_inputs`` ``(B, N, layout.num_inputs)``, from which
    :class:`~rllib_mec.algorithms.distributions.HybridActionDistribution` makes actions;
    :meth:`compute_values` returns ``(B, W_max)``, or ``(B, 1)`` of a critic of whole windows.
    A module whose MDs decide one after the other draws by itself: its exploration and inference
    return ``actions`` too, drawn with the keyword ``generator``, and its ``action_dist_inputs`` are
    those given the actions before.

    A subclass builds :attr:`critic` in ``setup`` and implements :meth:`actor_outputs`.

    Attributes:
        decides_for_all: Class attribute, by which a checkpoint's reader tells this kind of module.
        carries_over: Class attribute, whether its weights fit any MDP, whatever its shape. Then it
            has a method ``bind``, after which it decides in another one, and ``on``, which gives
            a copy that does.
    """

    decides_for_all: ClassVar[bool] = True
    carries_over: ClassVar[bool] = False
    model_config_cls: type[ModelConfig]
    critic: nn.Module

    @property
    def layout(self) -> HybridActionLayout:
        """Sizes of the joint action."""
        return HybridActionLayout.from_space(self.action_space)  # type: ignore[arg-type]

    @abc.abstractmethod
    def actor_outputs(self, features: torch.Tensor) -> torch.Tensor:
        """Map features of B worlds to the distribution's inputs.

        Args:
            features: As of :meth:`features`, ``(B, F)``.
        """

    def features(self, observation: torch.Tensor) -> torch.Tensor:
        """What actor and critic see; the observation itself unless a subclass adds to it.

        Args:
            observation: ``(..., 2N)``.

        Returns:
            ``(..., F)``.
        """
        return observation

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        inputs = self.actor_outputs(self.features(batch[Columns.OBS]))
        return {Columns.ACTION_DIST_INPUTS: self.layout.masked(inputs, batch)}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        features = self.features(batch[Columns.OBS])
        return {
            Columns.ACTION_DIST_INPUTS: self.layout.masked(self.actor_outputs(features), batch),
            Columns.EMBEDDINGS: features,  # for the critic
        }

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """The critic's values, V_ω(S_k) of Section IV-C.

        Args:
            batch: With ``obs`` ``(..., 2N)``.
            embeddings: The :meth:`features`, if they have been computed already. The critic shares
                no parameter with the actor.

        Returns:
            ``(..., W_max)``, one per task slot; ``(..., 1)`` of a critic of whole windows.
        """
        return self.critic(self.features(batch[Columns.OBS]) if embeddings is None else embeddings)

    def get_train_action_dist_cls(self) -> type:
        """The hybrid distribution bound to this module's sizes."""
        return hybrid_distribution_cls(self.layout)

    get_exploration_action_dist_cls = get_train_action_dist_cls
    get_inference_action_dist_cls = get_train_action_dist_cls
