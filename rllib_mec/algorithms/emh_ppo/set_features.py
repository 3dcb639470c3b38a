"""What the set-structured networks see of an MDP: features of devices, servers, channels, points.

They are counts of tasks and ratios of times, energies and rates, so that they mean the same in
every scenario; what a scenario says of its parts is always there, whether they differ or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from rllib_mec.envs import laws
from rllib_mec.envs.actions import w_of_dbm
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import specification
from rllib_mec.errors import MecError
from rllib_mec.network.radio import lone_rates_bps

QUEUE_STEPS, FEW_STEPS = 64, 8
"""Tasks of a queue, and of other small numbers, that are told apart one by one."""

TYPICAL_POWER_W = 0.01
"""Power at which transmissions are measured, as the best plans of the paper's scenario have it."""


class Part(NamedTuple):
    """A part of an observation.

    Attributes:
        kind: Whose it is: ``devices``, ``servers``, ``channels`` or ``world``.
        width: Numbers of each.
    """

    kind: str
    width: int


KNOWN = {
    "progress": Part("devices", 3),
    "oldest": Part("devices", 1),
    "recent": Part("devices", 1),
    "devices_up": Part("devices", 1),
    "servers_up": Part("servers", 1),
    "time_left": Part("world", 1),
}
"""Parts that every network has inputs for; without them in the observation these are 0."""

_OF_SCENARIO = {
    "queues", "distances", "arrival_rate", "urgency", "local_latency", "server_latency",
    "input_bits", "local_energy", "max_power", "max_window", "server_speed", "server_delay",
    "bandwidth", "noise",
}  # fmt: skip


