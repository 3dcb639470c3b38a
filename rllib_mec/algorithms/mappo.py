"""MAPPO, multi-agent PPO with parameters in common (Yu et al., NeurIPS 2022), with attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core.learner.learner import POLICY_LOSS_KEY
from ray.rllib.utils.from_config import NotProvided
from typing_extensions import Self

from rllib_mec.algorithms.columns import WINDOW_ADVANTAGES
from rllib_mec.algorithms.distributions import TASK_HEADS
from rllib_mec.algorithms.emh_ppo.set_features import SetFeatures, own_parts
from rllib_mec.algorithms.emh_ppo.set_module import SetRLModule
from rllib_mec.algorithms.joint_ppo import (
    ClippedTerm,
    JointPPO,
    JointPPOConfig,
    JointPPOTorchLearner,
)
from rllib_mec.errors import MecError
from rllib_mec.network.checks import Switch
from rllib_mec.registry import ENVIRONMENTS, algorithm_name, make_mdp


class MAPPO(JointPPO):
    """Multi-agent PPO: one actor that every MD has, with attention among them, and one critic."""

    @classmethod
    def get_default_config(cls) -> MAPPOConfig:
        """The config this algorithm is built from."""
        return MAPPOConfig()


class MAPPOConfig(JointPPOConfig):
    """Defines a configuration from which a MAPPO algorithm can be built.

    .. code-block:: python

        from rllib_mec.algorithms.mappo import MAPPOConfig

        config = MAPPOConfig().environment("mec_task_window_v0", env_config={"num_devices": 3})
        algorithm = config.build_algo()
        print(algorithm.train()["env_runners"]["reward"])
    """

    bounds: ClassVar[Mapping[str, Any]] = {**JointPPOConfig.bounds, "decision_per_task": Switch}

    def __init__(self, algo_class: type[Algorithm] | None = None):
        """Set the defaults."""
        super().__init__(algo_class=algo_class or MAPPO)
        self.decision_per_task = True

    def training(
        self,
        *,
        decision_per_task: bool = NotProvided,  # type: ignore[assignment]
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            decision_per_task: Whether an MD decides about each task of a window by itself, as
                EMH-PPO does, or once for all of them, as H-PPO and MAHPPO do. All of an MD's
                decisions about a window have one probability ratio in either case.
            **kwargs: Those of :meth:`JointPPOConfig.training`.

        Returns:
            This updated config.
        """
        super().training(**kwargs)
        self._set_provided(decision_per_task=decision_per_task)
        return self

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        if self.env not in ENVIRONMENTS:  # not set yet, or to be refused by `validate`
            return {}
        mdp = make_mdp(str(self.env), self.env_config)
        return {"mdp": mdp, "parts": own_parts(mdp)}

    def validate(self) -> None:
        """Check the configuration.

        Raises:
            MecError: As :meth:`JointPPOConfig.validate`, or the networks would not see queues as
                they are.
        """
        super().validate()
        mdp = make_mdp(str(self.env), self.env_config)
        SetFeatures(mdp, own_parts(mdp))  # says what it lacks
        if self.observation_filter != "NoFilter":
            raise MecError(
                f"observation_filter must be 'NoFilter' for {algorithm_name(self.algo_class)}, "
                f"which compares queues, but is {self.observation_filter!r}"
            )

    def joint_module_class(self) -> type[SetRLModule]:
        """MAPPO's networks."""
        return MAPPORLModule

    def get_default_learner_class(self) -> type[MAPPOTorchLearner]:
        """The learner with MAPPO's loss."""
        return MAPPOTorchLearner


class MAPPOTorchLearner(JointPPOTorchLearner):
    """An MD has one probability ratio a window, with the advantage of the team."""

    def policy_terms(
        self, log_ratio: dict[str, torch.Tensor], played: torch.Tensor, batch: dict[str, Any]
    ) -> list[ClippedTerm]:
        """A ratio for all that an MD decides about a window; see the base class."""
        tasks = torch.stack([log_ratio[head] for head in TASK_HEADS]).sum((0, -1))
        return [
            ClippedTerm(
                POLICY_LOSS_KEY,
                tasks + log_ratio["window"],
                batch[WINDOW_ADVANTAGES].unsqueeze(1),
                played[..., 0],
            )
        ]


class MAPPORLModule(SetRLModule):
    """EMH-PPO's set-structured actor, and a critic of whole windows.

    The MDs see each other by attention, then each has its own distribution from its own token.
    """

    @property
    def num_values(self) -> int:
        """One, of what all MDs show; see the base class."""
        return 1
