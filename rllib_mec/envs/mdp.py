"""Which worlds: the task-window MDP and the time-slot MDP, each on a scenario."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from rllib_mec.envs.vector import Seed, Worlds
from rllib_mec.envs.vector_slots import VectorTimeSlot
from rllib_mec.envs.vector_windows import VectorTaskWindow
from rllib_mec.errors import MecError, unknown
from rllib_mec.network.checks import positive_number
from rllib_mec.network.scenario import SHAPE_FIELDS, Scenario


@dataclasses.dataclass(frozen=True)
class MDP(abc.ABC):
    """What decides how worlds run: a scenario, and when decisions are made in it.

    Everything that needs worlds (the PettingZoo environments, env runners, evaluation) makes them
    from one of these, and so works on each of them. The fields of the scenario and an MDP's own
    ones are the environments' keyword arguments and the keys of RLlib's ``env_config``.

    Attributes:
        scenario: The network, the DNN and the radio.
        env_id: Class attribute, the environment's id.
        step_name: Class attribute, what a step is.
        can_simulate: Class attribute, whether its worlds have ``simulate``: what a step would give,
            without playing it.
        waits_for_all: Class attribute, whether a step ends when the slowest MD has done its tasks.
    """

    env_id: ClassVar[str]
    step_name: ClassVar[str]
    can_simulate: ClassVar[bool]
    waits_for_all: ClassVar[bool]

    scenario: Scenario

    @classmethod
    def from_dict(cls, env_config: Mapping[str, Any]) -> MDP:
        """Make an MDP from the fields of its scenario and its own.

        Args:
            env_config: Field names and values; what is missing keeps its default.

        Raises:
            MecError: A key is unknown, with the nearest one suggested, or a value is bad.
        """
        if not isinstance(env_config, Mapping):
            raise MecError(f"env_config must be a mapping, but is {env_config!r}")
        own = cls._own_fields()
        of_scenario = [field.name for field in dataclasses.fields(Scenario)]
        for key in env_config:
            if key not in own and key not in of_scenario:
                raise unknown(f"argument of {cls.env_id}", key, [*own, *of_scenario])
        scenario = Scenario.from_dict({k: v for k, v in env_config.items() if k not in own})
        return cls(scenario, **{k: v for k, v in env_config.items() if k in own})

    @classmethod
    def _own_fields(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls) if field.name != "scenario"]

    @property
    def settings(self) -> dict[str, Any]:
        """Its own fields, without the scenario."""
        return {name: getattr(self, name) for name in self._own_fields()}

    @property
    def observation_size(self) -> int:
        """Numbers in an observation of the global state: X_n/λ and d_n/d_max of all MDs, 2N."""
        return 2 * self.scenario.num_devices

    @property
    def shape(self) -> dict[str, Any]:
        """Everything that the shapes of observations, actions and networks depend on."""
        fields = {name: getattr(self.scenario, name) for name in SHAPE_FIELDS}
        return {**fields, "observation_size": self.observation_size}

    @abc.abstractmethod
    def make(
        self,
        num_worlds: int,
        seed: Seed = 0,
        *,
        num_tasks: int | None = None,
        distance_m: float | None = None,
    ) -> Worlds:
        """Make worlds; see :class:`~rllib_mec.envs.vector.Worlds` for the arguments."""

    @abc.abstractmethod
    def __str__(self) -> str:
        """What a table says of it, besides the scenario."""


@dataclasses.dataclass(frozen=True)
class TaskWindowMDP(MDP):
    """The task-aware MDP of Section IV-A: a step ends when the slowest MD has done its tasks."""

    env_id = "mec_task_window_v0"
    step_name = "task window"
    can_simulate = True
    waits_for_all = True

    def make(
        self,
        num_worlds: int,
        seed: Seed = 0,
        *,
        num_tasks: int | None = None,
        distance_m: float | None = None,
    ) -> VectorTaskWindow:
        """Make worlds; see the base class."""
        return VectorTaskWindow(
            self.scenario, num_worlds, seed, num_tasks=num_tasks, distance_m=distance_m
        )

    def __str__(self) -> str:
        """What a table says of it, besides the scenario."""
        return f"task windows of up to {self.scenario.max_window}"


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
            object.__setattr__(self, "scenario", self.scenario.replace(max_window=1))

    @classmethod
    def from_dict(cls, env_config: Mapping[str, Any]) -> MDP:
        """Make an MDP; see the base class. A ``max_window`` other than 1 is an error."""
        max_window = env_config.get("max_window", 1) if isinstance(env_config, Mapping) else 1
        if max_window != 1:
            raise MecError(
                f"max_window must be 1 in a time slot, but is {max_window!r}; "
                f"task windows are {TaskWindowMDP.env_id}'s"
            )
        return super().from_dict(env_config)

    @property
    def observation_size(self) -> int:
        """As the base class's, or 5N with the progress."""
        return (5 if self.observe_progress else 2) * self.scenario.num_devices

    def make(
        self,
        num_worlds: int,
        seed: Seed = 0,
        *,
        num_tasks: int | None = None,
        distance_m: float | None = None,
    ) -> VectorTimeSlot:
        """Make worlds; see the base class."""
        return VectorTimeSlot(self, num_worlds, seed, num_tasks=num_tasks, distance_m=distance_m)

    def __str__(self) -> str:
        """What a table says of it, besides the scenario."""
        return f"time slots of {self.slot_ms:g} ms"


def as_mdp(where: MDP | Scenario) -> MDP:
    """The MDP itself; a scenario stands for its task-window MDP."""
    return TaskWindowMDP(where) if isinstance(where, Scenario) else where
