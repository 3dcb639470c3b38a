"""An emulated device's process: a :class:`Device` that does what it is told on stdin.

    python -m rllib_mec.testbed.emulated_device

Every line on stdin is a JSON object, the first one the settings; every answer on stdout is one,
too, the first one the server's hello. Commands: ``{"do": "profile", "runs": 20}``,
``{"do": "connect", "decide": ...}``, ``{"do": "run", "tasks": 100, "delay_s": 0.0}``,
``{"do": "pace"}``, ``{"do": "keep_pace", "seconds": {...}}`` and ``{"do": "verify"}``. It ends with
stdin.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import Any

import torch

from rllib_mec.dnn import codec, measure_latency
from rllib_mec.errors import MecError, one_line
from rllib_mec.testbed.access import Access, read_token
from rllib_mec.testbed.client import ServerClient
from rllib_mec.testbed.decisions import Decider, Fixed, Scheduled
from rllib_mec.testbed.device import Device, load_from
from rllib_mec.testbed.link import Link
from rllib_mec.testbed.records import TaskRecord
from rllib_mec.testbed.slowdown import Pace
from rllib_mec.testbed.split_model import task_input

SCHEDULER = "scheduler"
"""Value of ``decide`` for the server's scheduler; else it is the index of a point."""


_BATCHED_TAILS = 1e-4  # a batch of tails differs from single ones in the last bits
_PATIENCE_S = 30.0  # on a busy machine a server may be slow to come up, or to come back
_TIMEOUT_S = 10.0  # an emulation shall show the server's queue, not hide it by falling back


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a device is told first.

    Attributes:
        name: Its name.
        server: ``HOST:PORT``.
        slowdown: How many times longer compute takes.
        bandwidth_mbps: Rate of its own token bucket; None: the link is shaped outside.
        power_w: Transmit power where none is decided.
        distance_m: To the base station, told to the scheduler.
        task_seed: Seed of its tasks' inputs.
        model_seed: Seed of the DNN's random weights.
    """

    name: str
    server: str
    slowdown: float
    bandwidth_mbps: float | None
    power_w: float
    distance_m: float
    task_seed: int
    model_seed: int


class Worker:
    """Does the commands.

    Args:
        settings: The settings.

    Attributes:
        hello: What the server said of itself.

    Raises:
        MecError: The server is out of reach, or has other weights.
    """

    def __init__(self, settings: Settings):
        """Load the DNN that the server serves."""
        self._settings, self._access = settings, Access(settings.name, read_token())
        self._model, self.hello = load_from(
            settings.server,
            seed=settings.model_seed,
            access=self._access,
            timeout_s=_TIMEOUT_S,
            wait_s=_PATIENCE_S,
        )
        self._device: Device | None = None
        self._pace = Pace()
        self._results: list[tuple[TaskRecord, list[torch.Tensor]]] = []

    def profile(self, runs: int) -> dict[str, Any]:
        """Time the DNN's operators in this process, at full speed and in CPU time as it runs.

        Args:
            runs: How often each operator is timed.
        """
        graph, x = self._model.graph, self._input(0)
        return dataclasses.asdict(measure_latency(graph, x, runs=runs, clock=time.thread_time))

    def pace(self) -> dict[str, float]:
        """The least CPU time that each piece of work took so far, at full speed."""
        return self._pace.least_s()

    def keep_pace(self, seconds: dict[str, float]) -> dict[str, Any]:
        """Compute as fast from now on, whatever else the machine does.

        Args:
            seconds: How long each piece of work shall take, by its name.
        """
        self._pace.fix(seconds)
        return {}

    def connect(self, decide: str | int) -> dict[str, Any]:
        """Get ready to run with a decider.

        Args:
            decide: A fixed partition point, or :data:`SCHEDULER`.

        Raises:
            MecError: The server does not answer in time, or serves something else.
        """
        if self._device is not None:
            self._device.close()
        settings = self._settings
        self._device = Device(
            self._model,
            [settings.server],
            self._decider(decide),
            name=settings.name,
            link=Link(settings.bandwidth_mbps),
            access=self._access,
            slowdown=settings.slowdown,
            pace=self._pace,
            timeout_s=_TIMEOUT_S,
        )
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._device.connect()
                return {}
            except MecError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.5)

    def _decider(self, decide: str | int) -> Decider:
        settings = self._settings
        if decide != SCHEDULER:
            return Fixed(int(decide), self.hello.codec, settings.power_w)
        return Scheduled(
            ServerClient(settings.server, access=self._access),
            settings.name,
            self._model,
            distance_m=settings.distance_m,
            codec=self.hello.codec,
            timeout_s=_TIMEOUT_S,
        )

    def run(self, tasks: int, delay_s: float) -> dict[str, Any]:
        """Work through tasks, beginning a while from now.

        Args:
            tasks: How many.
            delay_s: So that all devices can begin together.
        """
        assert self._device is not None, "connect first"
        self._results = []
        inputs = (self._input(i) for i in range(tasks))
        time.sleep(delay_s)
        records = self._device.run(inputs, tasks, self._keep)
        return {"records": [dataclasses.asdict(record) for record in records]}

    def _keep(self, record: TaskRecord, result: Any) -> None:
        self._results.append((record, self._model.leaves(result)))

    def verify(self) -> dict[str, Any]:
        """How many results of the last run are not what the DNN gives.

        With float32 they must be so bit for bit; else they must be, but for the last bits, what the
        tail gives on tensors that went through the codec.
        """
        wrong = 0
        for record, leaves in self._results:
            expected = self._expected(record)
            exact = not _was_coded(record) or record.codec == "float32"
            tolerance = 0.0 if exact else _BATCHED_TAILS
            wrong += not all(
                torch.allclose(got, want, rtol=tolerance, atol=tolerance)
                for got, want in zip(leaves, expected, strict=True)
            )
        return {"wrong": wrong}

    def _expected(self, record: TaskRecord) -> list[torch.Tensor]:
        x, model = self._input(record.task), self._model
        if not _was_coded(record):
            return model.leaves(model.whole(x))
        coder = codec(record.codec)
        tensors = {
            name: coder.decode(coder.encode(tensor), tuple(tensor.shape), tensor.dtype)
            for name, tensor in model.head(record.point, x).items()
        }
        return model.leaves(model.tail(record.point, tensors))

    def _input(self, task: int) -> torch.Tensor:
        return task_input(self._model.input_shape, self._settings.task_seed, task)


def _was_coded(record: TaskRecord) -> bool:
    return record.bytes_sent > 0 and not record.fell_back


def main() -> int:
    """Do commands until stdin ends; returns the exit code."""
    torch.set_num_threads(1)
    try:
        worker = Worker(Settings(**json.loads(sys.stdin.readline())))
        _answer(worker.hello.to_json())
        for line in sys.stdin:
            command = json.loads(line)
            _answer(getattr(worker, command.pop("do"))(**command))
    except MecError as error:
        print(one_line(error), file=sys.stderr)
        return 2
    return 0


def _answer(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    sys.exit(main())
