"""What the batches of task windows and of time slots have in common."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rllib_mec.envs.actions import check_batch_actions
from rllib_mec.envs.windows import Draws, Physics, begin_episodes, end_windows, observe
from rllib_mec.errors import MecError
from rllib_mec.network.checks import positive_number, whole_number
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.streams import world_seeds

Actions = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Seed = int | Sequence[int] | np.ndarray


class VectorStep(NamedTuple):
    """What one step of B worlds gave.

    Attributes:
        observation: The next step's, ``(B, 2N)`` float32 (or more, see the MDP); of a new episode
            where one ended.
        reward: r_k of Eq. (8), ``(B,)``.
        task_rewards: Its shares per task slot, which sum to it, ``(B, W_max)``.
        terminated: Whether the episode ended, ``(B,)`` bool; episodes are never truncated.
        latency_ms: The window's latency, ``(B,)``.
        energy_j: Energy of all MDs, ``(B,)``.
        waiting_ms: Mean waiting time of the MDs that had a task, ``(B,)``.
        window_size: Tasks done, W_{n,k}, ``(B, N)`` int.
        played: Which task slots were played, ``(B, N, W_max)`` bool.
        local_share: Share of the window's tasks that ran fully on their MD, ``(B,)``.
        stage_ends: When each task's stages (local, transmission, server) ended,
            ``(B, N, W_max, 3)``, ms since the step's start; 0 where a slot was not played.
    """

    observation: np.ndarray
    reward: np.ndarray
    task_rewards: np.ndarray
    terminated: np.ndarray
    latency_ms: np.ndarray
    energy_j: np.ndarray
    waiting_ms: np.ndarray
    window_size: np.ndarray
    played: np.ndarray
    local_share: np.ndarray
    stage_ends: np.ndarray


class Worlds(abc.ABC):
    """B independent worlds of one scenario; a world that ends an episode begins the next at once.

    Args:
        scenario: What the worlds are.
        num_worlds: B.
        seed: World b draws from stream ``seed + b``, so that it can be replayed alone with that
            seed (and so that batches to be independent need seeds at least B apart); or one seed
            per world.
        num_tasks: Tasks of every MD in every episode; drawn from the Poisson distribution if
            ``None`` (at least one each).
        distance_m: Distance of every MD all the time; drawn uniformly if ``None``.

    Raises:
        MecError: A count, seed or distance is out of its range.
    """

    def __init__(
        self,
        scenario: Scenario,
        num_worlds: int,
        seed: Seed = 0,
        *,
        num_tasks: int | None = None,
        distance_m: float | None = None,
    ):
        """Make the worlds and begin their first episodes."""
        self.scenario = scenario
        self.num_worlds = whole_number("num_worlds", num_worlds)
        self.num_devices = scenario.num_devices
        self.max_window = scenario.max_window
        self._physics = Physics.of(scenario)
        self._draws = Draws.of(
            scenario,
            None if num_tasks is None else whole_number("num_tasks", num_tasks),
            None if distance_m is None else positive_number("distance_m", distance_m),
        )
        self.num_points = len(self._physics.local_energy_j)
        self._queues = np.zeros((self.num_worlds, self.num_devices), dtype=np.int64)
        self._distances = np.zeros((self.num_worlds, self.num_devices))
        self._counters = np.zeros((self.num_worlds, 2), dtype=np.int64)  # episode, window
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

    def reset(self, seed: Seed | None = None) -> np.ndarray:
        """Begin a new episode in every world.

        Args:
            seed: As in the constructor, from the first episode on; ``None`` goes on to the next
                episode of the streams (the first, if nothing has happened since the constructor).

        Returns:
            The observation, ``(B, 2N)`` float32.

        Raises:
            MecError: The seed is negative, not a whole number, or not one per world.
        """
        if seed is not None:
            self._seeds = world_seeds(seed, self.num_worlds)
            self._counters[:] = 0
        elif not self._is_new:
            self._counters[:, 0] += 1
            self._counters[:, 1] = 0
        self._is_new = False
        begin_episodes(self._seeds, self._counters, self._queues, self._distances, self._draws)
        return self.observation()

    def observation(self) -> np.ndarray:
        """The present observation, ``(B, 2N)`` float32: X_n/λ, then d_n/d_max of all MDs."""
        observation = np.empty((self.num_worlds, 2 * self.num_devices), dtype=np.float32)
        observe(self._queues, self._distances, self._draws, observation)
        return observation

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
        end_windows(
            self._seeds, self._counters, self._queues, self._distances, self._draws,
            step.window_size, step.terminated,
        )  # fmt: skip
        self._is_new = False
        return step._replace(observation=self.observation())

    @abc.abstractmethod
    def _play(self, actions: Actions) -> VectorStep:
        """Run the step's physics; ``observation`` and ``terminated`` are filled by the caller."""

    def _checked(self, actions: Mapping[str, np.ndarray]) -> Actions:
        return check_batch_actions(actions, self.scenario, self.num_points, self.num_worlds)

    def _empty_step(self, records: int) -> VectorStep:
        """A step of zeros, with room for ``records`` tasks' stage ends."""
        worlds, devices, slots = self.num_worlds, self.num_devices, self.max_window
        return VectorStep(
            observation=np.empty((worlds, 0), dtype=np.float32),
            reward=np.zeros(worlds),
            task_rewards=np.zeros((worlds, slots)),
            terminated=np.zeros(worlds, dtype=np.bool_),
            latency_ms=np.zeros(worlds),
            energy_j=np.zeros(worlds),
            waiting_ms=np.zeros(worlds),
            window_size=np.zeros((worlds, devices), dtype=np.int64),
            played=np.zeros((worlds, devices, slots), dtype=np.bool_),
            local_share=np.zeros(worlds),
            stage_ends=np.zeros((worlds, devices, records, 3)),
        )

    def get_state(self) -> dict[str, Any]:
        """Everything that the worlds' future depends on, besides the actions."""
        return {
            "seeds": self._seeds.copy(),
            "counters": self._counters.copy(),
            "queues": self._queues.copy(),
            "distances_m": self._distances.copy(),
            "is_new": self._is_new,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`get_state`, bit for bit.

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
        self._is_new = bool(state["is_new"])
