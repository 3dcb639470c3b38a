"""A batch of task-window worlds, stepped by one compiled call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from rllib_mec.envs.spaces import check_batch_actions
from rllib_mec.errors import MecError
from rllib_mec.simulator.cost import window_cost
from rllib_mec.simulator.engine import advance
from rllib_mec.simulator.radio import channel_gain, power_w
from rllib_mec.simulator.scenario import Scenario
from rllib_mec.simulator.streams import DISTANCE, SHADOWING, TASKS, normal, poisson_cdf, uniform


class VectorStep(NamedTuple):
    """What one step of B worlds gave.

    Attributes:
        observation: The next window's, ``(B, 2N)`` float32; of a new episode where one ended.
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
            ``(B, N, W_max, 3)``, ms since the window's start; 0 where a slot was not played.
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


class VectorTaskWindow:
    """B independent worlds of one scenario; a world that ends an episode begins the next at once.

    Args:
        scenario: What the worlds are.
        num_worlds: B.
        seed: World b draws from stream ``seed + b``; or one seed per world.
        num_tasks: Tasks of every MD in every episode; drawn from the Poisson distribution if
            ``None`` (at least one each).
        distance_m: Distance of every MD in every window; drawn uniformly if ``None``.

    Raises:
        MecError: A count, seed or distance is out of its range.
    """

    def __init__(
        self,
        scenario: Scenario,
        num_worlds: int,
        seed: int | Sequence[int] = 0,
        *,
        num_tasks: int | None = None,
        distance_m: float | None = None,
    ):
        """Make the worlds and begin their first episodes."""
        if num_worlds < 1:
            raise MecError(f"num_worlds must be at least 1, but is {num_worlds!r}")
        if num_tasks is not None and num_tasks < 1:
            raise MecError(f"num_tasks must be at least 1, but is {num_tasks!r}")
        if distance_m is not None and not distance_m > 0:
            raise MecError(f"distance_m must be positive, but is {distance_m!r}")
        self.scenario = scenario
        self.num_worlds = num_worlds
        self.num_devices = scenario.num_devices
        self.max_window = scenario.max_window
        table = scenario.table
        self.num_points = table.num_points
        self._table = (
            np.ascontiguousarray(table.local_latency_ms, dtype=np.float64),
            np.ascontiguousarray(table.bits, dtype=np.float64),
            np.ascontiguousarray(table.server_latency_ms, dtype=np.float64),
        )
        self._local_energy_j = scenario.energy_per_mmac_j * np.ascontiguousarray(
            table.local_mmacs, dtype=np.float64
        )
        self._radio = (
            scenario.bandwidth_hz,
            scenario.noise_w,
            scenario.min_spectral_efficiency,
            scenario.num_channels,
            scenario.num_servers,
            scenario.transmission_ms_per_s,
        )
        self._fading = (
            scenario.shadowing_std_db,
            scenario.reference_distance_m,
            scenario.path_loss_exponent,
        )
        low, high = scenario.distance_range_m
        self._draws = (
            0 if num_tasks is None else int(num_tasks),
            0.0 if distance_m is None else float(distance_m),
            low,
            high,
            scenario.mean_tasks,
            poisson_cdf(scenario.mean_tasks),
        )
        self._weights = (scenario.waiting_weight, scenario.energy_weight)
        self._queues = np.zeros((num_worlds, self.num_devices), dtype=np.int64)
        self._distances = np.zeros((num_worlds, self.num_devices))
        self._counters = np.zeros((num_worlds, 2), dtype=np.int64)  # episode, window
        self.reset(seed)

    @property
    def queues(self) -> np.ndarray:
        """X_k, the tasks left of every MD, ``(B, N)`` int."""
        return self._queues.copy()

    @property
    def distances_m(self) -> np.ndarray:
        """d_k, the distance of every MD to the base station, ``(B, N)``."""
        return self._distances.copy()

    def reset(self, seed: int | Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Begin a new episode in every world.

        Args:
            seed: As in the constructor, from the first episode on; ``None`` goes on to the next
                episode of the streams.

        Returns:
            The observation, ``(B, 2N)`` float32.
        """
        if seed is None:
            self._counters[:, 0] += 1
        else:
            seeds = np.asarray(seed)
            if seeds.ndim == 0:
                seeds = seeds + np.arange(self.num_worlds)
            if seeds.shape != (self.num_worlds,) or (seeds < 0).any():
                raise MecError(
                    f"seed must be one number or {self.num_worlds}, none negative, but is {seed!r}"
                )
            self._seeds = seeds.astype(np.uint64)
            self._counters[:, 0] = 0
        self._counters[:, 1] = 0
        _begin_worlds(self._seeds, self._counters, self._queues, self._distances, self._draws)
        return self.observation()

    def observation(self) -> np.ndarray:
        """The present observation, ``(B, 2N)`` float32: X_n/λ, then d_n/d_max of all MDs."""
        scale = np.array([[self.scenario.mean_tasks], [self.scenario.distance_range_m[1]]])
        state = np.stack([self._queues, self._distances], axis=1) / scale
        return state.reshape(self.num_worlds, -1).astype(np.float32)

    def step(self, actions: Mapping[str, np.ndarray]) -> VectorStep:
        """Play one task window in every world.

        Args:
            actions: ``partition``, ``channel``, ``server`` (int) and ``power`` (in [0, 1]), each
                ``(B, N, W_max)``; ``window`` (int, value v means v + 1 tasks, capped by the MD's
                queue), ``(B, N)``.

        Raises:
            MecError: An array is missing, has a wrong shape, or a value out of its range.
        """
        return self._run(actions, shadowing_sample=0, is_step=True)

    def simulate(
        self, actions: Mapping[str, np.ndarray], *, shadowing_sample: int = 0
    ) -> VectorStep:
        """What :meth:`step` would give in the current window, without playing it.

        Args:
            actions: As in :meth:`step`.
            shadowing_sample: 0 for the shadowing that the window really has, another number for
                that many other draws of it.

        Returns:
            The step; its ``observation`` and ``terminated`` say nothing.
        """
        return self._run(actions, shadowing_sample=shadowing_sample, is_step=False)

    def _run(
        self, actions: Mapping[str, np.ndarray], *, shadowing_sample: int, is_step: bool
    ) -> VectorStep:
        partition, channel, server, power, window = check_batch_actions(
            actions, self.scenario, self.num_points, self.num_worlds
        )
        shape = (self.num_worlds, self.num_devices, self.max_window)
        step = VectorStep(
            observation=np.empty((self.num_worlds, 2 * self.num_devices), dtype=np.float32),
            reward=np.empty(self.num_worlds),
            task_rewards=np.empty((self.num_worlds, self.max_window)),
            terminated=np.zeros(self.num_worlds, dtype=np.bool_),
            latency_ms=np.empty(self.num_worlds),
            energy_j=np.empty(self.num_worlds),
            waiting_ms=np.empty(self.num_worlds),
            window_size=np.empty(shape[:2], dtype=np.int64),
            played=np.zeros(shape, dtype=np.bool_),
            local_share=np.empty(self.num_worlds),
            stage_ends=np.zeros((*shape, 3)),
        )
        _run_windows(
            self._seeds,
            self._counters,
            self._queues,
            self._distances,
            (partition, channel, server, power_w(power, self.scenario), window),
            self._table,
            self._local_energy_j,
            self._radio,
            self._fading,
            self._weights,
            shadowing_sample,
            step,
        )
        if is_step:
            _end_windows(
                self._seeds, self._counters, self._queues, self._distances, self._draws,
                step.window_size, step.terminated, step.observation,
            )  # fmt: skip
        return step

    def get_state(self) -> dict[str, Any]:
        """Everything that the worlds' future depends on, besides the actions."""
        return {
            "seeds": self._seeds.copy(),
            "counters": self._counters.copy(),
            "queues": self._queues.copy(),
            "distances_m": self._distances.copy(),
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


@njit(cache=True, nogil=True)
def _draw_distances(b, seeds, counters, distances, draws):
    _, fixed_distance, low, high, _, _ = draws
    for n in range(distances.shape[1]):
        if fixed_distance > 0.0:
            distances[b, n] = fixed_distance
        else:
            u = uniform(seeds[b], counters[b, 0], counters[b, 1], n, DISTANCE)
            distances[b, n] = low + (high - low) * u


@njit(cache=True, nogil=True)
def _begin_world(b, seeds, counters, queues, distances, draws):
    fixed_tasks, _, _, _, _, cdf = draws
    for n in range(queues.shape[1]):
        if fixed_tasks > 0:
            queues[b, n] = fixed_tasks
        else:
            u = uniform(seeds[b], counters[b, 0], 0, n, TASKS)
            queues[b, n] = max(np.searchsorted(cdf, u), 1)
    _draw_distances(b, seeds, counters, distances, draws)


@njit(cache=True, nogil=True)
def _observe(b, queues, distances, draws, observation):
    num_devices = queues.shape[1]
    for n in range(num_devices):
        observation[b, n] = queues[b, n] / draws[4]
        observation[b, num_devices + n] = distances[b, n] / draws[3]


@njit(cache=True, nogil=True)
def _begin_worlds(seeds, counters, queues, distances, draws):
    for b in range(len(queues)):
        _begin_world(b, seeds, counters, queues, distances, draws)


@njit(cache=True, nogil=True)
def _end_windows(seeds, counters, queues, distances, draws, window_size, terminated, observation):
    num_worlds, num_devices = queues.shape
    for b in range(num_worlds):
        left = 0
        for n in range(num_devices):
            queues[b, n] -= window_size[b, n]
            left += queues[b, n]
        if left == 0:
            terminated[b] = True
            counters[b, 0] += 1
            counters[b, 1] = 0
            _begin_world(b, seeds, counters, queues, distances, draws)
        else:
            counters[b, 1] += 1
            _draw_distances(b, seeds, counters, distances, draws)
        _observe(b, queues, distances, draws, observation)


@njit(cache=True, nogil=True)
def _run_windows(
    seeds, counters, queues, distances, actions, table, local_energy_j, radio, fading, weights,
    shadowing_sample, out,
):  # fmt: skip
    partition, channel, server, power, window = actions
    shadowing_std, reference_distance, path_loss_exponent = fading
    waiting_weight, energy_weight = weights
    num_worlds, num_devices, max_window = partition.shape
    full_local = len(local_energy_j) - 1
    stage = np.empty(num_devices, dtype=np.int64)
    task = np.empty(num_devices, dtype=np.int64)
    work = np.empty(num_devices)
    gain = np.empty(num_devices)
    transmission_s = np.empty((num_devices, max_window))
    energy_j = np.empty((num_devices, max_window))
    for b in range(num_worlds):
        stage[:] = 0
        task[:] = 0
        work[:] = 0.0
        transmission_s[:] = 0.0
        energy_j[:] = 0.0
        for n in range(num_devices):
            out.window_size[b, n] = min(window[b, n] + 1, queues[b, n])
            shadowing_db = 0.0
            if shadowing_std > 0.0:
                shadowing_db = shadowing_std * normal(
                    seeds[b], counters[b, 0], counters[b, 1], n, SHADOWING + 2 * shadowing_sample
                )
            gain[n] = channel_gain(
                distances[b, n], shadowing_db, reference_distance, path_loss_exponent
            )
        advance(
            0.0, math.inf, stage, task, work, out.window_size[b], partition[b], channel[b],
            server[b], power[b], gain, out.stage_ends[b], transmission_s, table, radio,
        )  # fmt: skip
        tasks = 0
        local = 0
        for n in range(num_devices):
            for x in range(out.window_size[b, n]):
                out.played[b, n, x] = True
                energy_j[n, x] = (
                    power[b, n, x] * transmission_s[n, x] + local_energy_j[partition[b, n, x]]
                )
                tasks += 1
                if partition[b, n, x] == full_local:
                    local += 1
        out.local_share[b] = local / max(tasks, 1)
        reward, latency, waiting, energy = window_cost(
            out.window_size[b], out.stage_ends[b], energy_j, waiting_weight, energy_weight,
            out.task_rewards[b],
        )  # fmt: skip
        out.reward[b] = reward
        out.latency_ms[b] = latency
        out.waiting_ms[b] = waiting
        out.energy_j[b] = energy
