"""Measured latencies: time each operator on the machine at hand, save and load as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.errors import MecError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LatencyProfile:
    """Latency of each operator of one DNN on one machine.

    Attributes:
        dnn: The graph's name.
        operators: The operators' names, in the graph's order.
        latency_ms: Median latency of each operator.
        low_ms: Lower end of the 95 % confidence interval of each median.
        high_ms: Its upper end.
        whole_ms: Median latency of one run of the whole DNN, timed without stops.
        runs: Timed runs.
        warmup: Runs before them that were thrown away.
        input_shapes: Shapes of the inputs.
        machine: Where it was measured: processor, threads, device, torch version.
    """

    dnn: str
    operators: tuple[str, ...]
    latency_ms: tuple[float, ...]
    low_ms: tuple[float, ...]
    high_ms: tuple[float, ...]
    whole_ms: float
    runs: int
    warmup: int
    input_shapes: tuple[tuple[int, ...], ...]
    machine: dict[str, str]

    @property
    def total_ms(self) -> float:
        """The whole DNN's latency as the sum of its operators' (full local inference)."""
        return math.fsum(self.latency_ms)

    def scaled(self, factor: float) -> LatencyProfile:
        """The same profile on a machine that takes ``factor`` times as long.

        Args:
            factor: Above 0; 2 is half as fast.

        Raises:
            MecError: The factor is not a positive number.
        """
        if not (math.isfinite(factor) and factor > 0):
            raise MecError(f"a profile's factor must be a positive number, got {factor!r}")
        return dataclasses.replace(
            self,
            latency_ms=tuple(factor * t for t in self.latency_ms),
            low_ms=tuple(factor * t for t in self.low_ms),
            high_ms=tuple(factor * t for t in self.high_ms),
            whole_ms=factor * self.whole_ms,
        )

    def for_graph(self, graph: OperatorGraph) -> list[float]:
        """The latencies in ms, one for each operator of a graph, in its order.

        Args:
            graph: Of the DNN that was profiled.

        Raises:
            MecError: The profile is of another graph, or of inputs of other shapes.
        """
        latency = dict(zip(self.operators, self.latency_ms, strict=True))
        names = [operator.name for operator in graph.operators]
        odd = next((name for name in names if name not in latency), None)
        if odd is not None or len(names) != len(latency):
            why = f"it has no operator {odd!r}" if odd else f"it has {len(latency)} operators"
            raise MecError(
                f"the profile of {self.dnn!r} does not fit {graph.name!r} with"
                f" {len(names)} operators: {why}; profile this DNN"
            )
        shapes = tuple(node.shapes[0] for node in graph.inputs if node.shapes)
        if self.input_shapes and shapes and self.input_shapes != shapes:
            raise MecError(
                f"the profile of {self.dnn!r} was measured on inputs of shapes"
                f" {_shapes(self.input_shapes)}, but {graph.name!r} takes {_shapes(shapes)}:"
                " profile it on these"
            )
        return [latency[name] for name in names]

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON.

        Args:
            path: Of the file, which is overwritten.
        """
        Path(path).write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> LatencyProfile:
        """Read a profile that :meth:`save` wrote.

        Args:
            path: Of the file.

        Raises:
            MecError: The file is missing or is no profile.
        """
        try:
            fields = json.loads(Path(path).read_text())
            lists = ("operators", "latency_ms", "low_ms", "high_ms")
            fields |= {key: tuple(fields[key]) for key in lists}
            fields["input_shapes"] = tuple(tuple(s) for s in fields["input_shapes"])
            made = cls(**fields)
            valid = len({len(getattr(made, key)) for key in lists}) == 1 and all(
                isinstance(t, (int, float)) and math.isfinite(t) and t >= 0 for t in made.latency_ms
            )
        except OSError as error:
            raise MecError(f"cannot read the profile {str(path)!r}: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise MecError(f"{str(path)!r} is not a profile: {error}") from None
        if not valid:
            raise MecError(
                f"{str(path)!r} is not a profile: expected one latency of 0 ms or more per operator"
            )
        return made


def measure_latency(
    graph: OperatorGraph,
    example_input: torch.Tensor | tuple[torch.Tensor, ...] | None = None,
    *,
    runs: int = 30,
    warmup: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyProfile:
    """Time each operator of a traced graph on the machine at hand.

    The program runs node by node and every node's time goes to its operator, so that caches are in
    the state that real inference finds them in. On CUDA each node is waited for.

    Args:
        graph: A graph that :func:`rllib_mec.dnn.trace` made from a module with real parameters.
        example_input: What to run on; default: random numbers of the traced shapes.
        runs: Timed runs; the median over them counts.
        warmup: Runs before them that do not count.
        clock: Seconds that count; on a busy machine, and with one thread, ``time.thread_time``
            leaves out what other processes take.

    Returns:
        The profile.

    Raises:
        MecError: The graph was made by hand or traced on the meta device, or a count is too small.
    """
    from rllib_mec.dnn.timing import time_program

    if graph.program is None:
        raise MecError(f"the graph {graph.name!r} was made by hand: only a traced one can be timed")
    if runs < 1 or warmup < 0:
        raise MecError(f"expected runs >= 1 and warmup >= 0, got {runs} and {warmup}")
    times, whole, shapes, machine = time_program(graph, example_input, runs, warmup, clock)
    names = tuple(operator.name for operator in graph.operators)
    intervals = [_median_interval(times[name]) for name in names]
    return LatencyProfile(
        dnn=graph.name,
        operators=names,
        latency_ms=tuple(median for median, _, _ in intervals),
        low_ms=tuple(low for _, low, _ in intervals),
        high_ms=tuple(high for _, _, high in intervals),
        whole_ms=_median_interval(whole)[0],
        runs=runs,
        warmup=warmup,
        input_shapes=shapes,
        machine={"processor": _processor(), **machine, "date": time.strftime("%Y-%m-%d")},
    )


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)


def _median_interval(samples: list[float]) -> tuple[float, float, float]:
    """The median and the ends of its 95 % confidence interval, from order statistics."""
    ordered = sorted(samples)
    count = len(ordered)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    reach = 1.96 * math.sqrt(count) / 2
    low = max(0, math.floor(count / 2 - reach))
    high = min(count - 1, math.ceil(count / 2 + reach))
    return middle, ordered[low], ordered[high]


def _processor() -> str:
    """The processor's name, as well as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def as_latencies(value: Any, graph: OperatorGraph, label: str) -> list[float] | None:
    """A profile's latencies for a graph, or None if ``value`` is a positive number of ms.

    Args:
        value: What the user gave.
        graph: The DNN.
        label: What to call the value in the error.

    Raises:
        MecError: It is neither.
    """
    if isinstance(value, LatencyProfile):
        return value.for_graph(graph)
    if not isinstance(value, bool) and isinstance(value, (int, float)):
        if math.isfinite(value) and value > 0:
            return None
    raise MecError(f"{label} must be a positive number of ms or a LatencyProfile, got {value!r}")
