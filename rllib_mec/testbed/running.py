"""A MEC server that runs: what it says of itself, and what it can be told."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from rllib_mec.errors import MecError
from rllib_mec.testbed.haproxy import LOOPBACK, Front
from rllib_mec.testbed.loopback import is_on_loopback
from rllib_mec.testbed.options import ServerOptions
from rllib_mec.testbed.sources import Sources

TAIL, SCHEDULER = "tail", "scheduler"
"""Names of the two Serve applications."""

_DEPLOYMENTS = {TAIL: "TailServer", SCHEDULER: "SchedulerServer"}
_CONTROL_S = 300.0  # for all replicas to load a DNN, or to finish what they have


@dataclass
class RunningServer:
    """A server that is ready.

    Attributes:
        options: What it was started with, as given.
        resolved: The same with what the checkpoint says.
        front: Where it listens.
        sources: What its replicas load.
        model: Name of its DNN.
        num_points: Partition points on offer.
        has_token: Whether it asks for one.
        version: Of weights and checkpoint; counts from 1.
    """

    options: ServerOptions
    resolved: ServerOptions
    front: Front
    sources: Sources
    model: str
    num_points: int
    has_token: bool
    version: int = 1

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        return f"{self.front.host}:{self.front.port}"

    def listens(self) -> list[str]:
        """All addresses that it listens on, and for what."""
        front = self.front
        how = [*(["TLS"] if front.certificate else []), *(["token"] if self.has_token else [])]
        lines = [f"{self.address} ({', '.join(['tasks', *how])})"]
        if front.metrics:
            lines.append(f"{front.metrics[0]}:{front.metrics[1]}/metrics")
        if front.metrics_port:
            where = LOOPBACK if is_on_loopback() else "0.0.0.0"
            lines.append(f"{where}:{front.metrics_port}/metrics")
            lines.append(f"{where} (ports of Ray's own processes)")
        return lines

    def __str__(self) -> str:
        """One line for people."""
        devices = self.resolved.devices
        decides = f", scheduler for {devices} devices" if devices else ""
        points = f"{self.model} at {self.address}, {self.num_points} points{decides}"
        return f"{points}; it listens on {'; '.join(self.listens())}"

    def reload(self) -> None:
        """Load weights and checkpoint again, from the same paths; requests at hand finish first.

        Raises:
            MecError: They are of another network: the old ones go on.
        """
        resolved = self.options.resolved()
        if resolved != self.resolved:
            raise MecError(
                f"the checkpoint {self.options.checkpoint} is of another network than the one"
                f" that is served: expected {self.resolved.model!r} with the same partition points"
            )
        model = resolved.load_model()
        if (model.name, model.num_points) != (self.model, self.num_points):
            raise MecError(f"{model.name!r} with {model.num_points} points is another DNN")
        version = self.version + 1
        self.sources.add(version, model)
        problems = []
        # A replica that dies meanwhile has none: the one after it finds the version.
        with contextlib.suppress(Exception):
            problems = [text for text in _broadcast(self.options, "reload", version) if text]
        if problems:
            self.sources.discard(version)
            raise MecError(problems[0])
        self.sources.discard_old()
        self.version = version


def applications(options: ServerOptions) -> list[str]:
    """Names of the Serve applications that there are.

    Args:
        options: What is served.
    """
    return [TAIL, SCHEDULER] if options.checkpoint else [TAIL]


def finish(options: ServerOptions) -> None:
    """Have a server take no more requests, and wait until it has answered those at hand.

    Args:
        options: What is served.
    """
    with contextlib.suppress(Exception):  # what is broken has none
        _broadcast(options, "drain")


def _broadcast(options: ServerOptions, method: str, *arguments: Any) -> list[Any]:
    """Call a method of all replicas; returns what they say."""
    from ray import serve

    asked = [
        serve.get_deployment_handle(_DEPLOYMENTS[name], name).broadcast(method, *arguments)
        for name in applications(options)
    ]
    return [text for each in asked for text in each.results(timeout_s=_CONTROL_S)]
