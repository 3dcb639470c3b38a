"""AgileNN, split features on both sides (Huang and Gao, MobiCom 2022): a baseline of Section V."""

from __future__ import annotations

from ray.rllib.algorithms.algorithm import Algorithm

from rllib_mec.algorithms.emh_ppo.algorithm import EMHPPO, EMHPPOConfig
from rllib_mec.errors import MecError
from rllib_mec.registry import make_mdp


class AgileNN(EMHPPO):
    """Side-by-side inference whose decisions EMH-PPO learns.

    Half of the features at the cut go to a server, the MD works on the other half, both with the
    same network, and a task ends when both are done. What is left to decide (cut, channel, server,
    power, window) is learned as EMH-PPO learns it, so that the two differ in the inference alone.
    """

    @classmethod
    def get_default_config(cls) -> AgileNNConfig:
        """The config this algorithm is built from."""
        return AgileNNConfig()


class AgileNNConfig(EMHPPOConfig):
    """Defines a configuration from which an AgileNN algorithm can be built.

    It is EMH-PPO's with ``remote_feature_share`` 0.5 in ``env_config``, where another share may be
    given.

    .. code-block:: python

        from rllib_mec.algorithms.agile_nn import AgileNNConfig

        config = AgileNNConfig().environment("mec_task_window_v0", env_config={"num_devices": 3})
        algorithm = config.build_algo()
        print(algorithm.train()["env_runners"]["reward"])
    """

    def __init__(self, algo_class: type[Algorithm] | None = None):
        """Set the defaults."""
        super().__init__(algo_class=algo_class or AgileNN)
        self.env_config = {"remote_feature_share": 0.5}

    def validate(self) -> None:
        """Check the configuration.

        Raises:
            MecError: As :meth:`~rllib_mec.algorithms.joint_ppo.JointPPOConfig.validate`, or the
                server gets all features.
        """
        super().validate()
        share = make_mdp(str(self.env), self.env_config).scenario.remote_feature_share
        if share >= 1.0:
            raise MecError(f"AgileNN needs a remote_feature_share below 1, but it is {share:g}")
