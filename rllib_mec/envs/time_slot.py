"""The discrete-time MDP that the paper compares with, and batches of its worlds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_mec.envs import reward
from rllib_mec.envs.actions import Actions, power_w
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import ObservationLayout, State
from rllib_mec.envs.task_window import TaskWindowMDP
from rllib_mec.envs.vector import Seed, VectorEnv, VectorStep
from rllib_mec.errors import MecError
from rllib_mec.network.checks import positive_number
from rllib_mec.network.groups import DeviceGroup
from rllib_mec.network.slots import Flight, SlotOutcome, most_tasks, play_slots, work_left
from rllib_mec.network.threads import worlds_of


class VectorTimeSlot(VectorEnv):
    """B worlds of the discrete-time MDP: a step is a time slot, and each MD decides once in it.

    The same interface as :class:`~rllib_mec.envs.task_window.VectorTaskWindow` with W_max = 1,
    so that the same algorithms train on it. All tasks that an MD begins in a slot take the slot's
    decision; a task in flight keeps the one it began with. In a :class:`VectorStep`

    - ``latency_ms`` is the slot's length, or less where all tasks are done before it ends;
    - ``window_size`` counts the tasks finished in the slot;
    - ``played`` says whether any task began with the slot's decision;
    - ``waiting_ms`` is 0: nobody waits for anybody;
    - ``stage_ends`` ``(B, N, R, 3)`` has room for every task of a slot (64 at most), the one in
      flight at its start first; a stage that goes on after the slot is recorded up to its end.

    See :class:`~rllib_mec.envs.vector.VectorEnv` for the arguments.
    """

    mdp: TimeSlotMDP
    _flight: Flight

    @property
    def state(self) -> State:
        """What the worlds are at, with the tasks in flight."""
        return State(self._queues, self._distances, self._flight)

    def reset(self, seed: Seed | None = None) -> np.ndarray:
        """Begin a new episode in every world, with no task in flight; see the base class."""
        self._flight = Flight.none(self.num_envs, self.num_devices)
        return super().reset(seed)

    def _play(self, actions: Actions) -> VectorStep:
        records = most_tasks(self.mdp.slot_ms, self._physics)
        outcome = SlotOutcome.of(self.num_envs, self.num_devices, records, self.num_points)
        power, gain = power_w(actions.power, self.scenario), self._gains()

        def play(worlds: slice) -> None:
            play_slots(
                self._queues[worlds], worlds_of(self._flight, worlds),
                actions.partition[worlds, :, 0], actions.channel[worlds, :, 0],
                actions.server[worlds, :, 0], power[worlds, :, 0], gain[worlds], self._physics,
                self.mdp.slot_ms, worlds_of(outcome, worlds),
            )  # fmt: skip

        self._in_threads(play)
        return self._judged(outcome, outcome.begun[..., None], np.zeros(self.num_envs))

    def get_state(self) -> dict[str, Any]:
        """Everything that the worlds' future depends on, besides the actions."""
        return {**super().get_state(), "flight": self._flight.copy()._asdict()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`get_state`, bit for bit; see the base class."""
        super().set_state(state)
        self._flight = Flight(**state["flight"]).copy()


@dataclasses.dataclass(frozen=True)
class TimeSlotMDP(MDP):
    """The discrete-time MDP that the paper compares with: a step takes τ, whatever the tasks do.

    Attributes:
        scenario: Its ``max_window`` is taken as 1: an MD decides once in a slot.
        slot_ms: τ.
        min_mean_tasks: The reward -(τ + β/N · energy) / (mean number of finished tasks) takes the
            latter to be no less than this; 0.8 is MAHPPO's.
        observe_progress: Whether observations have, after the ``2N`` numbers of the task-window
            MDP, what is left of each MD's task in flight: the local stage of all MDs, then the
            bits, then the server's part, each over its largest value. Without it a slot's outcome
            depends on more than the state, as the paper criticises; MAHPPO has it.

    Raises:
        MecError: A value is of the wrong type or out of its range.
    """

    env_id = "mec_time_slot_v0"
    step_name = "time slot"
    can_simulate = False
    waits_for_all = False
    has_windows = False
    vector_env = VectorTimeSlot

    slot_ms: float = 50.0
    min_mean_tasks: float = 0.8
    observe_progress: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("slot_ms", "min_mean_tasks"):
            object.__setattr__(self, name, positive_number(name, getattr(self, name)))
        if not isinstance(self.observe_progress, bool):
            raise MecError(
                f"observe_progress must be true or false, but is {self.observe_progress!r}"
            )
        if self.scenario.max_window != 1:
            changes: dict[str, Any] = {"max_window": 1}
            if self.scenario.devices:
                own = (dataclasses.replace(g, max_window=None) for g in self.scenario.devices)
                changes["devices"] = tuple(own)
            object.__setattr__(self, "scenario", self.scenario.replace(**changes))

    @classmethod
    def from_dict(cls, env_config: Mapping[str, Any]) -> MDP:
        """Make an MDP; see the base class. A ``max_window`` other than 1 is an error."""
        given = env_config if isinstance(env_config, Mapping) else {}
        groups = given.get("devices")
        windows = {"max_window": given} | {
            f"devices[{i}].max_window": group if isinstance(group, Mapping) else vars(group)
            for i, group in enumerate(groups if isinstance(groups, list | tuple) else ())
            if isinstance(group, Mapping | DeviceGroup)
        }
        for path, fields in windows.items():
            if fields.get("max_window") not in (None, 1):
                raise MecError(
                    f"{path} must be 1 in a time slot, but is {fields['max_window']!r}; "
                    f"task windows are {TaskWindowMDP.env_id}'s"
                )
        return super().from_dict(env_config)

    @property
    def observation_layout(self) -> ObservationLayout:
        """As the base class's; with the progress, ``progress``, 3N, behind it."""
        layout = super().observation_layout
        return (
            layout.plus(progress=3 * self.scenario.num_devices) if self.observe_progress else layout
        )

    def observe(self, state: State) -> np.ndarray:
        """As the base class's, ``(B, 2N)`` float32, or ``(B, 5N)`` with the progress."""
        observation = super().observe(state)
        if not self.observe_progress or state.flight is None:
            return observation
        progress = np.empty((len(observation), 3 * self.scenario.num_devices), dtype=np.float32)
        work_left(state.flight, self.scenario.physics, progress)
        return np.concatenate([observation, progress], axis=1)

    def task_rewards(self, outcome: SlotOutcome) -> np.ndarray:
        """MAHPPO's reward, ``(B, 1)``; see the base class."""
        return reward.slot_rewards(outcome, self.scenario, self.slot_ms, self.min_mean_tasks)

    def __str__(self) -> str:
        """What a table says of it, besides the scenario."""
        return f"time slots of {self.slot_ms:g} ms"
