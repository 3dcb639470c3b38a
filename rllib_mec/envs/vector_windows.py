"""A batch of task-window worlds, stepped by compiled calls."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rllib_mec.envs.vector import Actions, VectorStep, Worlds
from rllib_mec.envs.windows import play_windows
from rllib_mec.network.checks import whole_number

__all__ = ["VectorStep", "VectorTaskWindow"]


class VectorTaskWindow(Worlds):
    """B worlds of the task-aware MDP (Section IV-A): a step is a task window.

    See :class:`~rllib_mec.envs.vector.Worlds` for the arguments.
    """

    def simulate(
        self, actions: Mapping[str, np.ndarray], *, shadowing_sample: int = 0
    ) -> VectorStep:
        """What :meth:`step` would give in the current window, without playing it.

        Args:
            actions: As in :meth:`step`.
            shadowing_sample: 0 for the shadowing that the window really has, any other number for
                an independent draw of it, the same whenever it is asked for.

        Returns:
            The step; its ``observation`` is the present one, and ``terminated`` says where it
            would end the episode.

        Raises:
            MecError: As :meth:`step`, or the sample is negative.
        """
        shadowing_sample = whole_number("shadowing_sample", shadowing_sample, least=0)
        step = self._play(self._checked(actions), shadowing_sample)
        return step._replace(
            observation=self.observation(),
            terminated=step.window_size.sum(1) == self._queues.sum(1),
        )

    def _play(self, actions: Actions, shadowing_sample: int = 0) -> VectorStep:
        step = self._empty_step(self.max_window)
        play_windows(
            self._seeds, self._counters, self._queues, self._distances, actions, self._physics,
            shadowing_sample, step,
        )  # fmt: skip
        return step
