"""Batches of worlds, stepped together by compiled calls: what every MDP's have in common."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from rllib_mec.envs import laws
from rllib_mec.envs.actions import Actions, check_actions, played_points
from rllib_mec.envs.draws import Draw
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import State
from rllib_mec.envs.reward import total_rewards
from rllib_mec.envs.step import VectorStep
from rllib_mec.errors import MecError
from rllib_mec.network.checks import Metres, Tasks, checked, whole_number
from rllib_mec.network.slots import SlotOutcome
from rllib_mec.network.streams import world_seeds
from rllib_mec.network.tasks import FlowOutcome
from rllib_mec.network.threads import in_threads
from rllib_mec.network.windows import WindowOutcome

Seed = int | Sequence[int] | np.ndarray

_SOME_TASKS = Annotated[Tasks, Field(ge=1)]


class VectorEnv(abc.ABC):
    """B independent worlds of one MDP; a world that ends an episode begins the next at once.

    Args:
        mdp: What the worlds are.
        num_envs: B.
        seed: World b draws from stream ``seed + b``, so that it can be replayed alone with that
            seed (and so that batches to be independent need seeds at least B apart); or one seed
            per world.
        num_tasks: Tasks of every MD in every episode, or of each MD, ``(N,)``, some of which may
            then be 0; drawn by the MDP if ``None``.
        distance_m: Distance of every MD all the time, or of each MD, ``(N,)``; drawn by the MDP if
            ``None``.
        num_threads: Threads that the physics of the worlds is spread over, which may be changed at
            any time; it changes no number.

    Raises:
        MecError: A count, seed or distance is out of its range, or a law of the MDP's gives what it
            must not.
    """

    def __init__(
        self,
        mdp: MDP,
        num_envs: int,
        seed: Seed = 0,
        *,
        num_tasks: int | Sequence[int] | None = None,
        distance_m: float | Sequence[float] | None = None,
        num_threads: int = 1,
    ):
        """Make the worlds and begin their first episodes."""
        self.mdp = mdp
        self.scenario = mdp.scenario
        self.num_envs = whole_number("num_envs", num_envs)
        self.num_threads = whole_number("num_threads", num_threads)
        self.num_devices = mdp.scenario.num_devices
        self.max_window = mdp.scenario.max_window
        self._max_windows = mdp.scenario.of_devices("max_window")
        self._physics = mdp.scenario.physics
        self.num_points = self._physics.num_points
        self._observation_shape = (self.num_envs, laws.size_of(mdp))
        self._fixed_tasks = per_device("num_tasks", num_tasks, self.num_devices, whole=True)
        self._fixed_distances = per_device("distance_m", distance_m, self.num_devices)
        self._queues = np.zeros((self.num_envs, self.num_devices), dtype=np.int64)
        self._distances = np.zeros((self.num_envs, self.num_devices))
        self._counters = np.zeros((self.num_envs, 2), dtype=np.int64)  # episode, step
        self._clock_ms = np.zeros(self.num_envs)
        self._cut = np.empty(self._observation_shape, dtype=np.float32)
        self.reset(seed)
        self._is_new = True

    @property
    def queues(self) -> np.ndarray:
        """X_k, the tasks left of every MD, ``(B, N)`` int64."""
        return self._queues.copy()

    @property
    def distances_m(self) -> np.ndarray:
        """d_k, the distance of every MD to the base station, ``(B, N)``."""
        return self._distances.copy()

    @property
    def joined(self) -> np.ndarray:
        """Which MDs are there, ``(B, N)`` bool: all, but where they join and leave."""
        return np.ones(self._queues.shape, dtype=bool)

    @property
    def clock_ms(self) -> np.ndarray:
        """When the present step begins, since the episode's start, ``(B,)``."""
        return self._clock_ms.copy()

    @property
    def state(self) -> State:
        """What the worlds are at."""
        return State(self._queues, self._distances)

    def reset(self, seed: Seed | None = None) -> np.ndarray:
        """Begin a new episode in every world.

        Args:
            seed: As in the constructor, from the first episode on; ``None`` goes on to the next
                episode of the streams (the first, if nothing has happened since the constructor).

        Returns:
            The observation, ``(B, mdp.observation_size)`` float32.

        Raises:
            MecError: The seed is negative, not a whole number, or not one per world.
        """
        if seed is not None:
            self._seeds = world_seeds(seed, self.num_envs)
            self._counters[:] = 0
        elif not self._is_new:
            self._counters[:, 0] += 1
            self._counters[:, 1] = 0
        self._is_new = False
        self._begin_step(np.ones(self.num_envs, dtype=bool))
        return self.observation()

    def _draw(self, sample: int = 0) -> Draw:
        """The random numbers of the present step."""
        return Draw.at(self._seeds, self._counters, self._clock_ms, self.num_devices, sample)

    def _begin_step(self, is_first: np.ndarray) -> None:
        """Draw what a step begins with, and the queues where it is an episode's first."""
        if is_first.any():
            self._begin_episodes(np.flatnonzero(is_first))
        if self._fixed_distances is not None:
            self._distances[:] = self._fixed_distances
        else:
            shape = self._distances.shape
            self._distances = laws.numbers(self.mdp, "draw_distances", shape, self._draw())

    def _begin_episodes(self, worlds: np.ndarray) -> None:
        """Draw the queues of some worlds, whose clocks start."""
        self._clock_ms[worlds] = 0.0
        if self._fixed_tasks is not None:
            self._queues[worlds] = self._fixed_tasks
        else:
            tasks = laws.numbers(self.mdp, "draw_tasks", self._queues.shape, self._draw())
            self._queues[worlds] = tasks[worlds]

    def _gains(self, sample: int = 0) -> np.ndarray:
        """The channel gains of the present step, ``(B, N)``."""
        shape = self._distances.shape
        return laws.numbers(self.mdp, "draw_gains", shape, self._draw(sample), self._distances)

    def observation(self) -> np.ndarray:
        """The present observation, ``(B, mdp.observation_size)`` float32."""
        return self._observed(self.state)

    def _observed(self, state: State) -> np.ndarray:
        return laws.numbers(self.mdp, "observe", self._observation_shape, state)

    def step(self, actions: Mapping[str, np.ndarray]) -> VectorStep:
        """Play one step in every world.

        Args:
            actions: ``partition``, ``channel``, ``server`` (int) and ``power`` (in [0, 1]), each
                ``(B, N, W_max)``; ``window`` (int, value v means v + 1 tasks, capped by the MD's
                queue), ``(B, N)``.

        Returns:
            What it gave, with the next step's observation.

        Raises:
            MecError: An array is missing, has a wrong shape, or a value out of its range.
        """
        step = self._play(self._checked(actions))
        self._clock_ms += step.elapsed_ms
        self._counters[:, 1] += 1
        step = self._moved_on(step)
        if step.truncated.any():  # these would go on: what they would see of their next step
            self._begin_step(np.zeros(self.num_envs, dtype=bool))
            self._cut = self.observation()
        ended = step.ended
        self._counters[ended, 0] += 1
        self._counters[ended, 1] = 0
        self._begin_step(ended)
        self._is_new = False
        return step._replace(observation=self.observation())

    def _moved_on(self, step: VectorStep) -> VectorStep:
        """Bring the worlds to the end of the step, and say which episodes that ends."""
        self._queues -= step.window_size
        return step._replace(terminated=self._queues.sum(1) == 0)

    def led_to(self, step: VectorStep) -> np.ndarray:
        """What the last step led to, ``(B, mdp.observation_size)`` float32.

        Where it ended an episode, ``step.observation`` is the next episode's already; that one
        ended with empty queues, or was cut as it stood.

        Args:
            step: What :meth:`step` has just returned.
        """
        led_to = step.observation
        if step.truncated.any():
            led_to = np.where(step.truncated[:, None], self._cut, led_to)
        if not step.terminated.any():
            return led_to
        empty = self.state._replace(queues=np.zeros_like(self._queues))
        ended = step.terminated[:, None]
        return np.where(ended, self._observed(empty), led_to)

    @abc.abstractmethod
    def _play(self, actions: Actions) -> VectorStep:
        """Run the step's physics; ``observation`` and the episodes' ends are the caller's."""

    def _in_threads(self, play: Callable[[slice], Any]) -> None:
        """Call ``play`` for slices that make up the batch, several at a time."""
        in_threads(play, self.num_envs, self.num_threads)

    def _judged(
        self,
        outcome: WindowOutcome | SlotOutcome | FlowOutcome,
        played: np.ndarray,
        waiting_ms: np.ndarray,
        **others: Any,
    ) -> VectorStep:
        """What happened, with the reward that the MDP's law has for it."""
        shape = (self.num_envs, self.max_window)
        shares = laws.numbers(self.mdp, "task_rewards", shape, outcome)
        values: dict[str, Any] = {
            "terminated": np.zeros(self.num_envs, dtype=np.bool_),
            "truncated": np.zeros(self.num_envs, dtype=np.bool_),
            "window_size": outcome.num_tasks,
            "stage_ends": outcome.stage_ends,
            "elapsed_ms": outcome.latency_ms,
            **others,
        }
        return VectorStep(
            observation=np.empty((self.num_envs, 0), dtype=np.float32),
            reward=total_rewards(shares),
            task_rewards=shares,
            latency_ms=outcome.latency_ms,
            energy_j=outcome.energy_j,
            waiting_ms=waiting_ms,
            played=played,
            point_tasks=outcome.point_tasks,
            **values,
        )

    def _checked(self, actions: Mapping[str, np.ndarray]) -> Actions:
        """The actions as they are played: at points that the MDs have."""
        shape = (self.num_envs, self.num_devices)
        chosen = Actions(**check_actions(actions, self.scenario, shape))
        return chosen._replace(partition=played_points(chosen.partition, self.scenario))

    def get_state(self) -> dict[str, Any]:
        """Everything that the worlds' future depends on, besides the actions."""
        return {
            "seeds": self._seeds.copy(),
            "counters": self._counters.copy(),
            "queues": self._queues.copy(),
            "distances_m": self._distances.copy(),
            "clock_ms": self._clock_ms.copy(),
            "is_new": self._is_new,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`get_state`, bit for bit.

        Args:
            state: Of as many worlds and MDs.

        Raises:
            MecError: The state is of another number of worlds or MDs.
        """
        if np.shape(state["queues"]) != self._queues.shape:
            raise MecError(
                f"the state is of {np.shape(state['queues'])} worlds and MDs, "
                f"expected {self._queues.shape}"
            )
        self._seeds = np.array(state["seeds"])
        self._counters = np.array(state["counters"])
        self._queues = np.array(state["queues"])
        self._distances = np.array(state["distances_m"])
        self._clock_ms = np.array(state["clock_ms"])
        self._is_new = bool(state["is_new"])


def per_device(
    name: str, given: Any, num_devices: int, *, whole: bool = False
) -> np.ndarray | None:
    """A value for all MDs, or one for each, as an array ``(N,)``.

    Args:
        name: What to call it in the error.
        given: One number, N of them, or ``None``.
        num_devices: N.
        whole: Whether they are tasks, of which not all MDs may have 0; else they are metres.

    Raises:
        MecError: It is something else, or a value is out of its range.
    """
    if given is None:
        return None
    kind: Any = Tasks if whole else Metres
    given = given.tolist() if hasattr(given, "tolist") else given  # of NumPy or another library
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        value = checked(name, given, _SOME_TASKS if whole else kind)
        return np.full(num_devices, value, dtype=np.int64 if whole else float)
    if len(given) != num_devices:
        raise MecError(
            f"{name} must be one number, or {num_devices} (one per MD), but has {len(given)}"
        )
    values = [checked(f"{name}[{n}]", value, kind) for n, value in enumerate(given)]
    if whole and not any(values):
        raise MecError(f"{name} must leave some MD a task, but has 0 for all")
    return np.array(values, dtype=np.int64 if whole else float)
