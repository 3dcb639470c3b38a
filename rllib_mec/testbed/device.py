"""A mobile device: runs heads, sends tensors, and finishes by itself what a server does not.

It needs torch and NumPy, but neither Ray nor any environment::

    from rllib_mec.testbed.device import Device, load_from
    from rllib_mec.testbed.decisions import Fixed
    from rllib_mec.testbed.split_model import task_input

    model, _ = load_from("192.168.0.10:8600")
    with Device(model, ["192.168.0.10:8600"], Fixed(point=2)) as device:
        inputs = (task_input(model.input_shape, 0, i) for i in range(100))
        records = device.run(inputs, 100)
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from rllib_mec.dnn import model_names
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario
from rllib_mec.testbed.access import Access
from rllib_mec.testbed.client import ServerBusy, ServerClient, ServerLost, ServerRefused
from rllib_mec.testbed.decisions import Decider, Scheduled, TaskDecision
from rllib_mec.testbed.frames import FRAME_CODECS, FrameError
from rllib_mec.testbed.hello import Hello
from rllib_mec.testbed.link import Link
from rllib_mec.testbed.records import TaskRecord
from rllib_mec.testbed.remote import Remote, Unavailable, mismatch
from rllib_mec.testbed.slowdown import Pace, SlowedWork
from rllib_mec.testbed.split_model import SplitModel
from rllib_mec.testbed.tensors import digest

OnResult = Callable[[TaskRecord, Any], None]


def load_from(
    address: str,
    *,
    model: str | None = None,
    seed: int = 0,
    weights: str | Path | None = None,
    access: Access | None = None,
    timeout_s: float = 1.0,
    wait_s: float = 0.0,
) -> tuple[SplitModel, Hello]:
    """Load the DNN that a server serves, with the server's partition points.

    Args:
        address: ``HOST:PORT`` of the server.
        model: The DNN that it is expected to serve; None: whichever of torchvision's it does. One
            of your own must be named: a server cannot have this device run code by its name.
        seed: Seed of the random weights.
        weights: File of the weights instead.
        access: How to show itself to the server.
        timeout_s: How long an answer may take.
        wait_s: How long to go on asking a server that is out of reach.

    Returns:
        The DNN, and what the server said of itself.

    Raises:
        MecError: The server is out of reach, or has another DNN or other weights.
    """
    client = ServerClient(address, access=access)
    give_up = time.monotonic() + wait_s
    while True:
        try:
            hello = client.hello(timeout_s)
            break
        except ServerRefused as error:
            raise MecError(f"the server {address}: {error}") from None
        except (ServerLost, ServerBusy) as error:
            if time.monotonic() >= give_up:
                raise MecError(f"the server {address}: {error}") from None
            time.sleep(0.1)
    client.close()
    if model is not None and model != hello.model:
        raise MecError(f"the server {address} has no DNN {model!r}: it serves {hello.model!r}")
    if model is None and hello.model not in model_names():
        raise MecError(
            f"the server {address} serves {hello.model!r}, which is code of this machine that"
            f" nobody named here: give the DNN's name if you mean it (--model {hello.model})"
        )
    loaded = SplitModel.load(
        hello.model,
        hello.input_shape,
        seed=seed,
        weights=weights,
        codec=hello.codec,
        heads=hello.heads,
    )
    problem = mismatch(loaded, hello)
    if problem:
        raise MecError(f"the server {address}: {problem}")
    return loaded, hello


@dataclasses.dataclass(frozen=True)
class _Done:
    """A task's result and what it took to get it; ``reason`` says why a task fell back."""

    result: Any
    bytes_sent: int = 0
    server_ms: float = 0.0
    attempts: int = 0
    reason: str = ""


