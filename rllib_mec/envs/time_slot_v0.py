"""The time-slot environment under its versioned name, as PettingZoo names its modules."""

from rllib_mec.envs.parallel import aec_constructor
from rllib_mec.envs.time_slot import TimeSlotEnv

__all__ = ["env", "parallel_env", "raw_env"]

parallel_env = TimeSlotEnv
raw_env = aec_constructor(TimeSlotEnv)
env = raw_env
