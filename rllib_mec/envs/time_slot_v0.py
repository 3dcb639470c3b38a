"""The time-slot environment under its versioned name, as PettingZoo names its modules."""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from rllib_mec.envs.time_slot import TimeSlotEnv

__all__ = ["env", "parallel_env", "raw_env"]


def parallel_env(**kwargs: Any) -> TimeSlotEnv:
    """Make the environment with PettingZoo's parallel API; see :class:`TimeSlotEnv`."""
    return TimeSlotEnv(**kwargs)


def raw_env(**kwargs: Any) -> AECEnv:
    """Make the environment with PettingZoo's agent-environment-cycle API."""
    return parallel_to_aec(TimeSlotEnv(**kwargs))


env = raw_env  # the conversion already enforces the order of calls
