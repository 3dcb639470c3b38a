"""PettingZoo environments of many mobile devices that share channels and MEC servers."""

from rllib_mec.envs import task_window_v0
from rllib_mec.envs.vector import VectorStep, VectorTaskWindow

__all__ = ["VectorStep", "VectorTaskWindow", "task_window_v0"]
