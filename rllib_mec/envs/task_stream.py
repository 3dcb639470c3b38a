"""The MDP of tasks that arrive: whenever an MD is ready, all MDs decide for a task window."""

from __future__ import annotations

import dataclasses

import numpy as np

from rllib_mec.envs import arrivals, draws, observation, presence, reward
from rllib_mec.envs.draws import Draw
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import ObservationLayout, State
from rllib_mec.envs.sojourn import measures_of
from rllib_mec.envs.stream_worlds import VectorTaskStream
from rllib_mec.errors import MecError
from rllib_mec.network.checks import NonNegative, checked, positive_number
from rllib_mec.network.consistency import check_used
from rllib_mec.network.tasks import FlowOutcome

_POSITIVE = (
    "horizon_ms", "burst_factor", "burst_share", "burst_mean_ms", "server_up_ms", "device_up_ms",
    "stay_ms",
)  # fmt: skip
_NOT_NEGATIVE = (
    "delay_weight", "deadline_weight", "server_down_ms", "device_down_ms", "present_share",
)  # fmt: skip

_MOST_EVENTS = 10_000_000
"""So many tasks of an MD, bursts or outages of a part an episode may have on average."""


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
        outages: When servers and MDs fail and come back: ``none``; ``random``, with times up and
            down that are exponential; or the path of a CSV file ``part,from_s,to_s``.
        server_up_ms: Mean time that a server is up.
        server_down_ms: Mean time that it is down; 0: servers do not fail.
        device_up_ms: Mean time that an MD is up.
        device_down_ms: Mean time that it is down; 0: MDs do not fail.
        visits: When MDs join and leave: ``none``; ``random``; or the path of a CSV file
            ``device,join_s,leave_s``.
        present_share: Share of the MDs that are there from the start; the others join at any time.
        stay_ms: Mean stay of an MD, exponential.

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
    outages: str = presence.NONE
    server_up_ms: float = 60_000.0
    server_down_ms: float = 5_000.0
    device_up_ms: float = 60_000.0
    device_down_ms: float = 0.0
    visits: str = presence.NONE
    present_share: float = 0.5
    stay_ms: float = 10_000.0

    def __post_init__(self) -> None:
        """Check the values."""
        for name in _POSITIVE:
            object.__setattr__(self, name, positive_number(name, getattr(self, name)))
        for name in _NOT_NEGATIVE:
            object.__setattr__(self, name, checked(name, getattr(self, name), NonNegative))
        if self.present_share > 1.0:
            raise MecError(f"present_share must be at most 1, but is {self.present_share:g}")
        if self.burst_share >= 1.0:
            raise MecError(f"burst_share must be below 1, but is {self.burst_share:g}")
        if self.burst_factor < 1.0 or self.burst_factor * self.burst_share > 1.0:
            raise MecError(
                f"burst_factor must lie in [1, {1 / self.burst_share:g}], 1 over burst_share, "
                f"but is {self.burst_factor:g}"
            )
        arrivals.check_arrivals(self.arrivals, self.scenario.num_devices)
        presence.check_presence(self.outages, self.visits, self.scenario)
        check_used(self, {**arrivals.USED_BY, **presence.USED_BY})
        self._check_lengths()
        if self.outages != presence.NONE and not self.scenario.runs_whole.all():
            raise MecError(
                "outages must be none where memory_mb keeps an MD from its whole DNN, which it "
                f"runs by itself when no server is up, but is {self.outages!r}"
            )

    def _check_lengths(self) -> None:
        """Refuse episodes of which what happens at random would neither fit memory nor end."""
        rates_hz = arrivals.rates_hz(self.scenario, self.arrivals)
        mean_ms = {}
        if self.arrivals in arrivals.LAWS and rates_hz.any():
            mean_ms["the arrival_rate_hz"] = 1e3 / rates_hz.max()
        if self.arrivals == arrivals.BURSTS:
            mean_ms["burst_mean_ms and burst_share"] = self.burst_mean_ms / self.burst_share
        if self.outages == presence.RANDOM:
            for kind in ("server", "device"):
                up_ms, down_ms = (getattr(self, f"{kind}_{way}_ms") for way in ("up", "down"))
                if down_ms > 0.0:
                    mean_ms[f"{kind}_up_ms and {kind}_down_ms"] = up_ms + down_ms
        for names, each_ms in mean_ms.items():
            if self.horizon_ms > _MOST_EVENTS * each_ms:
                raise MecError(
                    f"horizon_ms must be at most {_MOST_EVENTS * each_ms:g} with {names} given, or "
                    f"too much happens in an episode, but is {self.horizon_ms:g}"
                )

    @property
    def deadlines_ms(self) -> np.ndarray:
        """As the scenario or its groups say; see the base class."""
        return self.scenario.deadlines_ms

    @property
    def usual_tasks(self) -> int | tuple[int, ...] | None:
        """As the base class's where no task comes later; else none are there at the start."""
        return super().usual_tasks if self.arrivals == arrivals.NONE else None

    @property
    def measures(self) -> tuple[str, ...]:
        """Of the times from when tasks come to when they are done; see the base class."""
        abandoned = () if self.visits == presence.NONE else ("abandoned",)
        return (*measures_of(self.deadlines_ms), *abandoned)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Says where more arrives than any policy can serve; see the base class."""
        load = arrivals.least_load(self.scenario, self.arrivals)
        if load <= 1.0:
            return super().remarks
        return (
            *super().remarks,
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
    def varies_in_presence(self) -> bool:
        """Whether something fails, or MDs join and leave."""
        return {self.outages, self.visits} != {presence.NONE}

    def draw_server_outages(self, draw: Draw) -> np.ndarray:
        """When the servers fail and come back: a law like the base class's.

        It is asked only where :attr:`outages` or :attr:`visits` is set.

        Args:
            draw: Random numbers of the episode's first step, of the worlds that begin one.

        Returns:
            Changes of each server, up at first, ``(B, M, K)``, ms since the episode's start.
        """
        times = (self.server_up_ms, self.server_down_ms, self.horizon_ms)
        return presence.draw_outages(draw, "servers", self.scenario, self.outages, *times)

    def draw_device_outages(self, draw: Draw) -> np.ndarray:
        """When the MDs fail and come back, ``(B, N, K)``; see :meth:`draw_server_outages`.

        Args:
            draw: Likewise.
        """
        times = (self.device_up_ms, self.device_down_ms, self.horizon_ms)
        return presence.draw_outages(draw, "devices", self.scenario, self.outages, *times)

    def draw_visits(self, draw: Draw) -> np.ndarray:
        """When the MDs join and leave, once each: a law like the base class's.

        It is asked only where :attr:`outages` or :attr:`visits` is set.

        Args:
            draw: Random numbers of the episode's first step, of the worlds that begin one.

        Returns:
            ``(B, N, 2)``, ms since the episode's start; ``inf`` where an MD never does.
        """
        return presence.draw_visits(
            draw, self.scenario, self.visits, self.present_share, self.stay_ms, self.horizon_ms
        )

    @property
    def observation_layout(self) -> ObservationLayout:
        """As the base class's, and the parts of :func:`~.observation.encode_coming` behind it.

        Where something fails or MDs join and leave, 1 of each server and each MD that is up.
        """
        sizes = observation.coming_sizes(self.scenario, self._varies)
        if self.varies_in_presence:
            scenario = self.scenario
            sizes |= {"servers_up": scenario.num_servers, "devices_up": scenario.num_devices}
        return super().observation_layout.plus(**sizes)

    @property
    def masked_heads(self) -> tuple[str, ...]:
        """As the base class's, and the servers where some may be down."""
        return (*super().masked_heads, *(("server",) if self.varies_in_presence else ()))

    @property
    def _varies(self) -> bool:
        """Whether more comes at some times than at others."""
        return self.arrivals not in (arrivals.NONE, arrivals.POISSON)

    def observe(self, state: State) -> np.ndarray:
        """As the base class's, and what is known of tasks in flight and to come behind it."""
        parts = [
            super().observe(state),
            observation.encode_coming(state, self.scenario, self._varies),
        ]
        if self.varies_in_presence:
            parts += observation.encode_present(state, self.scenario)
        return np.concatenate(parts, axis=1, dtype=np.float32)

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
