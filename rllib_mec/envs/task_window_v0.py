"""The task-window environment under its versioned name, as PettingZoo names its modules."""

from rllib_mec.envs.parallel import aec_constructor
from rllib_mec.envs.task_window import TaskWindowEnv

__all__ = ["env", "parallel_env", "raw_env"]

parallel_env = TaskWindowEnv
raw_env = aec_constructor(TaskWindowEnv)
env = raw_env
