"""Who takes part in an episode, and when: parts that fail and come back, MDs that join and leave.

As :mod:`rllib_mec.envs.arrivals` for tasks: the processes by name, and what worlds keep of them.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from rllib_mec.envs.draws import Draw
from rllib_mec.network import outages, traces
from rllib_mec.network.consistency import UsedBy
from rllib_mec.network.scenario import Scenario

NONE, RANDOM = "none", "random"

LAWS = (NONE, RANDOM)
"""Names of laws; anything else is the path of a trace."""

USED_BY: UsedBy = {
    **dict.fromkeys(
        ("server_up_ms", "server_down_ms", "device_up_ms", "device_down_ms"), ("outages", (RANDOM,))
    ),
    **dict.fromkeys(("present_share", "stay_ms"), ("visits", (RANDOM,))),
}
"""Field -> the field that chooses, and the choices that read it; with others it is refused."""


def check_presence(outages_given: object, visits_given: object, scenario: Scenario) -> None:
    """Check the names of laws, or that traces can be read from any folder.

    Args:
        outages_given: What was given for ``outages``.
        visits_given: What was given for ``visits``.
        scenario: Says how many there are.

    Raises:
        MecError: It is neither.
    """
    if traces.check_choice("outages", outages_given, LAWS):
        outages.read_outages(str(outages_given), scenario.num_servers, scenario.num_devices)
    if traces.check_choice("visits", visits_given, LAWS):
        outages.read_visits(str(visits_given), scenario.num_devices)


def draw_outages(
    draw: Draw, kind: str, scenario: Scenario, law: str, up_ms: float, down_ms: float,
    horizon_ms: float,
) -> np.ndarray:  # fmt: skip
    """When the servers or the MDs fail and come back.

    Args:
        draw: Of the episodes.
        kind: ``servers`` or ``devices``.
        scenario: Says how many there are.
        law: One of :data:`LAWS`, or the path of a trace.
        up_ms: Mean time up.
        down_ms: Mean time down.
        horizon_ms: Nothing changes after it.

    Returns:
        Changes, ``(B, P, K)``, ms; see :mod:`rllib_mec.network.outages`.
    """
    is_server = kind == "servers"
    count = scenario.num_servers if is_server else scenario.num_devices
    if law == NONE:
        return np.empty((len(draw.keys), count, 0))
    if law != RANDOM:
        changes_ms = outages.read_outages(law, scenario.num_servers, scenario.num_devices)
        own = changes_ms[0 if is_server else 1]
        return np.broadcast_to(own, (len(draw.keys), *own.shape[1:]))
    first = 0 if is_server else scenario.num_servers
    each = (np.full(count, up_ms), np.full(count, down_ms))
    return outages.random_outages(draw.episode_keys, first, *each, horizon_ms)


def draw_visits(
    draw: Draw, scenario: Scenario, law: str, present_share: float, stay_ms: float,
    horizon_ms: float,
) -> np.ndarray:  # fmt: skip
    """When every MD joins and leaves.

    Args:
        draw: Of the episodes.
        scenario: Says how many MDs there are.
        law: One of :data:`LAWS`, or the path of a trace.
        present_share: The chance that an MD is there from the start.
        stay_ms: The mean stay.
        horizon_ms: MDs join before it.

    Returns:
        ``(B, N, 2)``, ms since the episode's start; ``inf`` where it never does.
    """
    shape = (len(draw.keys), scenario.num_devices, 2)
    if law == NONE:
        return np.broadcast_to([0.0, np.inf], shape)
    if law != RANDOM:
        return np.broadcast_to(outages.read_visits(law, scenario.num_devices), shape)
    return outages.random_visits(
        draw.episode_keys, scenario.num_devices, present_share, stay_ms, horizon_ms
    )


class Present(NamedTuple):
    """Who is there at an instant, in B worlds.

    Attributes:
        servers_up: Which servers are up, ``(B, M)`` bool.
        devices_up: Which MDs are there and up, ``(B, N)`` bool.
        joined: Which MDs are there, up or not, ``(B, N)`` bool.
    """

    servers_up: np.ndarray
    devices_up: np.ndarray
    joined: np.ndarray


@dataclasses.dataclass
class Presence:
    """When who is there in the present episodes of B worlds.

    Attributes:
        servers_ms: Changes of the servers, ``(B, M, K)``.
        devices_ms: Changes of the MDs, ``(B, N, K)``.
        visits_ms: When the MDs join and leave, ``(B, N, 2)``.
    """

    servers_ms: np.ndarray
    devices_ms: np.ndarray
    visits_ms: np.ndarray

    @classmethod
    def always(cls, num_envs: int, num_devices: int, num_servers: int) -> Presence:
        """Nothing fails, nobody leaves.

        Args:
            num_envs: B.
            num_devices: N.
            num_servers: M.
        """
        visits_ms = np.tile([0.0, np.inf], (num_envs, num_devices, 1))
        return cls(
            np.empty((num_envs, num_servers, 0)), np.empty((num_envs, num_devices, 0)), visits_ms
        )

    def begin(
        self, worlds: np.ndarray, servers_ms: np.ndarray, devices_ms: np.ndarray,
        visits_ms: np.ndarray,
    ) -> None:  # fmt: skip
        """Take what was drawn for some worlds' new episodes.

        Args:
            worlds: Their numbers, ``(E,)``.
            servers_ms: As the attribute, of these worlds.
            devices_ms: Likewise.
            visits_ms: Likewise.
        """
        self.servers_ms = _replaced(self.servers_ms, worlds, servers_ms)
        self.devices_ms = _replaced(self.devices_ms, worlds, devices_ms)
        self.visits_ms[worlds] = visits_ms

    def at(self, now_ms: np.ndarray) -> Present:
        """Who is there now.

        Args:
            now_ms: The time in each world, ``(B,)``.
        """
        joined = ~outages.is_up(self.visits_ms, now_ms)
        return Present(
            servers_up=outages.is_up(self.servers_ms, now_ms),
            devices_up=outages.is_up(self.devices_ms, now_ms) & joined,
            joined=joined,
        )

    def next_change(self, now_ms: np.ndarray) -> np.ndarray:
        """When who is there changes next, ``(B,)``.

        Args:
            now_ms: The time in each world, ``(B,)``.
        """
        every = (self.servers_ms, self.devices_ms, self.visits_ms)
        return np.min([outages.next_change(each, now_ms) for each in every], axis=0)

    def next_joined(self, now_ms: np.ndarray) -> np.ndarray:
        """From when on an MD is there, ``(B,)``: now, or later, or ``inf``.

        Args:
            now_ms: The time in each world, ``(B,)``.
        """
        joins_ms = outages.next_change(self.visits_ms[..., :1], now_ms)
        return np.where(self.at(now_ms).joined.any(1), now_ms, joins_ms)


def _replaced(every: np.ndarray, worlds: np.ndarray, own: np.ndarray) -> np.ndarray:
    """``every`` with the changes of some worlds, with room for all of them."""
    more = own.shape[2] - every.shape[2]
    if more > 0:
        every = np.pad(every, ((0, 0), (0, 0), (0, more)), constant_values=np.inf)
    every[worlds] = np.inf
    every[worlds, :, : own.shape[2]] = own
    return every
