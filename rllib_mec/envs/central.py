"""One agent that decides for all mobile devices: the environments as Gymnasium's.

``import rllib_mec`` registers each environment ``mec_..._v0`` in Gymnasium::

    env = gymnasium.make("rllib_mec/TaskWindow-v0", num_devices=3)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from rllib_mec.envs.parallel import MecParallelEnv
from rllib_mec.errors import MecError
from rllib_mec.registry import ENVIRONMENTS


class CentralEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A PettingZoo environment of ours with all its agents as one.

    It observes the global state S_k of Eq. (6), ``Box(0, inf, (2N,), float32)`` (or more, see the
    MDP), acts by the rows of all MDs one after the other, as
    :mod:`rllib_mec.envs.action_views` has them, and gets the reward that all agents share. What it
    decides for MDs that are not there is not played.

    Infos have ``latency_ms``, ``energy_j`` (of all MDs) and ``waiting_ms`` of the step,
    ``window_size``, ``(N,)``, and, for flat actions, ``action_mask``, as
    ``action_space.sample(mask=...)`` takes it.

    Args:
        env: A name of :data:`~rllib_mec.registry.ENVIRONMENTS`, or a class path.
        actions: ``"flat"``, a ``MultiDiscrete``, or ``"continuous"``, a ``Box(0, 1)``.
        **arguments: Of the environment.

    Raises:
        MecError: An argument is unknown or bad.
    """

    metadata: ClassVar[dict[str, Any]] = MecParallelEnv.metadata

    def __init__(self, env: str = "mec_task_window_v0", *, actions: str = "flat", **arguments: Any):
        """Make the environment and its spaces."""
        if actions == "dict":
            raise MecError(
                "actions must be 'flat' or 'continuous' where one agent decides for all, but is "
                "'dict'"
            )
        if arguments.get("observe_mask"):
            raise MecError(
                "observe_mask is for agents that decide for themselves: here masks are in "
                "info['action_mask'], and action_masks() has them in a row"
            )
        self.par_env = ENVIRONMENTS.load(env)(actions=actions, **arguments)
        self.render_mode = self.par_env.render_mode
        self.observation_space = self.par_env.state_space
        own = self.par_env.view.make_space()
        num_devices = len(self.par_env.possible_agents)
        if isinstance(own, spaces.MultiDiscrete):
            self.action_space = spaces.MultiDiscrete(np.tile(own.nvec, num_devices))
        else:
            self.action_space = spaces.Box(0.0, 1.0, (num_devices * own.shape[0],), np.float32)
        self._masks: tuple[np.ndarray, ...] = ()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; see :meth:`MecParallelEnv.reset`.

        Args:
            seed: Of this and the following episodes.
            options: ``num_tasks`` and ``distance_m``.

        Returns:
            The state, and a mask.
        """
        super().reset(seed=seed)
        _, infos = self.par_env.reset(seed=seed, options=options)
        return self.par_env.state(), self._masked(infos)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play one step.

        Args:
            action: Of all MDs, in a row.

        Returns:
            State, reward, whether the episode terminated, whether it was truncated, and infos.

        Raises:
            MecError: The action is not in the space, or no episode is running.
        """
        agents, row = self.par_env.possible_agents, np.asarray(action)
        if row.shape != self.action_space.shape:
            raise MecError(
                f"the action must have shape {self.action_space.shape}, the rows of {len(agents)} "
                f"MDs one after the other, but has {row.shape}"
            )
        rows = dict(zip(agents, row.reshape(len(agents), -1), strict=True))
        acting = self.par_env.agents
        _, rewards, _, truncations, infos = self.par_env.step({a: rows[a] for a in acting})
        shared = dict(infos[acting[0]])
        sizes = [infos[agent]["window_size"] if agent in infos else 0 for agent in agents]
        truncated = any(truncations.values())
        terminated = not self.par_env.agents and not truncated
        info = {**shared, "window_size": np.array(sizes), **self._masked(infos)}
        return self.par_env.state(), rewards[acting[0]], terminated, truncated, info

    def action_masks(self) -> np.ndarray:
        """Which choices make sense, of all columns in a row, as sb3-contrib's algorithms ask.

        Returns:
            ``(sum of the columns' choices,)`` bool.

        Raises:
            MecError: Actions are continuous, or no episode has begun.
        """
        if not self._masks:
            raise MecError("there are masks of flat actions alone, after reset()")
        return np.concatenate(self._masks).astype(bool)

    def render(self) -> Any:
        """The last step as a Gantt chart; see :meth:`MecParallelEnv.render`."""
        return self.par_env.render()

    def close(self) -> None:
        """Close the environment."""
        self.par_env.close()

    def _masked(self, infos: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The masks of all MDs one after the other; of those that are not there, anything goes."""
        if not isinstance(self.action_space, spaces.MultiDiscrete):
            return {}
        nvec = self.par_env.view.make_space().nvec
        anything = tuple(np.ones(choices, dtype=np.int8) for choices in nvec)
        each = [
            infos[agent]["action_mask"] if agent in infos else anything
            for agent in self.par_env.possible_agents
        ]
        self._masks = tuple(column for own in each for column in own)
        return {"action_mask": self._masks}
