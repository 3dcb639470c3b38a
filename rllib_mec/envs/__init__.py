"""PettingZoo environments of many mobile devices that share channels and MEC servers."""

from rllib_mec.envs import task_stream_v0, task_window_v0, time_slot_v0
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import ObservationLayout, State
from rllib_mec.envs.stream_worlds import VectorTaskStream
from rllib_mec.envs.task_stream import TaskStreamMDP
from rllib_mec.envs.task_window import TaskWindowMDP, VectorTaskWindow, as_mdp
from rllib_mec.envs.time_slot import TimeSlotMDP, VectorTimeSlot
from rllib_mec.envs.vector import VectorEnv, VectorStep

__all__ = [
    "MDP",
    "ObservationLayout",
    "State",
    "TaskStreamMDP",
    "TaskWindowMDP",
    "TimeSlotMDP",
    "VectorEnv",
    "VectorStep",
    "VectorTaskStream",
    "VectorTaskWindow",
    "VectorTimeSlot",
    "as_mdp",
    "task_stream_v0",
    "task_window_v0",
    "time_slot_v0",
]
