"""The scheduler's logic: gathers the devices' states, decides a task window for all at once.

No Ray and no HTTP in here. A window is decided when every device that is at work has asked for its
next one, which is the task-aware MDP's decision moment (Section IV-A), or when the deadline after
the first of them has passed; then the absent ones are decided for with their last state. The next
windows do not wait for them until they ask again, so a dead device holds up the others once. A
place is a lease: who is not heard of for a while has none any more.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_mec.envs import laws
from rllib_mec.envs.actions import played_points, power_w
from rllib_mec.envs.episodes import usual_distance_m
from rllib_mec.envs.observation import State
from rllib_mec.errors import MecError
from rllib_mec.policies import Policy

MAX_MISSED = 3
"""A device that missed this many windows in a row is given up: its queue counts as empty."""

LEASE_S = 60.0
"""A device that is not heard of for so long has no place any more."""


class UnknownDeviceError(MecError):
    """A device asks that has not registered, or was given up."""


class TakenError(MecError):
    """Another device has the name, or others have all places; later they may be free."""


@dataclass(eq=False)
class _Place:
    """One of the N devices that the policy decides for."""

    device: str
    identity: str
    distance_m: float
    heard_at: float
    remaining: int = 0
    missed: int = 0
    sequence: int = 0
    answer: dict[str, Any] | None = None
    asking: asyncio.Future[dict[str, Any]] | None = None
    decided_without: dict[str, Any] | None = None


class WindowScheduler:
    """Decides the windows of up to N devices.

    Args:
        policy: Decides; its scenario has N, λ and the largest distance.
        deadline_s: How long the first that asks waits for the others.
        lease_s: A device that is not heard of for so long loses its place.
        clock: Seconds that pass.

    Attributes:
        window: Windows decided so far.
        deadline_s: As given.
    """

    def __init__(
        self,
        policy: Policy,
        deadline_s: float = 2.0,
        lease_s: float = LEASE_S,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Begin with all places free."""
        self.window = 0
        self._policy, self.deadline_s = policy, deadline_s
        self._lease_s, self._clock = lease_s, clock
        self._places: list[_Place | None] = [None] * policy.scenario.num_devices
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def devices(self) -> list[str]:
        """Names of the registered devices."""
        self._free_dead_places()
        return [place.device for place in self._places if place is not None]

    def use(self, policy: Policy) -> None:
        """Decide with another policy from the next window on.

        Args:
            policy: For as many devices, with the same partition points.
        """
        self._policy = policy

    def register(self, device: str, identity: str, distance_m: float) -> int:
        """Give a device a place, the one it has if it has one.

        Args:
            device: Its name.
            identity: What only it knows: who else gives its name is another device.
            distance_m: Its distance to the base station.

        Returns:
            Index of the place: it is MD n of the scenario.

        Raises:
            TakenError: A device with another identity has the name, or all places are taken by
                devices that are at work.
        """
        self._free_dead_places()
        new = _Place(device, identity, distance_m, self._clock())
        for index, place in enumerate(self._places):
            if place is not None and place.device == device:
                if not self._is_of(place, identity) and place.missed < MAX_MISSED:
                    left = place.heard_at + self._lease_s - self._clock()
                    raise TakenError(
                        f"another device has the name {device!r}: give this one a name of its own"
                        f" (if the other is gone, it is free in {left:.0f} s: --wait-s waits)"
                    )
                self._cancel(place)
                self._places[index] = new
                return index
        for index, place in enumerate(self._places):
            if place is None or place.missed >= MAX_MISSED:
                self._places[index] = new
                return index
        raise TakenError(
            f"the scheduler decides for {len(self._places)} devices and has no place for"
            f" {device!r}: registered are {', '.join(self.devices)}"
        )

    def leave(self, device: str, identity: str) -> None:
        """Free a device's place; the others wait for it no longer.

        Args:
            device: Its name; nothing happens if it has no place.
            identity: That which it registered with.

        Raises:
            UnknownDeviceError: The name is another device's.
        """
        place = self._find(device)
        if place is None:
            return
        if not self._is_of(place, identity):
            raise UnknownDeviceError(f"another device has the name {device!r}")
        self._free(place)

    def _find(self, device: str) -> _Place | None:
        return next((p for p in self._places if p is not None and p.device == device), None)

    @staticmethod
    def _is_of(place: _Place, identity: str) -> bool:
        return hmac.compare_digest(place.identity.encode(), identity.encode())

    @staticmethod
    def _cancel(place: _Place) -> None:
        if place.asking is not None:
            place.asking.cancel()

    def _free(self, place: _Place) -> None:
        self._cancel(place)
        self._places[self._places.index(place)] = None
        self._decide_if_all_ask()

    def _free_dead_places(self) -> None:
        for place in [p for p in self._places if p is not None]:
            if place.asking is None and self._clock() - place.heard_at >= self._lease_s:
                self._free(place)

    async def ask(
        self, device: str, identity: str, sequence: int, remaining: int, distance_m: float
    ) -> dict[str, Any]:
        """A device's next window, when it is decided.

        Args:
            device: Its name.
            identity: That which it registered with.
            sequence: Number of this question, growing; the same number gets the same answer again.
            remaining: X_n, its tasks left.
            distance_m: d_n.

        Returns:
            ``window``, its number; ``tasks``, for each task ``point``, ``server``, ``channel`` and
            ``power_w``; ``absent``, the devices that were decided for without having asked.

        Raises:
            UnknownDeviceError: It has no place, or the name is another device's.
            MecError: No tasks are left, or the question is older than the last one answered.
        """
        self._free_dead_places()
        place = self._find(device)
        if place is None or place.missed >= MAX_MISSED or not self._is_of(place, identity):
            raise UnknownDeviceError(f"the scheduler does not know {device!r}: register first")
        if remaining < 1 or not 0 < distance_m < math.inf:
            raise MecError(f"expected tasks left and a distance, got {remaining} and {distance_m}")
        if sequence < place.sequence:
            raise MecError(f"question {sequence} of {device!r} is older than {place.sequence}")
        if sequence == place.sequence and place.answer is not None:
            return place.answer
        place.missed, place.sequence, place.heard_at = 0, sequence, self._clock()
        place.remaining, place.distance_m = remaining, distance_m
        if place.decided_without is not None:
            # It was late: it takes what was decided for it, while the others work on theirs.
            place.answer, place.decided_without = place.decided_without, None
            return _cut(place.answer, remaining)
        loop = asyncio.get_running_loop()
        if place.asking is None or place.asking.done():
            place.asking = loop.create_future()
        future = place.asking
        if self._deadline is None:
            self._deadline = loop.call_later(self.deadline_s, self._decide)
        self._decide_if_all_ask()
        return await asyncio.shield(future)

    def _decide_if_all_ask(self) -> None:
        places = [place for place in self._places if place is not None]
        is_asked = any(place.asking for place in places)
        if is_asked and all(place.asking or place.missed for place in places):
            self._decide()

    def _decide(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        absent = [p.device for p in self._places if p is not None and p.asking is None]
        try:
            answers = self._answers(absent)
        except Exception as error:  # the policy is the user's; whoever asks must hear of it
            for place in self._places:
                if place is not None and place.asking is not None and not place.asking.done():
                    place.asking.set_exception(MecError(f"the policy failed: {error}"))
                    place.asking = None
            return
        for place, answer in zip(self._places, answers, strict=True):
            if place is None:
                continue
            if place.asking is None:
                place.missed += 1
                place.decided_without = answer if place.missed < MAX_MISSED else None
                continue
            place.answer = _cut(answer, place.remaining)
            if not place.asking.done():
                place.asking.set_result(place.answer)
            place.asking = None
        self.window += 1

    def observation(self) -> np.ndarray:
        """The global state S_k (Eq. 6), ``(1, 2N)``: X_n/λ, then d_n/d_max.

        A free place, and a device that was given up, is an MD with an empty queue.
        """
        usual_m = usual_distance_m(self._policy.scenario)
        queues, distances_m = [], []
        for place in self._places:
            is_there = place is not None and place.missed < MAX_MISSED
            queues.append(place.remaining if place and is_there else 0)
            distances_m.append(place.distance_m if place else usual_m)
        state = State(np.array([queues]), np.array([distances_m], dtype=float))
        return laws.observed(self._policy.mdp, state)

    def _answers(self, absent: list[str]) -> list[dict[str, Any]]:
        """The decision for each place."""
        action = {key: value[0] for key, value in self._policy.decide(self.observation()).items()}
        watts = power_w(action["power"], self._policy.scenario)
        points = played_points(action["partition"][None], self._policy.scenario)[0]
        return [
            {
                "window": self.window,
                "tasks": [
                    {
                        "point": int(points[n, x]),
                        "server": int(action["server"][n, x]),
                        "channel": int(action["channel"][n, x]),
                        "power_w": float(watts[n, x]),
                    }
                    for x in range(int(action["window"][n]) + 1)
                ],
                "absent": absent,
            }
            for n in range(len(self._places))
        ]


def _cut(answer: dict[str, Any], remaining: int) -> dict[str, Any]:
    """The answer without tasks that the device does not have."""
    return {**answer, "tasks": answer["tasks"][:remaining]}
