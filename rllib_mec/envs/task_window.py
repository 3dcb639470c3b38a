"""The task-aware MDP of Section IV-A, and batches of its worlds: a step is a task window."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from rllib_mec.envs import reward
from rllib_mec.envs.actions import Actions, power_w
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.vector import VectorEnv, VectorStep
from rllib_mec.network.checks import whole_number
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.threads import worlds_of
from rllib_mec.network.windows import WindowOutcome, play_windows


class VectorTaskWindow(VectorEnv):
    """B worlds of the task-aware MDP: a step is a task window.

    See :class:`~rllib_mec.envs.vector.VectorEnv` for the arguments.
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
        sizes = np.minimum(np.minimum(actions.window + 1, self._max_windows), self._queues)
        outcome = WindowOutcome.of(sizes, self.max_window, self.num_points)
        power, gain = power_w(actions.power, self.scenario), self._gains(shadowing_sample)

        def play(worlds: slice) -> None:
            play_windows(
                actions.partition[worlds], actions.channel[worlds], actions.server[worlds],
                power[worlds], gain[worlds], self._physics, worlds_of(outcome, worlds),
            )  # fmt: skip

        self._in_threads(play)
        played = np.arange(self.max_window) < sizes[..., None]
        return self._judged(outcome, played, outcome.waiting_ms)


@dataclasses.dataclass(frozen=True)
class TaskWindowMDP(MDP):
    """The task-aware MDP of Section IV-A: a step ends when the slowest MD has done its tasks."""

    env_id = "mec_task_window_v0"
    step_name = "task window"
    can_simulate = True
    waits_for_all = True
    vector_env = VectorTaskWindow

    def task_rewards(self, outcome: WindowOutcome) -> np.ndarray:
        """Eq. (8); see the base class."""
        return reward.window_rewards(outcome, self.scenario)

    def __str__(self) -> str:
        """What a table says of it, besides the scenario."""
        return f"task windows of up to {self.scenario.max_window}"


def as_mdp(where: MDP | Scenario) -> MDP:
    """The MDP itself; a scenario stands for its task-window MDP.

    Args:
        where: Either.
    """
    return TaskWindowMDP(where) if isinstance(where, Scenario) else where
