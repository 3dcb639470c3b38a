"""EMH-PPO as an RLlib algorithm (Algorithm 2)."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.from_config import NotProvided
from typing_extensions import Self

from rllib_mec.algorithms.emh_ppo.learner import EMHPPOTorchLearner
from rllib_mec.algorithms.emh_ppo.rl_module import EMHPPORLModule
from rllib_mec.algorithms.joint_ppo.algorithm import JointPPO, JointPPOConfig


class EMHPPOConfig(JointPPOConfig):
    """Defines a configuration from which an EMH-PPO algorithm can be built.

    .. code-block:: python

        from rllib_mec.algorithms.emh_ppo import EMHPPOConfig

        config = (
            EMHPPOConfig()
            .environment("mec_task_window_v0", env_config={"num_devices": 3})
            .training(lr=3e-4, entropy_coeff=0.02)
        )
        algorithm = config.build_algo()
        print(algorithm.train()["env_runners"]["reward"])
    """

    def __init__(self, algo_class: type[Algorithm] | None = None):
        """Set the defaults."""
        super().__init__(algo_class=algo_class or EMHPPO)
        self.decision_per_task = True
        self.per_task_advantages = True

    def training(
        self,
        *,
        per_task_advantages: bool = NotProvided,  # type: ignore[assignment]
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            per_task_advantages: Whether a task slot's decision is credited with its own slot's
                advantage (the paper's per-task critic) or with the sum over the window's slots.
            **kwargs: Those of :meth:`JointPPOConfig.training`.

        Returns:
            This updated config.
        """
        super().training(**kwargs)
        self._set_provided(per_task_advantages=per_task_advantages)
        return self

    def joint_module_class(self) -> type[EMHPPORLModule]:
        """EMH-PPO's networks."""
        return EMHPPORLModule

    def get_default_learner_class(self) -> type[EMHPPOTorchLearner]:
        """The learner with EMH-PPO's loss."""
        return EMHPPOTorchLearner


class EMHPPO(JointPPO):
    """Embedded multi-agent hybrid PPO."""

    @classmethod
    def get_default_config(cls) -> EMHPPOConfig:
        """The config this algorithm is built from."""
        return EMHPPOConfig()
