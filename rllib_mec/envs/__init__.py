"""PettingZoo environments of many mobile devices that share channels and MEC servers."""

from rllib_mec.envs import task_window_v0, time_slot_v0
from rllib_mec.envs.mdp import MDP, TaskWindowMDP, TimeSlotMDP
from rllib_mec.envs.vector import VectorStep, Worlds
from rllib_mec.envs.vector_slots import VectorTimeSlot
from rllib_mec.envs.vector_windows import VectorTaskWindow

__all__ = [
    "MDP",
    "TaskWindowMDP",
    "TimeSlotMDP",
    "VectorStep",
    "VectorTaskWindow",
    "VectorTimeSlot",
    "Worlds",
    "task_window_v0",
    "time_slot_v0",
]