def own_parts(mdp: MDP) -> dict[str, Part]:
    """Parts of an MDP's observation that a user has added, and whose they are.

    A part whose name begins with ``device``, ``server``, ``channel`` or ``world`` is theirs; else
    its size says it: a multiple of N is of the devices, M of the servers, C of the channels, and
    anything else of the world.

    Args:
        mdp: The MDP.

    Raises:
        MecError: The size of a part does not fit its name.
    """
    numbers = _numbers(mdp)
    parts = {}
    for name, size in laws.layout_of(mdp).sizes.items():
        if name in KNOWN or name in _OF_SCENARIO or not size:
            continue
        kind = next((k for k in numbers if name.startswith(k.rstrip("s"))), None)
        if kind is None:
            of_devices = size % numbers["devices"] == 0 and size > 1
            exact = [k for k in ("servers", "channels") if size == numbers[k] and size > 1]
            kind = "devices" if of_devices else (*exact, "world")[0]
        if size % numbers[kind]:
            raise MecError(
                f"part {name!r} of the observation must have a multiple of {numbers[kind]} numbers,"
                f" of {kind} as its name says, but has {size}"
            )
        parts[name] = Part(kind, size // numbers[kind])
    return parts


def _numbers(mdp: MDP) -> dict[str, int]:
    scenario = mdp.scenario
    return {
        "devices": scenario.num_devices,
        "servers": scenario.num_servers,
        "channels": scenario.num_channels,
        "world": 1,
    }


class SetFeatures(nn.Module):
    """Makes features out of observations; has no weights.

    Args:
        mdp: Where decisions are made.
        parts: Those of a user's own that the networks have inputs for.

    Raises:
        MecError: The observation lacks queues or distances, or has a part that is not in ``parts``.
    """

    def __init__(self, mdp: MDP, parts: Mapping[str, Part]):
        """Compute what does not change."""
        super().__init__()
        layout = laws.layout_of(mdp)
        for name in ("queues", "distances"):
            if name not in layout.sizes:
                raise MecError(
                    f"model 'set' in model_config needs an observation with a part {name!r}, "
                    f"but {mdp.env_id} has {dict(layout.sizes)}"
                )
        for name in own_parts(mdp):
            if name not in parts:
                raise MecError(
                    f"the networks have no inputs for part {name!r} of the observation: "
                    f"expected {', '.join(sorted({*KNOWN, *parts}))}"
                )
        self._slices = {name: layout[name] for name in layout.sizes}
        self._parts = {**KNOWN, **parts}
        self._counts = _numbers(mdp)
        self._numbers = mdp.scenario
        scenario, physics = mdp.scenario, mdp.scenario.physics
        local_ms = physics.stage_work[:, [0, 3], -1].sum(1)
        constants = {
            "mean_tasks": scenario.of_devices("mean_tasks"),
            "devices": _of_devices(mdp, local_ms),
            "servers": _of_servers(mdp, local_ms),
            "channels": _of_channels(mdp),
            "world": _of_world(mdp),
            "points": _of_points(mdp, local_ms),
            "shares": np.cumsum(physics.servers.speed) / physics.servers.speed.sum(),
        }
        self._farthest_m = scenario.distance_range_m[1]
        self._table_m, airtime = _airtimes(mdp, local_ms)
        constants["airtime"] = airtime
        for name, values in constants.items():
            # Of the scenario, not of the weights: these must load into any other.
            self.register_buffer(
                name, torch.as_tensor(np.asarray(values), dtype=torch.float32), persistent=False
            )

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """How many devices, servers, channels and worlds, and the features of each."""
        return {k: (self._counts[k], self._static(k).shape[-1] + self._dynamic(k)) for k in _KINDS}

    def _static(self, kind: str) -> torch.Tensor:
        return getattr(self, kind)

    def _dynamic(self, kind: str) -> int:
        own = sum(part.width for part in self._parts.values() if part.kind == kind)
        return own + {"devices": NUM_OF_DEVICE, "world": NUM_OF_WORLD}.get(kind, 0)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Features of devices, servers, channels and world, one after the other, ``(..., F)``.

        Args:
            observation: ``(..., O)``.
        """
        seen = observation.reshape(-1, observation.shape[-1])
        queues = seen[:, self._slices["queues"]] * self.mean_tasks
        own = {"devices": self._of_queues(queues), "world": _of_all(queues, self._counts)}
        own["devices"].append(self._of_distances(seen[:, self._slices["distances"]]))
        parts = []
        for kind in _KINDS:
            number = self._counts[kind]
            static = self._static(kind).expand(len(seen), number, -1)
            features = [static, *own.get(kind, []), *self._own(seen, kind, number)]
            parts.append(torch.cat(features, dim=-1).flatten(1))
        return torch.cat(parts, dim=-1).unflatten(0, observation.shape[:-1])

    def _own(self, seen: torch.Tensor, kind: str, number: int) -> list[torch.Tensor]:
        """The parts of the observation that are of a kind, ``(B, number, width)`` each."""
        parts = []
        for name, part in self._parts.items():
            if part.kind != kind:
                continue
            if name not in self._slices or seen[:, self._slices[name]].shape[1] == 0:
                parts.append(seen.new_zeros(len(seen), number, part.width))
                continue
            values = seen[:, self._slices[name]].unflatten(1, (number, part.width))
            parts.append(1.0 - values if name in _ONE_IF_ABSENT else values)
        return parts

    def _of_queues(self, queues: torch.Tensor) -> list[torch.Tensor]:
        """How an MD's queue compares with the others, ``(B, N, ...)``."""
        num_devices = queues.shape[1]
        falling, order = queues.sort(dim=1, descending=True, stable=True)
        rank = order.argsort(dim=1)
        has_tasks = (queues > 0).to(queues.dtype)
        active = has_tasks.sum(1, keepdim=True)
        padded = torch.cat([falling[:, :1], falling, falling[:, -1:]], dim=1)
        above = (padded[:, :-2] - falling).gather(1, rank)
        below = (falling - padded[:, 2:]).gather(1, rank)
        lead = queues - falling[:, -1:]
        behind = falling[:, :1] - queues
        shortest = queues.masked_fill(queues <= 0, math.inf).amin(1, keepdim=True)
        over = (queues - shortest.nan_to_num(posinf=0.0)).clamp(min=0.0)
        from_last = (active - 1.0 - rank).clamp(min=0.0)
        ranks = rank.to(queues.dtype)
        scales = [
            queues / self.mean_tasks,
            queues.log1p() / 4.0,
            lead.log1p() / 4.0,
            behind.log1p() / 4.0,
            ranks / num_devices,
            (ranks / active.clamp(min=1.0)).clamp(max=1.0),
            has_tasks,
        ]
        return [
            torch.stack(scales, dim=-1),
            _in_steps(queues, QUEUE_STEPS),
            *(_in_steps(x, FEW_STEPS) for x in (lead, over, behind, above, below)),
            *(_in_steps(x, FEW_STEPS) for x in (ranks, from_last)),
            ranks.unsqueeze(-1),  # last of them: the pointers take it from here
        ]

    def _of_distances(self, share: torch.Tensor) -> torch.Tensor:
        """Time on air and energy of a full offload from where an MD is, ``(B, N, 3)``."""
        position = (share * self._farthest_m).clamp(min=self._table_m[0], max=self._table_m[1])
        least, most = map(math.log, self._table_m)
        at = (position.log() - least) / max(most - least, 1e-9) * (self.airtime.shape[1] - 1)
        low = at.floor().clamp(max=self.airtime.shape[1] - 2).long()
        weight = (at - low).unsqueeze(-1)
        devices = torch.arange(share.shape[1], device=share.device)
        between = torch.lerp(self.airtime[devices, low], self.airtime[devices, low + 1], weight)
        return torch.cat([share.unsqueeze(-1), between], dim=-1)


NUM_OF_DEVICE = 7 + QUEUE_STEPS + 7 * FEW_STEPS + 1 + 3
NUM_OF_WORLD = 6 + 2 * FEW_STEPS
_KINDS = ("devices", "servers", "channels", "world")
_ONE_IF_ABSENT = {"devices_up", "servers_up", "time_left"}
_TABLE = 33  # distances at which the time on air is tabled


def _of_all(queues: torch.Tensor, numbers: Mapping[str, int]) -> list[torch.Tensor]:
    """What the queues are together, ``(B, 1, ...)``."""
    active = (queues > 0).to(queues.dtype).sum(1, keepdim=True)
    total = queues.sum(1, keepdim=True)
    longest = queues.amax(1, keepdim=True)
    ratios = [
        total.log1p() / 4.0,
        (total / numbers["servers"]).log1p() / 4.0,
        longest.log1p() / 4.0,
        active.log1p() / 4.0,
        active / numbers["servers"] / 4.0,
        active / numbers["channels"] / 4.0,
    ]
    steps = [_in_steps(active, FEW_STEPS), _in_steps(longest, FEW_STEPS)]
    return [torch.stack(ratios, dim=-1), *steps]


def _in_steps(x: torch.Tensor, num_steps: int) -> torch.Tensor:
    """How far each of the first steps is filled, in [0, 1], ``(...)`` to ``(..., steps)``."""
    below = torch.arange(num_steps, device=x.device, dtype=x.dtype)
    return (x.unsqueeze(-1) - below).clamp(0.0, 1.0)


def _log(x: np.ndarray | float) -> np.ndarray:
    """Logarithm of a ratio, of moderate size."""
    return np.clip(np.log(np.maximum(x, 1e-6)), -8.0, 8.0) / 2.0


def _of_devices(mdp: MDP, local_ms: np.ndarray) -> np.ndarray:
    """``(N, ...)``."""
    scenario, physics = mdp.scenario, mdp.scenario.physics
    energy = scenario.energy_weight * physics.local_energy_j[:, -1] / local_ms
    deadlines = [device.deadline_ms for device in scenario.mobile_devices]
    urgency = local_ms / np.array([np.inf if d is None else d for d in deadlines])
    comes = float(mdp.tasks_arrive)
    return np.stack(
        [
            _log(local_ms / np.exp(np.log(local_ms).mean())),
            _log(physics.stage_work[:, 2].max(1) / local_ms),
            np.log1p(energy),
            scenario.of_devices("max_power_dbm") / 30.0,
            scenario.of_devices("max_window") / scenario.max_window,
            comes * scenario.of_devices("arrival_rate_hz") * local_ms / 1e3,
            comes * urgency,
        ],
        axis=1,
    )


def _of_servers(mdp: MDP, local_ms: np.ndarray) -> np.ndarray:
    """``(M, ...)``."""
    servers = mdp.scenario.physics.servers
    own = [_log(servers.speed / servers.speed.mean()), servers.delay_ms / local_ms.mean()]
    return np.concatenate([np.stack(own, axis=1), _index(len(servers.speed))], axis=1)


def _of_channels(mdp: MDP) -> np.ndarray:
    """``(C, ...)``."""
    radio = mdp.scenario.physics.radio
    own = [_log(v / np.exp(np.log(v).mean())) for v in (radio.bandwidth_hz, radio.noise_w)]
    return np.concatenate([np.stack(own, axis=1), _index(radio.num_channels)], axis=1)


def _index(number: int) -> np.ndarray:
    """What tells equal ones apart, ``(number, 3)``."""
    index = np.arange(number)
    turn = 2 * np.pi * index / number
    return np.stack([np.cos(turn), np.sin(turn), index / number], axis=1)


def _of_world(mdp: MDP) -> np.ndarray:
    """``(1, ...)``."""
    scenario = mdp.scenario
    numbers = scenario.num_devices, scenario.num_servers, scenario.num_channels
    few = np.clip(np.array(numbers)[:, None] - np.arange(1, 5), 0.0, 1.0).ravel()
    logs = np.log([*numbers, scenario.max_window, scenario.mean_tasks / 50.0]) / 4.0
    kind = [float(mdp.tasks_arrive), float(mdp.can_simulate), scenario.waiting_weight * 10.0]
    return np.concatenate([logs, few, kind])[None]


def _of_points(mdp: MDP, local_ms: np.ndarray) -> np.ndarray:
    """Of each MD's partition points, ``(N, S, ...)``."""
    scenario, physics = mdp.scenario, mdp.scenario.physics
    before, bits, server, beside = np.moveaxis(physics.stage_work, 1, 0)
    scale = local_ms[:, None]
    most_bits = np.maximum(bits.max(1, keepdims=True), 1.0)
    energy = scenario.energy_weight * physics.local_energy_j / scale
    index = np.arange(scenario.num_points)[None]
    full_local = physics.full_local[:, None]
    return np.stack(
        [
            before / scale,
            beside / scale,
            server / scale,
            bits / most_bits,
            _log(bits / most_bits),
            np.log1p(energy),
            (bits <= 0).astype(float),
            np.broadcast_to(index == 0, bits.shape).astype(float),
            np.minimum(index, full_local) / np.maximum(full_local, 1),
        ],
        axis=-1,
    )


def _airtimes(mdp: MDP, local_ms: np.ndarray) -> tuple[tuple[float, float], np.ndarray]:
    """Logarithms of time on air and energy of a full offload, by distance.

    Returns:
        The least and largest distance, m, and ``(N, distances, 2)``, at equal steps of the
        logarithm of the distance; of a lone MD at a typical power and a mean channel.
    """
    scenario, physics = mdp.scenario, mdp.scenario.physics
    least, most = scenario.distance_range_m
    distances_m = np.geomspace(least, max(most, 1.000001 * least), _TABLE)
    gain = (scenario.reference_distance_m / distances_m) ** scenario.path_loss_exponent
    radio = physics.radio
    power_w = np.minimum(TYPICAL_POWER_W, w_of_dbm(scenario.of_devices("max_power_dbm")))
    rates = lone_rates_bps(
        power_w[:, None] * gain,
        float(radio.bandwidth_hz.mean()),
        float(radio.noise_w.mean()),
        radio.min_efficiency,
    )
    seconds = physics.stage_work[:, 1].max(1)[:, None] / np.maximum(rates, 1.0)
    time = _log(seconds * radio.ms_per_s / local_ms[:, None])
    energy = _log(scenario.energy_weight * power_w[:, None] * seconds / local_ms[:, None])
    return (float(distances_m[0]), float(distances_m[-1])), np.stack([time, energy], axis=-1)
