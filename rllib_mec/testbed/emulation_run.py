"""What is emulated, and what comes of it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from rllib_mec.dnn import CODECS
from rllib_mec.errors import MecError, unknown
from rllib_mec.testbed.prediction import Prediction
from rllib_mec.testbed.records import Summary, TaskRecord
from rllib_mec.testbed.shaping import MODES

_MAX_DEVICES = 64


@dataclasses.dataclass(frozen=True)
class EmulationOptions:
    """What is emulated.

    Attributes:
        model: A torchvision model's name.
        devices: How many.
        tasks: Tasks of each device.
        slowdown: How many times slower than this machine's core a device is.
        bandwidth_mbps: Rate of each device's link.
        codec: How tensors are coded.
        checkpoint: A trained policy, which the server then decides with; None: the best points by
            the simulator.
        link: One of :data:`~rllib_mec.testbed.shaping.MODES`.
        power_w: Transmit power where no policy decides it.
        distance_m: What a policy is told of every device.
        seed: Of weights, tasks and starts.

    Raises:
        MecError: A value is out of its range.
    """

    model: str = "mobilenet_v2"
    devices: int = 3
    tasks: int = 100
    slowdown: float = 5.0
    bandwidth_mbps: float = 50.0
    codec: str = "float32"
    checkpoint: str | None = None
    link: str = "auto"
    power_w: float = 0.02
    distance_m: float = 50.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values, before anything is started."""
        from rllib_mec.dnn import model_names

        for name, most in (("devices", _MAX_DEVICES), ("tasks", math.inf)):
            if not 1 <= getattr(self, name) <= most:
                upto = "" if most == math.inf else f" and at most {most}"
                raise MecError(f"{name} must be at least 1{upto}, got {getattr(self, name)}")
        if not 1 <= self.slowdown < math.inf:
            raise MecError(f"slowdown must be at least 1, got {self.slowdown}")
        for name in ("bandwidth_mbps", "power_w", "distance_m"):
            if not 0 < getattr(self, name) < math.inf:
                raise MecError(f"{name} must be positive, got {getattr(self, name)}")
        for kind, value, choices in (
            ("codec", self.codec, CODECS),
            ("link", self.link, MODES),
            ("DNN", self.model, model_names()),
        ):
            if value not in choices:
                raise unknown(kind, value, choices)


@dataclasses.dataclass(frozen=True)
class Run:
    """One policy's run and what the simulator said of it.

    Attributes:
        policy: Its name.
        num_devices: N.
        points: Point of each device; empty if they change.
        measured: Summary of all tasks.
        predicted: The simulator's.
        wrong: Tasks whose result is not what the DNN and the codec give.
        records: All tasks.
    """

    policy: str
    num_devices: int
    points: tuple[int, ...]
    measured: Summary
    predicted: Prediction
    wrong: int
    records: tuple[TaskRecord, ...]

    @property
    def error(self) -> float:
        """The prediction's relative error of the mean latency."""
        return self.predicted.mean_ms / self.measured.mean_ms - 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values without the tasks, for JSON."""
        return {
            "policy": self.policy,
            "num_devices": self.num_devices,
            "points": self.points,
            "measured": self.measured.to_dict(),
            "predicted": dataclasses.asdict(self.predicted),
            "prediction_error": self.error,
            "wrong": self.wrong,
        }