class Device:
    """Works through tasks: head here, tail on a server, or all of it here.

    Each task gets exactly one result. If the server is slow, refuses, dies or answers garbage, the
    rest of the DNN runs here on the tensors at hand, and the record says why. A server that failed
    is left alone for a while (:class:`~rllib_mec.testbed.breaker.CircuitBreaker`), and used again
    when it is back with the same weights.

    Args:
        model: The DNN, with the servers' partition points (:func:`load_from`).
        servers: Their addresses, ``HOST:PORT``; a decision's server index counts in them.
        decider: Decides where tasks are cut.
        name: The device's name.
        link: The uplink.
        access: How to show itself to the servers; default: by its name alone.
        slowdown: Compute takes this many times as long: what is missing is slept. The time is CPU
            time, so that a busy machine does not count twice.
        pace: What that CPU time is taken from; default: each measurement counts.
        timeout_s: For one task's request, beyond the time that its bytes take on the link.
        backoff_s: How long a server is left alone after a first failure, and at most.
        energy_per_mmac_j: ζ, energy of a million MACs.
        verify: Compare every result with the whole DNN's, after the run.
        note: Told, in one line, what a user should know.

    Raises:
        MecError: A number out of its range, or an address that is none.
    """

    def __init__(
        self,
        model: SplitModel,
        servers: Sequence[str],
        decider: Decider,
        *,
        name: str = "md_0",
        link: Link | None = None,
        access: Access | None = None,
        slowdown: float = 1.0,
        pace: Pace | None = None,
        timeout_s: float = 1.0,
        backoff_s: tuple[float, float] = (0.1, 5.0),
        energy_per_mmac_j: float = Scenario.energy_per_mmac_j,
        verify: bool = False,
        note: Callable[[str], None] = lambda message: None,
    ):
        """Connect to nothing yet."""
        for label, value, least in (("slowdown", slowdown, 1.0), ("timeout_s", timeout_s, 1e-3)):
            if not least <= value < float("inf"):
                raise MecError(f"{label} must be a number of at least {least:g}, got {value!r}")
        self.model, self.decider, self.name = model, decider, name
        link = link or Link()
        self._remotes = [
            Remote(
                address,
                model,
                link=link,
                access=access or Access(name),
                timeout_s=timeout_s,
                backoff_s=backoff_s,
                note=note,
            )
            for address in servers
        ]
        self._slowdown, self._pace, self._verify = slowdown, pace, verify
        self._energy_per_mmac_j = energy_per_mmac_j
        self._total_mmacs = model.local_mmacs(model.full_local)

    def connect(self) -> None:
        """Greet all servers, register with the scheduler, and run everything once.

        Raises:
            MecError: A server is out of reach or has something else, or the scheduler has no place.
        """
        for remote in self._remotes:
            remote.connect()
        if isinstance(self.decider, Scheduled):
            try:
                self.decider.register()
            except (ServerLost, ServerBusy) as error:
                raise MecError(f"the scheduler: {error}") from None
        self.model.warm_up()

    def run(
        self, inputs: Iterable[torch.Tensor], num_tasks: int, on_result: OnResult | None = None
    ) -> list[TaskRecord]:
        """Work through tasks.

        Args:
            inputs: The tasks' inputs, each a batch of one; drawn when its task comes up.
            num_tasks: How many there are.
            on_result: Called with each task's record and result, as soon as it is there.

        Returns:
            A record of each task, in order.

        Raises:
            MecError: There are fewer inputs than tasks, or a decision is out of range.
        """
        source = iter(inputs)
        records: list[TaskRecord] = []
        kept: list[tuple[torch.Tensor, list[torch.Tensor]]] = []
        window = 0
        while len(records) < num_tasks:
            asked = time.perf_counter()
            decisions = self.decider.next_window(num_tasks - len(records))
            waiting_ms = 1e3 * (time.perf_counter() - asked)
            for decision in decisions:
                x = next(source, None)
                if x is None:
                    raise MecError(f"{num_tasks} tasks, but only {len(records)} inputs")
                record, result = self._task(len(records), window, decision, x)
                record = dataclasses.replace(record, waiting_ms=waiting_ms)
                waiting_ms = 0.0
                records.append(record)
                if self._verify:
                    kept.append((x, self.model.leaves(result)))
                if on_result is not None:
                    on_result(record, result)
            window += 1
        if self._verify:
            errors = [self._error(x, leaves) for x, leaves in kept]
            records = [
                dataclasses.replace(record, max_abs_error=error)
                for record, error in zip(records, errors, strict=True)
            ]
        return records

    def _task(
        self, index: int, window: int, decision: TaskDecision, x: torch.Tensor
    ) -> tuple[TaskRecord, Any]:
        work = SlowedWork(self._slowdown, self._pace)
        point = self._checked_point(decision)
        server = decision.server % max(len(self._remotes), 1)
        started_s, start = time.time(), time.perf_counter()
        if point == self.model.full_local or not self._remotes:
            result = work.do("whole", lambda: self.model.whole(x))
            done = _Done(result, reason=decision.fallback)
        else:
            done = self._offload(self._remotes[server], point, decision.codec, x, work)
        total_ms = 1e3 * (time.perf_counter() - start)
        away_ms = max(0.0, total_ms - work.spent_ms)
        server_ms = min(done.server_ms, away_ms)
        transmission_ms = away_ms - server_ms if done.bytes_sent else 0.0
        is_here = done.reason or not done.bytes_sent
        mmacs = self._total_mmacs if is_here else self.model.local_mmacs(point)
        record = TaskRecord(
            device=self.name,
            task=index,
            window=window,
            point=point,
            codec=decision.codec,
            server=server,
            channel=decision.channel,
            power_w=decision.power_w,
            bytes_sent=done.bytes_sent,
            local_ms=work.spent_ms,
            transmission_ms=transmission_ms,
            server_ms=server_ms,
            waiting_ms=0.0,
            total_ms=total_ms,
            energy_j=self._energy_per_mmac_j * mmacs + decision.power_w * transmission_ms / 1e3,
            fell_back=bool(done.reason),
            reason=done.reason,
            attempts=done.attempts,
            started_s=started_s,
            finished_s=started_s + total_ms / 1e3,
            result_sha256=digest(self.model.leaves(done.result)),
        )
        return record, done.result

    def _checked_point(self, decision: TaskDecision) -> int:
        point = self.model.full_local if decision.point is None else decision.point
        if not 0 <= point < self.model.num_points or decision.codec not in FRAME_CODECS:
            raise MecError(
                f"the decision for point {point} and codec {decision.codec!r} is out of range:"
                f" expected a point below {self.model.num_points}, a codec of"
                f" {', '.join(FRAME_CODECS)}"
            )
        return point

    def _offload(
        self, remote: Remote, point: int, codec: str, x: torch.Tensor, work: SlowedWork
    ) -> _Done:
        """Run the head here and the tail there, or, if that fails, whatever is left here."""
        try:
            remote.check()
        except Unavailable as why:
            return _Done(work.do("whole", lambda: self.model.whole(x)), reason=str(why))
        tensors = work.do(f"head {point}", lambda: self.model.head(point, x))
        sent = 0
        try:
            payload = work.do(f"frame {point} {codec}", lambda: remote.frame(point, codec, tensors))
            sent = len(payload)
            answer = remote.infer(payload)
        except (Unavailable, MecError, FrameError) as why:
            rest = work.do(f"tail {point}", lambda: self.model.tail(point, tensors))
            return _Done(rest, sent, reason=str(why))
        result = self.model.result(answer.leaves)
        return _Done(result, sent, answer.server_ms, answer.attempts)

    def _error(self, x: torch.Tensor, leaves: list[torch.Tensor]) -> float:
        """Largest difference of a result to the whole DNN's."""
        whole = self.model.leaves(self.model.whole(x))
        gaps = [(a.double() - b.double()).abs().max() for a, b in zip(leaves, whole, strict=True)]
        return float(max(gaps))

    def close(self) -> None:
        """Leave the scheduler and close all connections."""
        self.decider.close()
        for remote in self._remotes:
            remote.close()

    def __enter__(self) -> Device:
        """Connect; where that fails or is interrupted, give back what was taken."""
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
