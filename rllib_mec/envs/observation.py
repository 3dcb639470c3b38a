"""The observation: encoding, decoding, and where each part of it stands (Eq. 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import numpy as np
from gymnasium import spaces
from pydantic import Field

from rllib_mec.envs.actions import w_of_dbm
from rllib_mec.envs.presence import Present
from rllib_mec.errors import MecError, unknown
from rllib_mec.network.checks import Natural, checked
from rllib_mec.network.scenario import Scenario
from rllib_mec.network.slots import Flight, work_left


class Coming(NamedTuple):
    """What B worlds, in which tasks arrive, are at.

    Attributes:
        oldest_ms: How long the oldest task at hand of every MD has waited, ``(B, N)``.
        recent: Tasks that came to every MD in the last second, ``(B, N)``.
        left: Share of the episode that is left, ``(B,)``.
        present: Who is there, if not all of them.
    """

    oldest_ms: np.ndarray
    recent: np.ndarray
    left: np.ndarray
    present: Present | None = None


PartSize = Annotated[Natural, Field(le=10**7)]


class State(NamedTuple):
    """What B worlds are at.

    Attributes:
        queues: X_k, tasks left of every MD, ``(B, N)`` int.
        distances_m: d_k, distance of every MD to the base station, ``(B, N)``.
        flight: Tasks in flight, where a step may end with some.
        coming: What is known of tasks that arrive, where they do.
    """

    queues: np.ndarray
    distances_m: np.ndarray
    flight: Flight | None = None
    coming: Coming | None = None


@dataclasses.dataclass(frozen=True)
class ObservationLayout:
    """Named slices of an observation of the global state, one after the other.

    Attributes:
        sizes: Name and length of each part, in their order.

    Raises:
        MecError: It is no mapping of names to whole numbers.
    """

    sizes: Mapping[str, int]

    def __post_init__(self) -> None:
        """Check the sizes."""
        if not isinstance(self.sizes, Mapping):
            raise MecError(
                "the sizes of an ObservationLayout must be a mapping such as {'queues': 3}, "
                f"but are {self.sizes!r}"
            )
        for name in self.sizes:
            if not isinstance(name, str) or not name:
                raise MecError(f"a part of an observation must have a name, but has {name!r}")
        sizes = {n: checked(f"size of {n!r}", size, PartSize) for n, size in self.sizes.items()}
        object.__setattr__(self, "sizes", sizes)

    @property
    def size(self) -> int:
        """Numbers in an observation."""
        return sum(self.sizes.values())

    def __getitem__(self, name: str) -> slice:
        """Where a part stands.

        Args:
            name: Of the part.

        Raises:
            MecError: There is no such part.
        """
        start = 0
        for part, size in self.sizes.items():
            if part == name:
                return slice(start, start + size)
            start += size
        raise unknown("part of the observation", name, self.sizes)

    def plus(self, **sizes: int) -> ObservationLayout:
        """This layout with more parts at its end.

        Args:
            **sizes: Names and lengths.
        """
        return ObservationLayout({**self.sizes, **sizes})


def specification(scenario: Scenario) -> Mapping[str, np.ndarray]:
    """What tells unlike MDs, servers and channels apart; nothing of those that are equal.

    Args:
        scenario: The scenario.

    Returns:
        Name and values of each part: of the MDs ``local_latency`` of the whole DNN (s),
        ``server_latency`` L0 (s), ``input_bits`` (Mbit), ``local_energy`` of the whole DNN (J),
        ``max_power`` (W), ``max_window`` (of W_max), and where memory keeps some from full local
        ``least_bits`` at any cut that they can play (Mbit) and ``head_share``, that of the local
        work in the largest head that fits; of the servers ``server_speed`` with whole DNNs and
        ``server_delay`` (s); of the channels ``bandwidth`` (10 MHz) and ``noise`` (nW).
    """
    parts: dict[str, np.ndarray] = {}
    physics, unlike = scenario.physics, scenario.unlike
    if "devices" in unlike:
        parts |= {
            "local_latency": scenario.local_ms / 1e3,
            "server_latency": scenario.of_devices("server_latency_ms") / 1e3,
            "input_bits": physics.stage_work[:, 1, 0] / 1e6,
            "local_energy": scenario.local_j,
            "max_power": w_of_dbm(scenario.of_devices("max_power_dbm")),
            "max_window": scenario.of_devices("max_window") / scenario.max_window,
        }
        if not scenario.runs_whole.all():
            is_cut = np.arange(physics.num_points) < physics.full_local[:, None]
            least_bits = np.where(is_cut, physics.stage_work[:, 1], np.inf).min(1)
            parts["least_bits"] = least_bits / 1e6
            parts["head_share"] = physics.stage_work[:, 0, -1] / scenario.local_ms
    if "servers" in unlike:
        servers = physics.servers
        parts |= {"server_speed": physics.server_speeds, "server_delay": servers.delay_ms / 1e3}
    if "channels" in unlike:
        radio = physics.radio
        parts |= {"bandwidth": radio.bandwidth_hz / 1e7, "noise": radio.noise_w * 1e9}
    return parts


def layout_of(scenario: Scenario) -> ObservationLayout:
    """Where the parts of :func:`encode` stand.

    Args:
        scenario: The scenario.
    """
    num_devices = scenario.num_devices
    specified = {name: len(values) for name, values in specification(scenario).items()}
    return ObservationLayout({"queues": num_devices, "distances": num_devices, **specified})


def encode(state: State, scenario: Scenario) -> np.ndarray:
    """The global state S_k of Eq. (6): X_n/λ_n of all MDs, d_n/d_max of all MDs, what differs.

    Args:
        state: Of B worlds.
        scenario: Gives λ_n, d_max and the :func:`specification`.

    Returns:
        ``(B, layout_of(scenario).size)`` float32, ``(B, 2N)`` where all MDs, servers and channels
        are equal.
    """
    parts = [
        state.queues / scenario.of_devices("mean_tasks"),
        state.distances_m / scenario.distance_range_m[1],
        *(np.tile(v, (len(state.queues), 1)) for v in specification(scenario).values()),
    ]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def coming_sizes(scenario: Scenario, varies: bool) -> dict[str, int]:
    """Names and sizes of the parts of :func:`encode_coming`.

    Args:
        scenario: The scenario.
        varies: Whether more comes at some times than at others.
    """
    num_devices = scenario.num_devices
    sizes = {"progress": 3 * num_devices, "oldest": num_devices, "time_left": 1}
    numbers = scenario.of_devices("arrival_rate_hz"), scenario.deadlines_ms
    unlike = [bool((own != own[0]).any()) for own in numbers]
    own = {"arrival_rate": unlike[0], "urgency": unlike[1], "recent": varies}
    return sizes | {name: num_devices for name, is_there in own.items() if is_there}


def encode_coming(state: State, scenario: Scenario, varies: bool) -> np.ndarray:
    """What is seen where tasks arrive, besides :func:`encode`.

    ``progress`` is what is left of every MD's task in flight, as in time slots; ``oldest`` how long
    its oldest task at hand has waited, as log(1 + age over the latency of a local task);
    ``time_left`` the share of the episode that is left. Where MDs differ in it, ``arrival_rate`` is
    what comes over what an MD could do alone, and ``urgency`` the latency of a local task over
    the deadline; where more comes at some times than at others, ``recent`` is what came in the last
    second, like ``arrival_rate``.

    Args:
        state: Of B worlds; without ``flight`` or ``coming`` nothing is in flight or has waited.
        scenario: Gives latencies, rates and deadlines.
        varies: Whether more comes at some times than at others.

    Returns:
        ``(B, sum(coming_sizes(scenario, varies).values()))`` float32.
    """
    shape = state.queues.shape
    nothing = np.zeros(shape)
    coming = state.coming or Coming(nothing, nothing, np.ones(shape[0]))
    progress = np.zeros((shape[0], 3 * shape[1]), dtype=np.float32)
    if state.flight is not None:
        work_left(state.flight, scenario.physics, progress)
    local_ms = scenario.local_ms
    urgency = local_ms / scenario.deadlines_ms
    rate = scenario.of_devices("arrival_rate_hz") * local_ms / 1e3
    parts = {
        "progress": progress,
        "oldest": np.log1p(coming.oldest_ms / local_ms),
        "time_left": coming.left[:, None],
        "arrival_rate": np.tile(rate, (shape[0], 1)),
        "urgency": np.tile(urgency, (shape[0], 1)),
        "recent": coming.recent * local_ms / 1e3,
    }
    sizes = coming_sizes(scenario, varies)
    return np.concatenate([parts[name] for name in sizes], axis=1, dtype=np.float32)


def encode_present(state: State, scenario: Scenario) -> list[np.ndarray]:
    """Which servers and which MDs are up, each ``(B, M)`` and ``(B, N)``, of 0 and 1.

    Args:
        state: Of B worlds; without ``present`` all are.
        scenario: Says how many there are.
    """
    present = state.coming.present if state.coming is not None else None
    if present is None:
        worlds = len(state.queues)
        return [np.ones((worlds, n)) for n in (scenario.num_servers, scenario.num_devices)]
    return [present.servers_up, present.devices_up]


def decode(observation: np.ndarray, layout: ObservationLayout, scenario: Scenario) -> State:
    """Queues and distances out of an observation, the inverse of :func:`encode`.

    Where tasks arrive, with what is known of those: how long the oldest has waited, the time left.

    Args:
        observation: ``(B, layout.size)``.
        layout: Has the parts ``queues`` and ``distances``.
        scenario: Gives λ, d_max and latencies.

    Raises:
        MecError: The layout has no such parts, or the observation is of another size.
    """
    if observation.ndim != 2 or observation.shape[1] != layout.size:
        raise MecError(
            f"an observation must have shape (worlds, {layout.size}), but has {observation.shape}"
        )
    queues = observation[:, layout["queues"]] * scenario.of_devices("mean_tasks")
    coming = None
    if {"oldest", "time_left"} <= layout.sizes.keys():
        local_ms = scenario.local_ms
        recent = np.zeros(queues.shape)
        if "recent" in layout.sizes:
            recent = np.rint(observation[:, layout["recent"]] / local_ms * 1e3)
        coming = Coming(
            oldest_ms=np.expm1(observation[:, layout["oldest"]]) * local_ms,
            recent=recent,
            left=observation[:, layout["time_left"]][:, 0],
            present=_decode_present(observation, layout),
        )
    return State(
        queues=np.rint(queues).astype(np.int64),
        distances_m=observation[:, layout["distances"]] * scenario.distance_range_m[1],
        coming=coming,
    )


def _decode_present(observation: np.ndarray, layout: ObservationLayout) -> Present | None:
    """Who is up; one that is not counts as one that has left."""
    if not {"servers_up", "devices_up"} <= layout.sizes.keys():
        return None
    servers_up, devices_up = (
        observation[:, layout[name]] > 0.5 for name in ("servers_up", "devices_up")
    )
    return Present(servers_up, devices_up, devices_up)


def for_agent(observation: np.ndarray, device: int, num_devices: int) -> np.ndarray:
    """What one agent sees: the global state, then its own one-hot.

    Args:
        observation: Of the global state, ``(..., size)``.
        device: n, the agent's MD.
        num_devices: N.

    Returns:
        ``(..., size + N)`` float32.
    """
    identity = np.zeros((*observation.shape[:-1], num_devices), dtype=np.float32)
    identity[..., device] = 1.0
    return np.concatenate([observation, identity], axis=-1, dtype=np.float32)


def state_space(size: int) -> spaces.Box:
    """The space of the global state.

    Args:
        size: Numbers in it.
    """
    return spaces.Box(0.0, np.inf, (size,), np.float32)


def observation_space(size: int, num_devices: int) -> spaces.Box:
    """The space of what one agent sees; see :func:`for_agent`.

    Args:
        size: Numbers in the global state.
        num_devices: N.
    """
    return spaces.Box(0.0, np.inf, (size + num_devices,), np.float32)
