"""Who decides where a device's tasks are cut: a fixed point, or the scheduler of a MEC server."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rllib_mec.errors import MecError
from rllib_mec.testbed.breaker import CircuitBreaker
from rllib_mec.testbed.client import ServerBusy, ServerClient, ServerLost, ServerRefused
from rllib_mec.testbed.split_model import SplitModel

POWER_W = 0.02
"""Transmit power where nobody decides it, as :class:`rllib_mec.policies.FullOffload` has it."""

_UNKNOWN_DEVICE, _TAKEN = 404, 423
_PAUSE_S = 1.0  # between questions whether a name is free


@dataclass(frozen=True)
class TaskDecision:
    """What is decided for one task.

    Attributes:
        point: Index of the partition point; None for full local, whatever its index.
        codec: How the tensors are coded.
        server: Index of the server, modulo the addresses that the device knows.
        channel: Index of the channel; recorded, as the testbed has one link.
        power_w: Transmit power, for the energy estimate.
        fallback: Why the task stays local though nobody decided so; empty if it was decided.
    """

    point: int | None
    codec: str = "float32"
    server: int = 0
    channel: int = 0
    power_w: float = POWER_W
    fallback: str = ""


class Decider(Protocol):
    """Decides the next task window of one device."""

    def next_window(self, remaining: int) -> list[TaskDecision]:
        """Decide the next tasks.

        Args:
            remaining: Tasks left, at least 1.

        Returns:
            One decision for each task of the window, 1 to ``remaining`` of them.
        """
        ...

    def close(self) -> None:
        """The device has no more tasks."""
        ...


@dataclass(frozen=True)
class Fixed(Decider):
    """The same for every task.

    Attributes:
        point: Index of the partition point; None for full local.
        codec: How the tensors are coded.
        power_w: Transmit power.
    """

    point: int | None
    codec: str = "float32"
    power_w: float = POWER_W

    def next_window(self, remaining: int) -> list[TaskDecision]:
        """All tasks left, in one window; see the base class."""
        return [TaskDecision(self.point, self.codec, power_w=self.power_w)] * remaining

    def close(self) -> None:
        """Nothing to do."""


class Scheduled(Decider):
    """Asks the scheduler of a MEC server, which decides for all devices at once.

    While the scheduler cannot be asked, each task stays local.

    Args:
        client: The server; a connection of its own, as an answer may take a while.
        device: Name of this device.
        model: Its DNN, with the server's partition points.
        distance_m: Its distance to the base station.
        codec: How tensors are coded; None: as the scheduler's scenario counts them.
        timeout_s: How long an answer may take beyond the scheduler's own deadline.
        wait_s: How long to wait for a name or a place that another device has: the one that was
            killed a moment ago, perhaps.
        note: Told, in one line, when the scheduler is lost or back.
    """

    def __init__(
        self,
        client: ServerClient,
        device: str,
        model: SplitModel,
        *,
        distance_m: float = 50.0,
        codec: str | None = None,
        timeout_s: float = 1.0,
        wait_s: float = 0.0,
        note: Callable[[str], None] = lambda message: None,
    ):
        """Ask nothing yet."""
        self._client, self._device, self._model = client, device, model
        self._distance_m, self._codec, self._timeout_s = distance_m, codec, timeout_s
        self._wait_s, self._note = wait_s, note
        self._may_have_place = False
        self._breaker = CircuitBreaker()
        self._identity = secrets.token_hex(16)
        self._sequence = 0
        self._deadline_s = 0.0

    def register(self) -> None:
        """Take a place among the scheduler's devices; waits if the name or all places are taken.

        Raises:
            MecError: They still are, or it decides for another DNN.
            ServerLost: It cannot be asked.
            ServerBusy: It cannot be asked now.
        """
        give_up, is_told = time.monotonic() + self._wait_s, False
        while True:
            try:
                return self._register()
            except ServerRefused as error:
                if error.status != _TAKEN or time.monotonic() >= give_up:
                    raise MecError(f"the scheduler at {self._client.address}: {error}") from None
                if not is_told:
                    self._note(f"waiting for up to {self._wait_s:g} s: {error}")
                    is_told = True
                time.sleep(min(_PAUSE_S, self._wait_s))

    def _register(self) -> None:
        request = {
            **self._who(),
            "model": self._model.name,
            "heads": [f"{point.head:x}" for point in self._model.points],
            "distance_m": self._distance_m,
        }
        self._may_have_place = True
        try:
            reply = self._client.post_json("/schedule/register", request, self._timeout_s)
            self._deadline_s = float(reply["deadline_ms"]) / 1e3
            self._codec = self._codec or str(reply["codec"])
        except (KeyError, TypeError, ValueError):
            raise ServerLost("it answered garbage: not a registration") from None

    def next_window(self, remaining: int) -> list[TaskDecision]:
        """The scheduler's decision, or one local task where there is none; see the base class."""
        if not self._breaker.allows():
            return [self._local("the scheduler is out of reach")]
        try:
            tasks = self._ask(remaining)
        except (ServerLost, ServerBusy, MecError) as error:
            if self._breaker.is_closed:
                self._note(f"the scheduler at {self._client.address} is lost: {error}")
            self._breaker.failed()
            return [self._local(f"no decision: {error}")]
        if not self._breaker.is_closed:
            self._note(f"the scheduler at {self._client.address} is back")
        self._breaker.succeeded()
        return tasks[:remaining]

    def _ask(self, remaining: int) -> list[TaskDecision]:
        self._sequence += 1
        request = {
            **self._who(),
            "sequence": self._sequence,
            "remaining": remaining,
            "distance_m": self._distance_m,
        }
        timeout_s = self._timeout_s + self._deadline_s
        try:
            try:
                reply = self._client.post_json("/schedule/window", request, timeout_s)
            except ServerRefused as error:
                if error.status != _UNKNOWN_DEVICE:
                    raise
                self._register()  # the scheduler was restarted, or gave this device up
                reply = self._client.post_json("/schedule/window", request, timeout_s)
        except ServerRefused as error:
            raise ServerLost(str(error)) from None
        return self._decisions(reply)

    def _decisions(self, reply: Any) -> list[TaskDecision]:
        try:
            tasks = [
                TaskDecision(
                    int(task["point"]),
                    self._codec or "float32",
                    int(task["server"]),
                    int(task["channel"]),
                    float(task["power_w"]),
                )
                for task in reply["tasks"]
            ]
        except (KeyError, TypeError, ValueError):
            tasks = []
        points = range(self._model.num_points)
        if not tasks or not all(task.point in points and task.power_w >= 0 for task in tasks):
            raise ServerLost("it answered garbage: not a decision")
        return tasks

    def _who(self) -> dict[str, str]:
        return {"device": self._device, "identity": self._identity}

    @staticmethod
    def _local(why: str) -> TaskDecision:
        return TaskDecision(None, fallback=why)

    def close(self) -> None:
        """Give the place up."""
        if self._may_have_place:
            try:
                self._client.post_json("/schedule/leave", self._who(), self._timeout_s)
            except (ServerLost, ServerBusy, ServerRefused):
                pass  # it will give this device up by itself
        self._client.close()
