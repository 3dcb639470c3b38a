"""PPO with one joint module for all MDs: what EMH-PPO and its baselines share."""

from rllib_mec.algorithms.joint_ppo.algorithm import JointPPO, JointPPOConfig
from rllib_mec.algorithms.joint_ppo.learner import ClippedTerm, JointPPOTorchLearner
from rllib_mec.algorithms.joint_ppo.rl_module import JointRLModule, ModelConfig

__all__ = [
    "ClippedTerm",
    "JointPPO",
    "JointPPOConfig",
    "JointPPOTorchLearner",
    "JointRLModule",
    "ModelConfig",
]
