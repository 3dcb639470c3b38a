"""Rules of practitioners: Neurosurgeon, round robin, join the shortest queue, deadline first.

They need no search and no training, and each looks at one thing only: Neurosurgeon at a device and
its link, round robin at whose turn it is, the shortest queue at the servers, deadline first at who
has least time left. All cut where Neurosurgeon does.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rllib_mec.compiled import compiled
from rllib_mec.envs.actions import power_w
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import State
from rllib_mec.envs.task_window import as_mdp
from rllib_mec.errors import MecError
from rllib_mec.network.path_loss import mean_gains
from rllib_mec.network.radio import rate_bps
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies.policy import Policy

_NUM_POWERS = 31


class _Cuts(NamedTuple):
    """What every MD would do alone in the network, for each kind of channel and server.

    Attributes:
        partition: Partition points, ``(B, N, channel kinds, server kinds)`` int.
        power: Power actions, likewise.
        latency_ms: Of a task, likewise.
    """

    partition: np.ndarray
    power: np.ndarray
    latency_ms: np.ndarray


class Heuristic(Policy):
    """Places tasks by a rule, and cuts each where its MD alone would: Neurosurgeon's static cut.

    That is the partition point and the power at which a task's latency and β times its energy are
    least for an MD that has channel and server to itself, at its distance and without shadowing;
    of the path losses with a line of sight and without, with their mean in dB.
    """

    def decide(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Place and cut all tasks; windows are as large as they may be; see the base class."""
        state = self.mdp.decode(np.asarray(observation))
        # Cuts are static: worlds where all MDs stand alike share them.
        distances_m, index = np.unique(state.distances_m, axis=0, return_inverse=True)
        cuts = _Cuts(*(values[index.ravel()] for values in self._cuts(distances_m)))
        most = np.minimum(state.queues, self.scenario.of_devices("max_window"))
        is_task = np.arange(self.scenario.max_window) < most[..., None]
        channel, server = self._place(cuts, is_task, state)
        world, device = np.ogrid[: len(observation), : self.scenario.num_devices]
        world, device = world[..., None], device[..., None]
        at = (world, device, self._channel_kinds[1][channel], self._server_kinds[1][server])
        return {
            "partition": cuts.partition[at],
            "channel": channel,
            "server": server,
            "power": cuts.power[at],
            "window": np.broadcast_to(self._largest_windows - 1, most.shape).copy(),
        }

    @cached_property
    def _largest_windows(self) -> np.ndarray:
        """The most tasks of each MD in a window, ``(N,)``; more than it may have means those."""
        return np.full(self.scenario.num_devices, self.scenario.max_window)

    @abc.abstractmethod
    def _place(
        self, cuts: _Cuts, is_task: np.ndarray, state: State
    ) -> tuple[np.ndarray, np.ndarray]:
        """Channels and servers.

        Args:
            cuts: Where tasks would be cut.
            is_task: Whether there is a task, ``(B, N, W_max)``.
            state: As far as observations tell.

        Returns:
            Both ``(B, N, W_max)`` int.
        """

    def _in_turn(self, order: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Channels and servers dealt in turn."""
        scenario = self.scenario
        channel, server = order % scenario.num_channels, order % scenario.num_servers
        return np.broadcast_to(channel, shape).copy(), np.broadcast_to(server, shape).copy()

    @cached_property
    def _channel_kinds(self) -> tuple[list[int], np.ndarray]:
        return _kinds(self.scenario.radio_channels)

    @cached_property
    def _server_kinds(self) -> tuple[list[int], np.ndarray]:
        return _kinds(self.scenario.mec_servers)

    def _cuts(self, distances_m: np.ndarray) -> _Cuts:
        scenario = self.scenario
        gain = mean_gains(distances_m, scenario)
        actions = np.linspace(0.0, 1.0, _NUM_POWERS)
        watts = power_w(np.tile(actions, (scenario.num_devices, 1)), scenario)
        channels, servers = (
            np.array(kinds[0]) for kinds in (self._channel_kinds, self._server_kinds)
        )
        shape = (*gain.shape, len(channels), len(servers))
        cuts = _Cuts(np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(shape))
        _cut_alone(
            gain, actions, watts, channels, servers, scenario.physics, scenario.energy_weight, cuts
        )
        return cuts


@compiled
def _cut_alone(gain, actions, watts, channels, servers, physics, energy_weight, cuts):
    """Fill in the cuts at which latency and β times energy of a task alone are least."""
    radio = physics.radio
    min_sinr = 2.0**radio.min_efficiency - 1.0
    for b, n, i, j in np.ndindex(cuts.partition.shape):
        c, m = channels[i], servers[j]
        work = physics.stage_work[n]
        local, bits, served, kept = work[0], work[1], work[physics.servers.row[m]], work[3]
        least = math.inf
        for q in range(len(actions)):
            rate = rate_bps(
                watts[n, q] * gain[b, n], 0.0,
                radio.bandwidth_hz[c], radio.noise_w[c], radio.min_efficiency, min_sinr,
            )  # fmt: skip
            for point in range(min(physics.full_local[n] + 1, len(local))):
                seconds = bits[point] / rate
                latency_ms = local[point]
                if point < physics.full_local[n]:
                    away_ms = radio.ms_per_s * seconds + served[point] / physics.servers.speed[m]
                    latency_ms += max(kept[point], away_ms + physics.servers.delay_ms[m])
                energy_j = physics.local_energy_j[n, point] + watts[n, q] * seconds
                cost = latency_ms + energy_weight * energy_j
                if cost < least:
                    least = cost
                    cuts.partition[b, n, i, j] = point
                    cuts.power[b, n, i, j] = actions[q]
                    cuts.latency_ms[b, n, i, j] = latency_ms


class Neurosurgeon(Heuristic):
    """Every MD takes the best static cut for itself, as if it were alone (Kang et al. 2017).

    MDs are dealt to channels and servers in turn.
    """

    name = "neurosurgeon"

    def _place(
        self, cuts: _Cuts, is_task: np.ndarray, state: State
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._in_turn(np.arange(self.scenario.num_devices)[:, None], is_task.shape)


class RoundRobin(Heuristic):
    """Task after task is dealt to channels and servers in turn, as load balancers do by default."""

    name = "round robin"

    def _place(
        self, cuts: _Cuts, is_task: np.ndarray, state: State
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._in_turn(_dealt(is_task), is_task.shape)


class ShortestQueue(Heuristic):
    """Each task joins the server where it would be done first, after all that the server was given.

    Servers' queues are counted in work over their speed, and what the task would take alone comes
    on top. Tasks join in turn: every MD's first, then every MD's second. Channels are dealt as in
    round robin.
    """

    name = "shortest queue"

    def _place(
        self, cuts: _Cuts, is_task: np.ndarray, state: State
    ) -> tuple[np.ndarray, np.ndarray]:
        scenario, servers = self.scenario, self.scenario.physics.servers
        order = self._order(state)
        dealt = np.empty(is_task.shape, dtype=np.int64)
        in_order = _dealt(np.take_along_axis(is_task, order[..., None], axis=1))
        np.put_along_axis(dealt, order[..., None], in_order, axis=1)
        channel, server = self._in_turn(dealt, is_task.shape)
        channel = self._channels[channel]
        worlds, of_server = np.arange(len(is_task)), self._server_kinds[1]
        busy_ms = np.zeros((len(is_task), scenario.num_servers))
        for x in range(is_task.shape[2]):
            for n in order.T:
                of_channel = self._channel_kinds[1][channel[worlds, n, x]]
                alone_ms = cuts.latency_ms[worlds, n, of_channel][:, of_server]
                joined = (busy_ms + alone_ms).argmin(1)
                point = cuts.partition[worlds, n, of_channel, of_server[joined]]
                served = scenario.physics.stage_work[n, servers.row[joined], point]
                work_ms = served / servers.speed[joined]
                server[worlds, n, x] = joined
                busy_ms[worlds, joined] += np.where(is_task[worlds, n, x], work_ms, 0.0)
        return channel, server

    def _order(self, state: State) -> np.ndarray:
        """Who joins before whom, ``(B, N)`` int."""
        return np.tile(np.arange(self.scenario.num_devices), (len(state.queues), 1))

    @cached_property
    def _channels(self) -> np.ndarray:
        """In which order the channels are dealt, ``(C,)`` int."""
        return np.arange(self.scenario.num_channels)


class DeadlineFirst(ShortestQueue):
    """Who has least time left for its oldest task goes first: earliest deadline first.

    The MDs join servers as by the shortest queue, but in the order of the slack of their oldest
    tasks at hand: the deadline less how long it has waited. In that order they are dealt the
    channels too, the widest first. An MD with deadlines does one task at a time, so that who is
    urgent by then goes first again; MDs without come last, and without a task at hand after them.

    Args:
        where: An MDP in which tasks arrive, some with deadlines.

    Raises:
        MecError: There are none.
    """

    name = "deadline first"

    def __init__(self, where: MDP | Scenario):
        """Find the deadlines."""
        mdp = as_mdp(where)
        self._deadlines_ms = mdp.deadlines_ms
        if not np.isfinite(self._deadlines_ms).any():
            raise MecError(
                f"deadline first needs deadlines, which tasks have that arrive "
                f"(mec_task_stream_v0 with deadline_ms), but {mdp.env_id} has none here: "
                "without, it would be the shortest queue"
            )
        super().__init__(mdp)

    @cached_property
    def _largest_windows(self) -> np.ndarray:
        return np.where(np.isfinite(self._deadlines_ms), 1, self.scenario.max_window)

    def _order(self, state: State) -> np.ndarray:
        waited_ms = 0.0 if state.coming is None else state.coming.oldest_ms
        slack_ms = np.where(state.queues > 0, self._deadlines_ms - waited_ms, np.inf)
        return np.lexsort((state.queues == 0, slack_ms), axis=1)

    @cached_property
    def _channels(self) -> np.ndarray:
        return np.argsort(-self.scenario.physics.radio.bandwidth_hz, kind="stable")


def _dealt(is_task: np.ndarray) -> np.ndarray:
    """How many tasks are dealt before each: every MD's first, then every MD's second."""
    in_order = is_task.transpose(0, 2, 1)
    before = np.cumsum(in_order.reshape(len(is_task), -1), axis=1).reshape(in_order.shape)
    return before.transpose(0, 2, 1) - is_task


def _kinds(members: Sequence[Hashable]) -> tuple[list[int], np.ndarray]:
    """The first of each kind, and of which kind every member is."""
    first: dict[Hashable, int] = {}
    for i, member in enumerate(members):
        first.setdefault(member, i)
    index = {member: kind for kind, member in enumerate(first)}
    return list(first.values()), np.array([index[member] for member in members])
