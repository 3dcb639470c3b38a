"""The whole testbed on one machine: server and devices as processes, slowed down and shaped.

    with Emulation(EmulationOptions(devices=3)) as emulation:
        for run in emulation.compare():
            print(run)

What is emulated: a device's CPU is slower (every computation is followed by a sleep, such that both
take ``slowdown`` times the least CPU time that it took with one device alone), and its link
has a limited rate. What is real: the DNN, its halves, the codecs, the protocol, the server with its
queue, and the contention of the devices for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import secrets
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from rllib_mec.dnn import LatencyProfile
from rllib_mec.network.scenario import Scenario
from rllib_mec.testbed.access import TOKEN_VARIABLE
from rllib_mec.testbed.calibration import Calibration, Probe
from rllib_mec.testbed.emulated_device import SCHEDULER, Settings
from rllib_mec.testbed.emulation_run import EmulationOptions, Run
from rllib_mec.testbed.folders import own_folder
from rllib_mec.testbed.haproxy import free_port
from rllib_mec.testbed.hello import Hello
from rllib_mec.testbed.prediction import (
    Prediction,
    alone_ms,
    best_points,
    predict_fixed,
    predict_policy,
)
from rllib_mec.testbed.processes import Child
from rllib_mec.testbed.records import Summary, TaskRecord
from rllib_mec.testbed.shaping import Shaping, shaping

LOCAL_ONLY, FULL_OFFLOAD, BEST_POINTS = "local only", "full offload", "best points"

_START_S = 300.0  # Ray Serve takes 10 s on an idle machine, minutes on a busy one
_PROBES, _ROUNDS = 20, 5
_BUSY = 0.5  # load average a core above which other processes are in the way


class Emulation:
    """Server and devices, up while a block runs.

    Args:
        options: What is emulated.
        note: Told, in one line, what is going on.

    Attributes:
        options: As given.
        hello: What the server says of itself.
        calibration: What was measured of one device alone.
        link: How the links are shaped.
        load: The machine's load average before anything was started.
    """

    hello: Hello
    calibration: Calibration
    link: str
    load: float

    def __init__(self, options: EmulationOptions, note: Callable[[str], None] = lambda _: None):
        """Start nothing yet."""
        self.options, self._note = options, note
        self._stack = contextlib.ExitStack()
        self._devices: list[Child] = []
        self._token = secrets.token_hex(32)
        self._rng = np.random.default_rng(options.seed)

    def __enter__(self) -> Emulation:
        """Start server and devices, and calibrate.

        Raises:
            MecError: Something cannot be started.
        """
        self.load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if self.load > _BUSY * cores:
            self._note(
                f"other processes keep this machine busy (load average {self.load:.1f} on {cores}"
                " cores): what is measured will be slower than what is predicted"
            )
        with self._stack:  # what was started is ended if the rest fails
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes and remove the link."""
        self._stack.close()

    def _start(self) -> None:
        options, enter = self.options, self._stack.enter_context
        self._folder = enter(own_folder())
        link = enter(shaping(options.link, options.devices, options.bandwidth_mbps))
        self.link = link.description
        self._note(f"links of {options.bandwidth_mbps:g} Mbit/s by {link.description}")
        port = free_port()
        argv = [sys.executable, "-c", _MAIN, "server", "--host", link.listen, "--port", str(port)]
        argv += ["--model", options.model, "--codec", options.codec, "--seed", str(options.seed)]
        if options.checkpoint:
            argv += ["--checkpoint", options.checkpoint, "--devices", str(options.devices)]
        self._note("starting the server")
        server = self._child("the server", link.server_command(argv))
        server.receive(_START_S)  # its line when it is ready
        self._note(f"starting {options.devices} devices")
        address = f"{link.host}:{port}"
        self._devices = [self._device(n, link, address) for n in range(options.devices)]
        hellos = [json.loads(device.receive(_START_S)) for device in self._devices]
        self.hello = Hello.from_json(hellos[0])
        self._note("measuring the DNN and the link, with one device alone")
        self.calibration = self._calibrate()

    def _child(self, name: str, argv: Sequence[str]) -> Child:
        child = Child(name, argv, {"RAY_worker_niceness": "0", TOKEN_VARIABLE: self._token})
        self._stack.callback(child.stop)
        return child

    def _device(self, n: int, link: Shaping, address: str) -> Child:
        options = self.options
        settings = Settings(
            name=f"md_{n}",
            server=address,
            slowdown=options.slowdown,
            bandwidth_mbps=link.client_mbps,
            power_w=options.power_w,
            distance_m=options.distance_m,
            task_seed=options.seed + n,
            model_seed=options.seed,
        )
        argv = [sys.executable, "-m", "rllib_mec.testbed.emulated_device"]
        child = self._child(f"device md_{n}", link.command(n, argv))
        child.send(json.dumps(dataclasses.asdict(settings)))
        return child

    def _calibrate(self) -> Calibration:
        values = _ask(self._devices[:1], {"do": "profile", "runs": _PROBES})[0]
        path = self._folder / "profile.json"
        path.write_text(json.dumps(values))
        local = len(self.hello.heads) - 1
        self._in_turn(range(local + 1))
        pace = _ask(self._devices[:1], {"do": "pace"})[0]
        _ask(self._devices, {"do": "keep_pace", "seconds": pace})
        tasks = self._in_turn([local, 0, max(local - 1, 0)])
        at_local, large, small = (self._probe(point, records) for point, records in tasks)
        return Calibration.solve(
            LatencyProfile.load(path),
            self.hello.codec,
            local=at_local,
            large=large,
            small=small,
            bandwidth_mbps=self.options.bandwidth_mbps,
        )

    def _in_turn(self, points: Sequence[int]) -> list[tuple[int, list[TaskRecord]]]:
        """Tasks of one device at some points, in turn: what else the machine does meets all."""
        records: list[list[TaskRecord]] = [[] for _ in points]
        for _ in range(_ROUNDS):
            for own, point in zip(records, points, strict=True):
                own += self._run([point], _PROBES // _ROUNDS)
        return list(zip(points, records, strict=True))

    def _probe(self, point: int, records: Sequence[TaskRecord]) -> Probe:
        return Probe(
            self._table.point(self._columns[point]),
            statistics.median(record.local_ms for record in records),
            statistics.median(record.total_ms - record.local_ms for record in records),
            statistics.median(record.server_ms for record in records),
        )

    @cached_property
    def _table(self) -> Any:
        """All cuts of the DNN, of which the server offers some."""
        return Scenario(dnn=self.hello.model, partition="operator", server_latency_ms=1.0).table

    @cached_property
    def _columns(self) -> list[int]:
        """Index in that table of each of the server's points."""
        index = {point.head: i for i, point in enumerate(self._table.points)}
        return [index[head] for head in self.hello.heads]

    def scenario(self, num_devices: int, like: Scenario | None = None) -> Scenario:
        """The testbed as the simulator sees it.

        Args:
            num_devices: N.
            like: Whose other fields to take; the default scenario if ``None``.
        """
        return self.calibration.scenario(num_devices, self._folder, like)

    def cuts(self, run: Run) -> list[str]:
        """What each device of a run with fixed points sends.

        Args:
            run: A run whose devices each have one point.
        """
        names = [self._table.operators[self._columns[point]] for point in run.points]
        return [" + ".join(each) or "nothing: full local" for each in names]

    def compare(self, num_devices: int | None = None) -> Iterator[Run]:
        """Run local only, full offload, and the best points or the checkpoint's policy.

        Args:
            num_devices: How many of the devices take part; default: all.
        """
        count = num_devices or self.options.devices
        local, power_w = len(self.hello.heads) - 1, self.options.power_w
        yield self.run_fixed(LOCAL_ONLY, [local] * count)
        yield self.run_fixed(FULL_OFFLOAD, [0] * count)
        if self.options.checkpoint:
            yield self.run_checkpoint()
        else:
            best = best_points(self.scenario(count), self._columns, power_w)
            yield self.run_fixed(BEST_POINTS, [self._columns.index(column) for column in best])

    def run_fixed(self, policy: str, points: Sequence[int]) -> Run:
        """Run with each device's tasks cut at one point.

        Args:
            policy: Name of the run.
            points: The point of each device that takes part, of the server's.
        """
        options, scenario = self.options, self.scenario(len(points))
        columns = [self._columns[point] for point in points]
        predicted = predict_fixed(scenario, columns, options.tasks, options.power_w)
        self._note(f"{policy}: {len(points)} devices, {options.tasks} tasks each")
        task_s = float(alone_ms(scenario)[columns].mean()) / 1e3
        records = self._run(points, options.tasks, self._rng.random(len(points)) * task_s)
        return self._finished(policy, points, records, predicted)

    def run_checkpoint(self) -> Run:
        """Run with the decisions of the server's scheduler."""
        from rllib_mec.policies import load_policy

        options = self.options
        policy = load_policy(str(options.checkpoint))
        scenario = self.scenario(options.devices, like=policy.scenario)
        predicted = predict_policy(
            scenario, policy, self._columns, options.tasks, options.distance_m
        )
        self._note(f"{policy.name}: {options.devices} devices, {options.tasks} tasks each")
        records = self._run([SCHEDULER] * options.devices, options.tasks)
        return self._finished(policy.name, [], records, predicted)

    def _run(
        self,
        decide: Sequence[int | str],
        tasks: int,
        delays_s: Sequence[float] | np.ndarray | None = None,
    ) -> list[TaskRecord]:
        devices = self._devices[: len(decide)]
        _ask(devices, *({"do": "connect", "decide": each} for each in decide))
        delays = [0.0] * len(devices) if delays_s is None else delays_s
        answers = _ask(
            devices, *({"do": "run", "tasks": tasks, "delay_s": float(delay)} for delay in delays)
        )
        return [TaskRecord(**record) for answer in answers for record in answer["records"]]

    def _finished(
        self,
        policy: str,
        points: Sequence[int],
        records: Sequence[TaskRecord],
        predicted: Prediction,
    ) -> Run:
        count = len({record.device for record in records})
        wrong = sum(answer["wrong"] for answer in _ask(self._devices[:count], {"do": "verify"}))
        measured = Summary.of(records)
        return Run(policy, count, tuple(points), measured, predicted, wrong, tuple(records))


_MAIN = "import sys; from rllib_mec.cli.mec import main; sys.exit(main())"


def _ask(devices: Sequence[Child], *commands: dict[str, Any]) -> list[dict[str, Any]]:
    """Send all devices a command each, or the same, and gather the answers."""
    each = commands * len(devices) if len(commands) == 1 else commands
    for device, command in zip(devices, each, strict=True):
        device.send(json.dumps(command))
    return [json.loads(device.receive(math.inf)) for device in devices]
