"""Batches of worlds to which tasks come: a step is a window of the MDs that are ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_mec.envs import arrivals, laws
from rllib_mec.envs.actions import Actions, power_w
from rllib_mec.envs.draws import Draw
from rllib_mec.envs.observation import Coming, State
from rllib_mec.envs.presence import Presence
from rllib_mec.envs.sojourn import measure
from rllib_mec.envs.vector import Seed, VectorEnv, VectorStep
from rllib_mec.network.flow import play_flow
from rllib_mec.network.outages import fail_over, next_up
from rllib_mec.network.slots import Flight
from rllib_mec.network.stages import SAME_INSTANT
from rllib_mec.network.tasks import FlowOutcome, Tasks, count_waiting
from rllib_mec.network.threads import worlds_of

if TYPE_CHECKING:
    from rllib_mec.envs.task_stream import TaskStreamMDP


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
    _presence: Presence

    @property
    def state(self) -> State:
        """What the worlds are at, with the tasks in flight and what is known of those to come."""
        left = np.maximum(1.0 - self._clock_ms / self.mdp.horizon_ms, 0.0)
        coming = Coming(self._oldest_ms, self._recent, left, self._now)
        return State(self._queues, self._distances, self._flight, coming)

    @property
    def joined(self) -> np.ndarray:
        """Which MDs are there, ``(B, N)`` bool; see the base class."""
        return self._now.joined.copy()

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
        self._presence = Presence.always(*shape, self.scenario.num_servers)
        self._look()
        self._abandoned = np.zeros(self.num_envs, dtype=np.int64)
        return super().reset(seed)

    def _begin_step(self, is_first: np.ndarray) -> None:
        super()._begin_step(is_first)
        self._settle()
        self._count()

    def _begin_episodes(self, worlds: np.ndarray) -> None:
        """Draw the arrivals of some worlds too, and let time run until the first MD is ready."""
        super()._begin_episodes(worlds)
        draw = self._draw_of(worlds)
        if self.mdp.varies_in_presence:
            self._presence.begin(worlds, *laws.presence(self.mdp, draw))
        drawn_ms = self._arrivals(worlds, draw)
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
        self._abandoned[worlds] = 0
        first_ms = self._tasks.arrival_ms[worlds, :, 0].min(1)
        self._clock_ms[worlds] = np.minimum(first_ms, self.mdp.horizon_ms)

    def _draw_of(self, worlds: np.ndarray) -> Draw:
        """The random numbers of some worlds' first steps."""
        start = np.zeros(len(worlds))
        return Draw.at(self._seeds[worlds], self._counters[worlds], start, self.num_devices)

    def _arrivals(self, worlds: np.ndarray, draw: Draw) -> np.ndarray:
        """When the tasks of some worlds come, with those at the start, ``(worlds, N, K)``.

        An MD that joins later brings its tasks of the start along; nothing comes to who is not
        there.
        """
        times = laws.times(self.mdp, "draw_arrivals", (len(worlds), self.num_devices), draw)
        joins_ms, leaves_ms = np.moveaxis(self._presence.visits_ms[worlds], 2, 0)[..., None]
        at_start = self._queues[worlds][..., None]
        first = np.where(np.arange(at_start.max(initial=0)) < at_start, joins_ms, np.inf)
        times = np.where(times >= joins_ms, times, np.inf)
        every = np.concatenate([first, times], axis=2)
        every = np.where(every < np.minimum(leaves_ms, self.mdp.horizon_ms), every, np.inf)
        every.sort(axis=2)
        return every[..., : max(int(np.isfinite(every).sum(2).max(initial=0)), 1)]

    def _look(self) -> None:
        """See who is there now."""
        self._now = self._presence.at(self._clock_ms)
        self._next_server = next_up(self._now.servers_up)

    def _settle(self) -> None:
        """Bring tasks to what is left of the network where it has changed."""
        if not self.mdp.varies_in_presence:
            return
        self._look()
        arrival_ms, begun = self._tasks.arrival_ms, self._tasks.begun
        fail_over(self._flight, begun, self._now.devices_up, self._next_server, self._physics)
        has_left = self._presence.visits_ms[..., 1] <= self._clock_ms[:, None] * SAME_INSTANT
        left_behind = self._to_come() & has_left[..., None]
        self._abandoned += left_behind.sum((1, 2))
        arrival_ms[left_behind] = np.inf

    def _to_come(self) -> np.ndarray:
        """Which tasks are not begun, ``(B, N, K)`` bool."""
        arrival_ms, _, begun = self._tasks
        return (np.arange(arrival_ms.shape[2]) >= begun[..., None]) & np.isfinite(arrival_ms)

    def _count(self) -> None:
        """Count the tasks at hand."""
        self._recent = np.zeros_like(self._oldest_ms)
        self._oldest_ms = np.zeros_like(self._oldest_ms)
        count_waiting(self._tasks, self._clock_ms, self._queues, self._oldest_ms, self._recent)

    def _play(self, actions: Actions) -> VectorStep:
        mdp, shape = self.mdp, (self.num_envs, self.num_devices)
        until_ms = np.full(self.num_envs, mdp.horizon_ms)
        partition, channel, server = actions.partition, actions.channel, actions.server
        if mdp.varies_in_presence:
            until_ms = np.minimum(until_ms, self._presence.next_change(self._clock_ms))
            partition, server = self._reachable(actions)
        windows = np.minimum(actions.window + 1, self._max_windows) * self._now.devices_up
        outcome = FlowOutcome.of(*shape, self.max_window, self.num_points)
        was_flying = self._flight.stage > 0
        power, gain = power_w(actions.power, self.scenario), self._gains()

        def play(worlds: slice) -> None:
            play_flow(
                self._clock_ms[worlds], until_ms[worlds], mdp.arrivals == arrivals.NONE,
                worlds_of(self._tasks, worlds), worlds_of(self._flight, worlds), windows[worlds],
                partition[worlds], channel[worlds], server[worlds], power[worlds],
                self._deadlines_ms, gain[worlds], self._physics, worlds_of(outcome, worlds),
            )  # fmt: skip

        self._in_threads(play)
        in_order = np.arange(self.max_window + 1) - was_flying[..., None]  # -1: the last column
        step = self._judged(
            outcome,
            np.arange(self.max_window) < outcome.num_tasks[..., None],
            outcome.waiting_ms,
            window_size=outcome.num_done,
            stage_ends=np.take_along_axis(outcome.stage_ends, in_order[..., None], axis=2),
            starts=np.take_along_axis(outcome.starts, in_order, axis=2),
            elapsed_ms=outcome.elapsed_ms,
            terminated=outcome.is_over,
            truncated=outcome.is_cut & (until_ms >= mdp.horizon_ms),
        )
        return self._with_pause(step) if mdp.varies_in_presence else step

    def _with_pause(self, step: VectorStep) -> VectorStep:
        """Let time run on to who comes next where nobody is there; the last to leave ends it."""
        end_ms = self._clock_ms + step.elapsed_ms
        next_ms = self._presence.next_joined(end_ms)
        is_over = np.isinf(next_ms)
        until_ms = np.where(is_over, end_ms, np.minimum(next_ms, self.mdp.horizon_ms))
        return step._replace(
            elapsed_ms=step.elapsed_ms + (until_ms - end_ms),
            terminated=step.terminated | is_over,
            truncated=(step.truncated | (next_ms >= self.mdp.horizon_ms)) & ~is_over,
        )

    def _reachable(self, actions: Actions) -> tuple[np.ndarray, np.ndarray]:
        """Partition points and servers: who chose a server that is out gets the next.

        If all are out, tasks run fully on their MDs.
        """
        shape = actions.server.shape
        flat = actions.server.reshape(self.num_envs, -1)
        server = np.take_along_axis(self._next_server, flat, axis=1).reshape(shape)
        partition = np.where(server < 0, self.scenario.full_local, actions.partition)
        return partition, np.maximum(server, 0)

    def _moved_on(self, step: VectorStep) -> VectorStep:
        self._clock_ms[step.truncated] = self.mdp.horizon_ms
        self._settle()
        self._count()
        if self.mdp.varies_in_presence and self.mdp.arrivals == arrivals.NONE:
            # The last tasks may have been left behind.
            is_over = ~(self._to_come().any((1, 2)) | self._flight.stage.any(1))
            step = step._replace(terminated=step.terminated | (is_over & ~step.truncated))
        ended = np.flatnonzero(step.ended)
        tasks = Tasks(*(values[ended] for values in self._tasks))
        clock_ms, waiting = self._clock_ms[ended], self._queues[ended]
        measured = measure(tasks, self._deadlines_ms, clock_ms, waiting)
        if "abandoned" in self.mdp.measures:
            measured["abandoned"] = self._abandoned[ended].astype(float)
        return step._replace(measured=measured)

    def get_state(self) -> dict[str, Any]:
        """Everything that the worlds' future depends on, besides the actions."""
        own = {
            "flight": self._flight.copy()._asdict(),
            "tasks": self.tasks._asdict(),
            "presence": {k: v.copy() for k, v in vars(self._presence).items()},
            "abandoned": self._abandoned.copy(),
        }
        return {**super().get_state(), **own}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`get_state`, bit for bit; see the base class."""
        super().set_state(state)
        self._flight = Flight(**state["flight"]).copy()
        self._tasks = Tasks(**state["tasks"]).copy()
        self._presence = Presence(**{k: v.copy() for k, v in state["presence"].items()})
        self._abandoned = np.array(state["abandoned"])
        self._settle()
        self._count()
