"""What the set-structured networks see of an MDP: features of devices, servers, channels, points.

They are counts of tasks and ratios, so that they mean the same in every scenario; what a scenario
says of its parts is always there, whether they differ or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

from rllib_mec.algorithms.emh_ppo.set_scenario import ScenarioFeatures
from rllib_mec.algorithms.networks import in_steps
from rllib_mec.envs import laws
from rllib_mec.envs.mdp import MDP
from rllib_mec.envs.observation import specification
from rllib_mec.errors import MecError

QUEUE_STEPS, FEW_STEPS = 64, 8
"""Tasks of a queue, and of other small numbers, that are told apart one by one."""

HAS_TASKS, RANK = 0, 1
"""Where an MD's features say that its queue is not empty, and its rank as a share of N."""


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

_OF_SCENARIO = ("queues", "distances", "arrival_rate", "urgency")  # as specified, always there


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
    others = {*KNOWN, *_OF_SCENARIO, *specification(mdp.scenario)}
    parts = {}
    for name, size in laws.layout_of(mdp).sizes.items():
        if name in others or not size:
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

    mean_tasks: torch.Tensor
    airtime: torch.Tensor
    points: torch.Tensor

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
        self._slices = {name: layout[name] for name, size in layout.sizes.items() if size}
        self._parts = {**KNOWN, **parts}
        self._numbers = _numbers(mdp)
        self._farthest_m = mdp.scenario.distance_range_m[1]
        known = ScenarioFeatures.of(mdp)
        self._between = tuple(map(math.log, known.between_m))
        constants = {**known._asdict(), "mean_tasks": mdp.scenario.of_devices("mean_tasks")}
        constants.pop("between_m")
        for name, values in constants.items():
            # Of the scenario, not of the weights, which must load into any other.
            values = torch.as_tensor(values, dtype=torch.float32)
            self.register_buffer(name, values, persistent=False)

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """How many devices, servers, channels and worlds there are, and the features of each."""
        dynamic = {"devices": _NUM_OF_DEVICE, "world": _NUM_OF_WORLD}
        own = {kind: 0 for kind in self._numbers}
        for part in self._parts.values():
            own[part.kind] += part.width
        return {
            kind: (number, dynamic.get(kind, 0) + own[kind] + getattr(self, kind).shape[-1])
            for kind, number in self._numbers.items()
        }

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Features of devices, servers, channels and world, one after the other, ``(..., F)``.

        Args:
            observation: ``(..., O)``.
        """
        seen = observation.reshape(-1, observation.shape[-1])
        queues = seen[:, self._slices["queues"]] * self.mean_tasks
        own = {"devices": _of_queues(queues, self.mean_tasks), "world": self._of_all(queues)}
        own["devices"].append(self._of_distances(seen[:, self._slices["distances"]]))
        features = []
        for kind, number in self._numbers.items():
            known = getattr(self, kind).expand(len(seen), number, -1)
            parts = [*own.get(kind, []), *self._own(seen, kind, number), known]
            features.append(torch.cat(parts, dim=-1).flatten(1))
        return torch.cat(features, dim=-1).unflatten(0, observation.shape[:-1])

    def _own(self, seen: torch.Tensor, kind: str, number: int) -> list[torch.Tensor]:
        """The parts of the observation that are of a kind, ``(B, number, width)`` each."""
        parts = []
        for name, part in self._parts.items():
            if part.kind != kind:
                continue
            if name not in self._slices:
                parts.append(seen.new_zeros(len(seen), number, part.width))
                continue
            values = seen[:, self._slices[name]].unflatten(1, (number, part.width))
            parts.append(1.0 - values if name in _ONE_IF_ABSENT else values)
        return parts

    def _of_all(self, queues: torch.Tensor) -> list[torch.Tensor]:
        """What the queues are together, ``(B, 1, ...)``."""
        active = (queues > 0).to(queues.dtype).sum(1, keepdim=True)
        total = queues.sum(1, keepdim=True)
        longest = queues.amax(1, keepdim=True)
        servers, channels = self._numbers["servers"], self._numbers["channels"]
        scales = [total, total / servers, longest, active, active / servers, active / channels]
        return [
            torch.stack([scale.log1p() / 4.0 for scale in scales], dim=-1),
            in_steps(active, FEW_STEPS),
            in_steps(longest, FEW_STEPS),
        ]

    def _of_distances(self, share: torch.Tensor) -> torch.Tensor:
        """Time on air and energy of a full offload from where an MD is, ``(B, N, 3)``."""
        (least, most), intervals = self._between, self.airtime.shape[1] - 1
        log = (share * self._farthest_m).clamp(min=1e-9).log().clamp(least, most)
        at = (log - least) / (most - least) * intervals
        low = at.floor().clamp(max=intervals - 1).long()
        weight = (at - low).unsqueeze(-1)
        devices = torch.arange(share.shape[1], device=share.device)
        between = torch.lerp(self.airtime[devices, low], self.airtime[devices, low + 1], weight)
        return torch.cat([share.unsqueeze(-1), between], dim=-1)


_NUM_OF_DEVICE = 7 + QUEUE_STEPS + 7 * FEW_STEPS + 3
_NUM_OF_WORLD = 6 + 2 * FEW_STEPS
_ONE_IF_ABSENT = {"devices_up", "servers_up", "time_left"}


def _of_queues(queues: torch.Tensor, mean_tasks: torch.Tensor) -> list[torch.Tensor]:
    """How an MD's queue compares with the others, ``(B, N, ...)``.

    A network that sees a queue as one number hardly tells one task more from one less: so it is
    given in steps too, as are its leads over the shortest, over the shortest that is not empty and
    over its neighbours in the order of falling queues, and the MD's rank in that order.
    """
    falling, order = queues.sort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    has_tasks = (queues > 0).to(queues.dtype)
    active = has_tasks.sum(1, keepdim=True)
    padded = torch.cat([falling[:, :1], falling, falling[:, -1:]], dim=1)
    above = (padded[:, :-2] - falling).gather(1, rank)
    below = (falling - padded[:, 2:]).gather(1, rank)
    lead, behind = queues - falling[:, -1:], falling[:, :1] - queues
    least = falling.gather(1, (active - 1.0).clamp(min=0.0).long())
    over = (queues - least).clamp(min=0.0)
    from_last = (active - 1.0 - rank).clamp(min=0.0)
    scales = [
        has_tasks,
        rank / queues.shape[1],
        (rank / active.clamp(min=1.0)).clamp(max=1.0),
        queues / mean_tasks,
        *(x.log1p() / 4.0 for x in (queues, lead, behind)),
    ]
    few = (lead, over, behind, above, below, rank.to(queues.dtype), from_last)
    return [
        torch.stack(scales, dim=-1),
        in_steps(queues, QUEUE_STEPS),
        *(in_steps(x, FEW_STEPS) for x in few),
    ]
