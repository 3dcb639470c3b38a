"""EMH-PPO, the embedded multi-agent hybrid PPO of the paper (Sections IV-C and IV-D)."""

from rllib_mec.algorithms.emh_ppo.algorithm import EMHPPO, EMHPPOConfig
from rllib_mec.algorithms.emh_ppo.learner import EMHPPOTorchLearner
from rllib_mec.algorithms.emh_ppo.rl_module import EMHPPOModelConfig, EMHPPORLModule
from rllib_mec.algorithms.emh_ppo.set_module import SetModelConfig, SetRLModule

__all__ = [
    "EMHPPO",
    "EMHPPOConfig",
    "EMHPPOModelConfig",
    "EMHPPORLModule",
    "EMHPPOTorchLearner",
    "SetModelConfig",
    "SetRLModule",
]
