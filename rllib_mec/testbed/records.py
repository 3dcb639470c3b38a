"""What was measured of each task, and its summary."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_mec.errors import MecError


@dataclass(frozen=True)
class TaskRecord:
    """One task of a device.

    Attributes:
        device: The device's name.
        task: Index of the task.
        window: Index of the device's task window.
        point: Index of the partition point that was decided.
        codec: How the tensors were coded.
        server: Index of the server.
        channel: Index of the channel.
        power_w: Transmit power.
        bytes_sent: Length of the request's frame; 0 if nothing was sent.
        local_ms: Compute on the device, slowdown included: the head and the coding, or everything.
        transmission_ms: ``total_ms − local_ms − server_ms``: the way there and back, and, where the
            server was busy or lost, the time that was lost with it.
        server_ms: Time in the server, from arrival to reply.
        waiting_ms: How long the device waited for the decision before this task; 0 but for the
            first task of a window.
        total_ms: From the start of the head to the result; waiting is not in it.
        energy_j: The model's estimate: ζ times the MACs done here, plus transmit power times
            ``transmission_ms`` (Eq. 3).
        fell_back: Whether the device finished the task though it was decided otherwise.
        reason: Why it did.
        attempts: How often the server was asked.
        started_s: When the task began, ``time.time()``.
        finished_s: When its result was there.
        result_sha256: Digest of the result's tensors.
        max_abs_error: Largest difference to the whole DNN's result; None if not verified.
    """

    device: str
    task: int
    window: int
    point: int
    codec: str
    server: int
    channel: int
    power_w: float
    bytes_sent: int
    local_ms: float
    transmission_ms: float
    server_ms: float
    waiting_ms: float
    total_ms: float
    energy_j: float
    fell_back: bool
    reason: str
    attempts: int
    started_s: float
    finished_s: float
    result_sha256: str
    max_abs_error: float | None = None


@dataclass(frozen=True)
class Summary:
    """What a set of tasks comes to.

    Attributes:
        tasks: How many.
        mean_ms: Mean of ``total_ms``.
        p50_ms: Its median.
        p95_ms: Its 95th percentile (nearest rank).
        throughput_per_s: Tasks over ``makespan_s``.
        makespan_s: From the first start to the last result.
        local_share: Share of tasks that ran fully on the device, fallbacks included.
        fallback_share: Share of tasks that fell back.
        waiting_ms: Mean of ``waiting_ms``.
        energy_j: Mean of ``energy_j``.
        max_abs_error: Largest of the tasks that were verified; None if none was.
    """

    tasks: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    throughput_per_s: float
    makespan_s: float
    local_share: float
    fallback_share: float
    waiting_ms: float
    energy_j: float
    max_abs_error: float | None

    @classmethod
    def of(cls, records: Sequence[TaskRecord]) -> Summary:
        """Summarise records, of one device or of several that ran at the same time.

        Args:
            records: One of each task, in any order.

        Raises:
            MecError: There are none.
        """
        if not records:
            raise MecError("there are no records to summarise")
        count = len(records)
        total = sorted(record.total_ms for record in records)
        makespan_s = max(r.finished_s for r in records) - min(r.started_s for r in records)
        errors = [r.max_abs_error for r in records if r.max_abs_error is not None]
        return cls(
            tasks=count,
            mean_ms=math.fsum(total) / count,
            p50_ms=_nearest_rank(total, 0.50),
            p95_ms=_nearest_rank(total, 0.95),
            throughput_per_s=count / makespan_s if makespan_s > 0 else math.inf,
            makespan_s=makespan_s,
            local_share=sum(r.fell_back or r.bytes_sent == 0 for r in records) / count,
            fallback_share=sum(r.fell_back for r in records) / count,
            waiting_ms=math.fsum(r.waiting_ms for r in records) / count,
            energy_j=math.fsum(r.energy_j for r in records) / count,
            max_abs_error=max(errors, default=None),
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.tasks} tasks in {self.makespan_s:.2f} s ({self.throughput_per_s:.1f}/s):"
            f" p50 {self.p50_ms:.1f} ms, p95 {self.p95_ms:.1f} ms, mean {self.mean_ms:.1f} ms,"
            f" {self.local_share:.0%} local ({self.fallback_share:.0%} fell back),"
            f" {self.energy_j:.4f} J a task"
        )


def _nearest_rank(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def csv_text(records: Iterable[TaskRecord]) -> str:
    """Records as CSV, one row a task, with the fields' names as header.

    Args:
        records: One of each task.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(TaskRecord)])
    writer.writeheader()
    writer.writerows(dataclasses.asdict(record) for record in records)
    return text.getvalue()


def json_text(records: Sequence[TaskRecord]) -> str:
    """``{"summary": ..., "tasks": [...]}``.

    Args:
        records: One of each task, at least one.
    """
    tasks = [dataclasses.asdict(record) for record in records]
    document = {"summary": Summary.of(records).to_dict(), "tasks": tasks}
    return json.dumps(document, indent=1) + "\n"


def read_json(path: str | Path) -> list[TaskRecord]:
    """Read the tasks of a device's ``--json``, also of one that was killed.

    Args:
        path: Of the file.

    Raises:
        MecError: The file is missing or is none.
    """
    try:
        return [TaskRecord(**task) for task in json.loads(Path(path).read_text())["tasks"]]
    except OSError as error:
        raise MecError(f"cannot read {str(path)!r}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise MecError(f"{str(path)!r} holds no task records: {error}") from None
