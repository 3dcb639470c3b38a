"""A batch of time-slot worlds, stepped by compiled calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_mec.envs.slots import Flight, most_tasks, observe_progress, play_slots
from rllib_mec.envs.vector import Actions, Seed, VectorStep, Worlds

if TYPE_CHECKING:
    from rllib_mec.envs.mdp import TimeSlotMDP


class VectorTimeSlot(Worlds):
    """B worlds of the discrete-time MDP: a step is a time slot, and each MD decides once in it.

    The same interface as :class:`~rllib_mec.envs.vector_windows.VectorTaskWindow` with W_max = 1,
    so that the same algorithms train on it. All tasks that an MD begins in a slot take the slot's
    decision; a task in flight keeps the one it began with. In a :class:`VectorStep`

    - ``latency_ms`` is the slot's length, or less where all tasks are done before it ends;
    - ``window_size`` counts the tasks finished in the slot;
    - ``played`` says whether any task began with the slot's decision;
    - ``waiting_ms`` is 0: nobody waits for anybody;
    - ``stage_ends`` ``(B, N, R, 3)`` has room for every task of a slot (64 at most), the one in
      flight at its start first; a stage that goes on after the slot is recorded up to its end.

    Args:
        mdp: What the worlds are.
        num_worlds: B.
        seed: See :class:`~rllib_mec.envs.vector.Worlds`.
        num_tasks: Tasks of every MD; drawn if ``None``.
        distance_m: Distance of every MD; drawn in every slot if ``None``.

    Raises:
        MecError: An argument is out of its range.
    """

    def __init__(
        self,
        mdp: TimeSlotMDP,
        num_worlds: int,
        seed: Seed = 0,
        *,
        num_tasks: int | None = None,
        distance_m: float | None = None,
    ):
        """Make the worlds and begin their first episodes."""
        self.mdp = mdp
        super().__init__(mdp.scenario, num_worlds, seed, num_tasks=num_tasks, distance_m=distance_m)
        self._records = most_tasks(mdp.slot_ms, self._physics.stage_work)

    def reset(self, seed: Seed | None = None) -> np.ndarray:
        """Begin a new episode in every world, with no task in flight; see the base class."""
        self._flight = Flight.none(self.num_worlds, self.num_devices)
        return super().reset(seed)

    def observation(self) -> np.ndarray:
        """The present observation, ``(B, 2N)`` float32, or ``(B, 5N)`` with the progress."""
        observation = super().observation()
        if not self.mdp.observe_progress:
            return observation
        progress = np.empty((self.num_worlds, 3 * self.num_devices), dtype=np.float32)
        observe_progress(self._flight, self._physics.stage_work, progress)
        return np.concatenate([observation, progress], axis=1)

    def _play(self, actions: Actions) -> VectorStep:
        step = self._empty_step(self._records)
        play_slots(
            self._seeds, self._counters, self._queues, self._distances, self._flight, actions,
            self._physics, self.mdp.slot_ms, self.mdp.min_mean_tasks, step,
        )  # fmt: skip
        return step

    def get_state(self) -> dict[str, Any]:
        """Everything that the worlds' future depends on, besides the actions."""
        return {**super().get_state(), "flight": self._flight.copy()._asdict()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`get_state`, bit for bit; see the base class."""
        super().set_state(state)
        self._flight = Flight(**state["flight"]).copy()
