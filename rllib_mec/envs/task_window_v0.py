"""The task-window environment under its versioned name, as PettingZoo names its modules."""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from rllib_mec.envs.task_window import TaskWindowEnv

__all__ = ["env", "parallel_env", "raw_env"]


def parallel_env(**kwargs: Any) -> TaskWindowEnv:
    """Make the environment with PettingZoo's parallel API; see :class:`TaskWindowEnv`."""
    return TaskWindowEnv(**kwargs)


def raw_env(**kwargs: Any) -> AECEnv:
    """Make the environment with PettingZoo's agent-environment-cycle API."""
    return parallel_to_aec(TaskWindowEnv(**kwargs))


env = raw_env  # the conversion already enforces the order of calls
