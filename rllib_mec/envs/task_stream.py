"""The MDP of tasks that arrive, and batches of its worlds: a step is a window of those ready."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_mec.envs import arrivals, draws, laws, observation, reward
from rllib_mec.envs.actions import Actions, power_w
from rllib_mec.envs.draws import Draw
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import Coming, ObservationLayout, State
from rllib_mec.envs.sojourn import measure, measures_of
from rllib_mec.envs.vector import Seed, VectorEnv, VectorStep
from rllib_mec.errors import MecError
from rllib_mec.network.checks import NonNegative, checked, positive_number
from rllib_mec.network.flow import play_flow
from rllib_mec.network.slots import Flight
from rllib_mec.network.tasks import FlowOutcome, Tasks, count_waiting


class VectorTaskStream(VectorEnv):
    """B worlds in which tasks arrive: a step is a task window of the MDs that are ready.

    The same interface as :class:`~rllib_mec.envs.task_window.VectorTaskWindow`. In a
    :class:`~rllib_mec.envs.vector.VectorStep`

    - ``latency_ms`` is that of the window, ``elapsed_ms`` that of the step: until an MD is ready;
    - ``window_size`` counts the tasks finished in the step, ``played`` says which slots' decisions
      a task began with;
    - ``stage_ends`` and ``starts`` have a column more than there are slots: of an MD with a task in
      flight at the step's start, that one is the first; a stage that goes on after the step is
      recorded up to its end.

    See :class:`~rllib_mec.envs.vector.VectorEnv` for the arguments; ``num_tasks`` are those at the
    start of an episode.
    """

    mdp: TaskStreamMDP
    _flight: Flight
    _tasks: Tasks

    @property
    def state(self) -> State:
        """What the worlds are at, with the tasks in flight and what is known of those to come."""
        left = np.maximum(1.0 - self._clock_ms / self.mdp.horizon_ms, 0.0)
        coming = Coming(self._oldest_ms, self._recent, left)
        return State(self._queues, self._distances, self._flight, coming)

    @property
    def tasks(self) -> Tasks:
        """When the tasks of the present episodes come, and when those done were."""
        return self._tasks.copy()

    def reset(self, seed: Seed | None = None) -> np.ndarray:
        """Begin a new episode in every world, with no task in flight; see the base class."""
        shape = (self.num_envs, self.num_devices)
        self._flight = Flight.none(*shape)
        none = np.full((*shape, 1), np.inf)
        self._tasks = Tasks(none, none.copy(), np.zeros(shape, dtype=np.int64))
        self._oldest_ms, self._recent = np.zeros(shape), np.zeros(shape)
        self._deadlines_ms = self.mdp.deadlines_ms
        return super().reset(seed)

    def _begin_step(self, is_first: np.ndarray) -> None:
        super()._begin_step(is_first)
        if is_first.any():
            self._begin_episodes(np.flatnonzero(is_first))
        self._count()

    def _begin_episodes(self, worlds: np.ndarray) -> None:
        """Draw the arrivals of some worlds, and let time run until the first MD is ready."""
        drawn_ms = self._arrivals(worlds)
        most = drawn_ms.shape[2]
        more = most - self._tasks.arrival_ms.shape[2]
        if more > 0:
            room = ((0, 0), (0, 0), (0, more))
            arrival_ms, end_ms, begun = self._tasks
            arrival_ms, end_ms = (
                np.pad(times, room, constant_values=np.inf) for times in (arrival_ms, end_ms)
            )
            self._tasks = Tasks(arrival_ms, end_ms, begun)
        self._tasks.arrival_ms[worlds] = np.inf
        self._tasks.arrival_ms[worlds, :, :most] = drawn_ms
        self._tasks.end_ms[worlds] = np.inf
        self._tasks.begun[worlds] = 0
        self._flight.stage[worlds] = 0
        first_ms = self._tasks.arrival_ms[worlds, :, 0].min(1)
        self._clock_ms[worlds] = np.minimum(first_ms, self.mdp.horizon_ms)

    def _arrivals(self, worlds: np.ndarray) -> np.ndarray:
        """When the tasks of some worlds come, with those at the start, ``(worlds, N, K)``."""
        horizon_ms = self.mdp.horizon_ms
        start = np.zeros(len(worlds))
        draw = Draw.at(self._seeds[worlds], self._counters[worlds], start, self.num_devices)
        times = laws.arrival_times(self.mdp, (len(worlds), self.num_devices), draw)
        times = np.where(times < horizon_ms, times, np.inf)
        at_start = self._queues[worlds][..., None]
        first = np.where(np.arange(at_start.max(initial=0)) < at_start, 0.0, np.inf)
        every = np.sort(np.concatenate([first, times], axis=2), axis=2)
        return every[..., : max(int(np.isfinite(every).sum(2).max(initial=0)), 1)]

    def _count(self) -> None:
        """Count the tasks at hand."""
        self._recent = np.zeros_like(self._oldest_ms)
        self._oldest_ms = np.zeros_like(self._oldest_ms)
        count_waiting(self._tasks, self._clock_ms, self._queues, self._oldest_ms, self._recent)

    def _play(self, actions: Actions) -> VectorStep:
        mdp, shape = self.mdp, (self.num_envs, self.num_devices)
        outcome = FlowOutcome.of(*shape, self.max_window, self.num_points)
        was_flying = self._flight.stage > 0
        play_flow(
            self._clock_ms, mdp.horizon_ms, mdp.arrivals == arrivals.NONE, self._tasks,
            self._flight, np.minimum(actions.window + 1, self._max_windows), actions.partition,
            actions.channel, actions.server, power_w(actions.power, self.scenario),
            self._deadlines_ms, self._gains(), self._physics, outcome,
        )  # fmt: skip
        in_order = np.arange(self.max_window + 1) - was_flying[..., None]  # -1: the last column
        return self._judged(
            outcome,
            np.arange(self.max_window) < outcome.num_tasks[..., None],
            outcome.waiting_ms,
            window_size=outcome.num_done,
            stage_ends=np.take_along_axis(outcome.stage_ends, in_order[..., None], axis=2),
            starts=np.take_along_axis(outcome.starts, in_order, axis=2),
            elapsed_ms=outcome.elapsed_ms,
            terminated=outcome.is_over,
            truncated=outcome.is_cut,
        )

    def _moved_on(self, step: VectorStep) -> VectorStep:
        self._clock_ms[step.truncated] = self.mdp.horizon_ms
        self._count()
        ended = np.flatnonzero(step.ended)
        tasks = Tasks(*(values[ended] for values in self._tasks))
        clock_ms, waiting = self._clock_ms[ended], self._queues[ended]
        return step._replace(measured=measure(tasks, self._deadlines_ms, clock_ms, waiting))

    def get_state(self) -> dict[str, Any]:
        """Everything that the worlds' future depends on, besides the actions."""
        own = {"flight": self._flight.copy()._asdict(), "tasks": self.tasks._asdict()}
        return {**super().get_state(), **own}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`get_state`, bit for bit; see the base class."""
        super().set_state(state)
        self._flight = Flight(**state["flight"]).copy()
        self._tasks = Tasks(**state["tasks"]).copy()
        self._count()


@dataclasses.dataclass(frozen=True)
class TaskStreamMDP(MDP):
    """Tasks that arrive: whenever an MD is ready, all MDs decide for a task window.

    Attributes:
        scenario: Its ``arrival_rate_hz`` and ``deadline_ms``, or those of its groups, hold.
        arrivals: ``poisson``; ``bursts``, of a process that switches between two rates; the path of
            a CSV file ``time_s,device``; or ``none``: all tasks are there at the start.
        horizon_ms: When an episode is cut.
        burst_factor: How many times the mean rate a burst has.
        burst_share: Share of the time in bursts.
        burst_mean_ms: Mean length of a burst.
        delay_weight: What the reward takes off for a ms that a task waited, on average over those
            begun in the step that came after the episode's start.
        deadline_weight: What it takes off for the share of the finished tasks that were late.

    Raises:
        MecError: A value is of the wrong type or out of its range.
    """

    env_id = "mec_task_stream_v0"
    step_name = "task window"
    can_simulate = False
    waits_for_all = False
    tasks_arrive = True
    vector_env = VectorTaskStream

    arrivals: str = arrivals.POISSON
    horizon_ms: float = 10_000.0
    burst_factor: float = 4.0
    burst_share: float = 0.1
    burst_mean_ms: float = 500.0
    delay_weight: float = 1.0
    deadline_weight: float = 50.0

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("horizon_ms", "burst_factor", "burst_share", "burst_mean_ms"):
            object.__setattr__(self, name, positive_number(name, getattr(self, name)))
        for name in ("delay_weight", "deadline_weight"):
            object.__setattr__(self, name, checked(name, getattr(self, name), NonNegative))
        if self.burst_share >= 1.0:
            raise MecError(f"burst_share must be below 1, but is {self.burst_share:g}")
        if self.burst_factor < 1.0 or self.burst_factor * self.burst_share > 1.0:
            raise MecError(
                f"burst_factor must lie in [1, {1 / self.burst_share:g}], 1 over burst_share, "
                f"but is {self.burst_factor:g}"
            )
        arrivals.check_arrivals(self.arrivals, self.scenario.num_devices)

    @property
    def deadlines_ms(self) -> np.ndarray:
        """What a task of every MD may take, ``(N,)``; ``inf`` where it has no deadline."""
        given = [device.deadline_ms for device in self.scenario.mobile_devices]
        return np.array([np.inf if value is None else value for value in given])

    @property
    def usual_tasks(self) -> int | tuple[int, ...] | None:
        """As the base class's where no task comes later; else none are there at the start."""
        return super().usual_tasks if self.arrivals == arrivals.NONE else None

    @property
    def measures(self) -> tuple[str, ...]:
        """Of the times from when tasks come to when they are done; see the base class."""
        return measures_of(self.deadlines_ms)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Says where more arrives than any policy can serve; see the base class."""
        load = arrivals.least_load(self.scenario, self.arrivals)
        if load <= 1.0:
            return ()
        return (
            f"no policy can serve these arrivals: at best the load is ρ = {load:.2f} of what the "
            "devices and servers can do together, and queues grow to the horizon",
        )

    def draw_tasks(self, draw: Draw) -> np.ndarray:
        """Tasks of every MD at an episode's start: none, but where all are there, as in windows.

        Args:
            draw: Random numbers of the episode's first step.

        Returns:
            ``(B, N)`` int.
        """
        if self.arrivals == arrivals.NONE:
            return draws.draw_tasks(draw, self.scenario)
        return np.zeros((len(draw.keys), draw.num_devices), dtype=np.int64)

    def draw_arrivals(self, draw: Draw) -> np.ndarray:
        """When the other tasks of an episode come: a law like the base class's.

        Args:
            draw: Random numbers of the episode's first step, of the worlds that begin one.

        Returns:
            ``(B, N, K)``, ms since the episode's start, not falling; ``inf`` at the end.
        """
        return arrivals.draw_arrivals(
            draw,
            self.scenario,
            self.arrivals,
            self.horizon_ms,
            self.burst_factor,
            self.burst_share,
            self.burst_mean_ms,
        )

    @property
    def observation_layout(self) -> ObservationLayout:
        """As the base class's, and the parts of :func:`~.observation.encode_coming` behind it."""
        return super().observation_layout.plus(
            **observation.coming_sizes(self.scenario, self._varies)
        )

    @property
    def _varies(self) -> bool:
        """Whether more comes at some times than at others."""
        return self.arrivals not in (arrivals.NONE, arrivals.POISSON)

    def observe(self, state: State) -> np.ndarray:
        """As the base class's, and what is known of tasks in flight and to come behind it."""
        coming = observation.encode_coming(state, self.scenario, self._varies)
        return np.concatenate([super().observe(state), coming], axis=1)

    def task_rewards(self, outcome: FlowOutcome) -> np.ndarray:
        """Eq. (8), and what delays and late tasks cost; see the base class."""
        return reward.flow_rewards(outcome, self.scenario, self.delay_weight, self.deadline_weight)

    def __str__(self) -> str:
        """What a table says of it, besides the scenario."""
        how = self.arrivals if self.arrivals in arrivals.LAWS else "trace"
        rate_hz = arrivals.rates_hz(self.scenario, self.arrivals).mean()
        return (
            f"task windows of up to {self.scenario.max_window}, arrivals {how}, "
            f"{rate_hz:.3g} tasks/s an MD for {self.horizon_ms / 1e3:g} s"
        )
