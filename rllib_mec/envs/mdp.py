"""An MDP: a scenario, when decisions are made in it, and the laws that a subclass may change."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rllib_mec.envs import draws, laws, masks, networks, observation
from rllib_mec.envs.actions import memory_remarks
from rllib_mec.envs.draws import Draw
from rllib_mec.envs.link import link_remarks
from rllib_mec.envs.observation import ObservationLayout, State
from rllib_mec.errors import MecError, unknown, users_fault
from rllib_mec.network.scenario import SHAPE_FIELDS, Scenario

if TYPE_CHECKING:
    from rllib_mec.envs.vector import VectorEnv


@dataclasses.dataclass(frozen=True)
class MDP(abc.ABC):
    """What decides how worlds run: a scenario, and when decisions are made in it.

    Everything that needs worlds (the PettingZoo environments, env runners, evaluation) makes them
    from one of these, and so works on each of them. The fields of the scenario and an MDP's own
    ones are the environments' keyword arguments and the keys of RLlib's ``env_config``.

    Its laws are the methods from :attr:`observation_layout` to :meth:`task_rewards`. Each works on
    arrays of B worlds, row by row; a subclass may have its own, which then hold everywhere: in
    every environment, for the planner, in training and in evaluation. A law of a subclass is given
    copies, into which it may write; what it returns is checked by :mod:`rllib_mec.envs.laws`.

    Attributes:
        scenario: The network, the DNN and the radio.
        env_id: Class attribute, the environment's id.
        step_name: Class attribute, what a step is.
        can_simulate: Class attribute, whether its worlds have ``simulate``: what a step would give,
            without playing it.
        waits_for_all: Class attribute, whether a step ends when the slowest MD has done its tasks.
        tasks_arrive: Class attribute, whether tasks come while an episode runs; else all are there
            at its start.
        has_windows: Class attribute, whether an MD decides for several tasks at a time.
        vector_env: Class attribute, what runs a batch of its worlds.
    """

    env_id: ClassVar[str]
    step_name: ClassVar[str]
    can_simulate: ClassVar[bool]
    waits_for_all: ClassVar[bool]
    tasks_arrive: ClassVar[bool] = False
    has_windows: ClassVar[bool] = True
    vector_env: ClassVar[type[VectorEnv]]

    scenario: Scenario

    @classmethod
    def from_dict(cls, env_config: Mapping[str, Any]) -> MDP:
        """Make an MDP from the fields of its scenario and its own.

        Args:
            env_config: Field names and values; what is missing keeps its default.

        Raises:
            MecError: A key is unknown, with the nearest one suggested, or a value is bad.
        """
        own, of_scenario = cls.split(env_config)
        scenario = Scenario.from_dict(of_scenario)
        try:
            return cls(scenario, **own)
        except MecError:
            raise
        except Exception as error:
            raise users_fault(f"{cls.__name__} failed", error) from error

    @classmethod
    def split(cls, env_config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fields of the MDP's own, and those of its scenario.

        Args:
            env_config: Field names and values; ``network`` stands for those of a network by name,
                see :mod:`rllib_mec.envs.networks`.

        Raises:
            MecError: A key is unknown, with the nearest one suggested.
        """
        if not isinstance(env_config, Mapping):
            raise MecError(f"env_config must be a mapping, but is {env_config!r}")
        own = cls._own_fields()
        of_scenario = [field.name for field in dataclasses.fields(Scenario)]
        env_config = networks.expanded(env_config, {*own, *of_scenario})
        for key in env_config:
            if key not in own and key not in of_scenario:
                raise unknown(f"argument of {cls.env_id}", key, [*own, *of_scenario, networks.KEY])
        return (
            {key: value for key, value in env_config.items() if key in own},
            {key: value for key, value in env_config.items() if key not in own},
        )

    @classmethod
    def _own_fields(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls) if field.name != "scenario"]

    @property
    def settings(self) -> dict[str, Any]:
        """Its own fields, without the scenario."""
        return {name: getattr(self, name) for name in self._own_fields()}

    @property
    def observation_layout(self) -> ObservationLayout:
        """The parts of an observation of the global state: ``queues`` and ``distances``, N each.

        After them comes what tells unlike MDs, servers and channels apart; see
        :func:`~rllib_mec.envs.observation.specification`.
        """
        return observation.layout_of(self.scenario)

    @property
    def observation_size(self) -> int:
        """Numbers in an observation of the global state."""
        return self.observation_layout.size

    def observe(self, state: State) -> np.ndarray:
        """The observation of the global state, S_k of Eq. (6).

        See :func:`~rllib_mec.envs.observation.encode`.

        Args:
            state: Of B worlds.

        Returns:
            ``(B, observation_size)`` float32.
        """
        return observation.encode(state, self.scenario)

    def decode(self, seen: np.ndarray) -> State:
        """Queues and distances out of observations, as far as they hold them.

        Args:
            seen: ``(B, observation_size)``.

        Raises:
            MecError: The layout has no ``queues`` or no ``distances``.
        """
        return observation.decode(seen, laws.layout_of(self), self.scenario)

    def draw_tasks(self, draw: Draw) -> np.ndarray:
        """X_0, the tasks of every MD in an episode: Poisson, at least one each.

        Args:
            draw: Random numbers of the episode's first step.

        Returns:
            ``(B, N)`` int, at least 1.
        """
        return draws.draw_tasks(draw, self.scenario)

    def draw_distances(self, draw: Draw) -> np.ndarray:
        """d_k, the distance of every MD to the base station in a step: as ``mobility`` says.

        Args:
            draw: Random numbers of the step; where MDs move, the time and the episode's key count.

        Returns:
            ``(B, N)``, m.
        """
        return draws.draw_distances(draw, self.scenario)

    def draw_gains(self, draw: Draw, distances_m: np.ndarray) -> np.ndarray:
        """G_n, the channel gain of every MD in a step: path loss times log-normal shadowing.

        Args:
            draw: Random numbers of the step.
            distances_m: ``(B, N)``, m; of directions, those in which ``mobility`` has the MDs.

        Returns:
            ``(B, N)``.
        """
        return draws.draw_gains(draw, distances_m, self.scenario)

    def action_mask(self, state: State) -> dict[str, np.ndarray]:
        """Which choices make sense; see :func:`~rllib_mec.envs.masks.action_mask`.

        Agents are told in their ``infos``; of a choice that makes none, the network makes what it
        can. Our own algorithms never take it, in the decisions of :attr:`masked_heads`.

        Args:
            state: Of B worlds.

        Returns:
            ``partition``, ``channel``, ``server`` and ``window``, bool, ``(B, N, choices)``.
        """
        return masks.action_mask(state, self.scenario)

    @property
    def masked_heads(self) -> tuple[str, ...]:
        """Decisions of which our own algorithms mask choices: what some MD does not have.

        A window beyond the queue is none of them: the paper's agents may choose it.
        """
        return () if self.scenario.has_point.all() else ("partition",)

    @abc.abstractmethod
    def task_rewards(self, outcome: Any) -> np.ndarray:
        """The reward of a step, as shares of the task slots that sum to it.

        Args:
            outcome: What happened in B worlds: a
                :class:`~rllib_mec.network.windows.WindowOutcome` or a
                :class:`~rllib_mec.network.slots.SlotOutcome`.

        Returns:
            ``(B, W_max)``.
        """

    @property
    def usual_tasks(self) -> int | tuple[int, ...] | None:
        """Tasks that MDs have at an episode's start in an evaluation; ``None``: as drawn."""
        return self.scenario.usual_tasks

    @property
    def deadlines_ms(self) -> np.ndarray:
        """What a task of every MD may take from when it comes, ``(N,)``; ``inf``: no deadline."""
        return np.full(self.scenario.num_devices, np.inf)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what is measured of an episode besides the paper's metrics."""
        return ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of these settings before anything is run, a line each."""
        return (*link_remarks(self.scenario), *memory_remarks(self.scenario))

    @property
    def shape(self) -> dict[str, Any]:
        """Everything that the shapes of observations, actions and networks depend on."""
        fields = {name: getattr(self.scenario, name) for name in SHAPE_FIELDS}
        # Of the MDs, not of the scenario: groups may have DNNs of their own.
        for name in ("dnn", "dnn_input"):
            own = tuple(getattr(device, name) for device in self.scenario.mobile_devices)
            fields[name] = own if len(set(own)) > 1 else own[0]
        return {**fields, "observation": dict(laws.layout_of(self).sizes)}

    @property
    def title(self) -> str:
        """What ran, for under a table or over a chart."""
        return f"{self.scenario.caption}, {self} ({self.env_id})"

    def make(self, num_envs: int, seed: Any = 0, **fixed: Any) -> Any:
        """Make worlds.

        Args:
            num_envs: B.
            seed: See :class:`~rllib_mec.envs.vector.VectorEnv`, as for the others.
            **fixed: ``num_tasks``, ``distance_m`` and ``num_threads``.

        Returns:
            A :attr:`vector_env`.
        """
        return self.vector_env(self, num_envs, seed, **fixed)

    @abc.abstractmethod
    def __str__(self) -> str:
        """What a table says of it, besides the scenario."""
