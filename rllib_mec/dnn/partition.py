"""The partition table: what each partition point sends, computes, and leaves for the server."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rllib_mec.dnn.codecs import Codec
from rllib_mec.dnn.codecs import codec as codec_by_name
from rllib_mec.dnn.graph import Operator, OperatorGraph, bits_of
from rllib_mec.dnn.memory import head_memory_bytes
from rllib_mec.dnn.pareto import pareto_front
from rllib_mec.dnn.points import (
    PartitionPoint,
    algorithm_1,
    layer_points,
    operator_points,
    vertical_points,
)
from rllib_mec.dnn.profiling import LatencyProfile, as_latencies
from rllib_mec.errors import MecError, unknown

METHODS = ("pareto", "operator", "algorithm1", "vertical", "layer")
"""How the points of a table are chosen; see :func:`partition_table`."""

SERVER_MODELS = ("constant", "share")
"""Server latency of a cut: the whole DNN's (Eq. 2), or in proportion to the MACs left."""


@dataclass(frozen=True, eq=False)
class PartitionTable:
    """All partition points ``s = 1..S`` of a DNN in one dimension, index 0 being ``s = 1``.

    Points stand in the order of the MACs done on the device (ties: fewer operators first), so index
    0 sends the input and the last one is full local. Arrays are read-only, of shape ``(S,)``.

    Attributes:
        dnn: The DNN's name.
        method: One of :data:`METHODS`.
        server_model: One of :data:`SERVER_MODELS`.
        points: The points, for :func:`rllib_mec.dnn.split`.
        operators: Names of the operators whose output is sent: ``("input",)`` at index 0, ``()``
            for full local.
        elements: int64, elements sent; 0 for full local.
        bits: float64, bits sent (``I`` of Eq. 2).
        local_mmacs: float64, million MACs done on the device (``M`` of Eq. 3).
        local_latency_ms: float64, latency on the device.
        server_latency_ms: float64, latency on an otherwise idle server; 0 for full local.
        server_share: float64, share of the MACs left for the server.
        other_servers_ms: float64, ``server_latency_ms`` of each of the other servers, ``(P, S)``.
        epsilon: 0 if the points are exactly what ``method`` says; else the error of an approximate
            Pareto front (see :func:`rllib_mec.dnn.pareto.pareto_front`).
    """

    dnn: str
    method: str
    server_model: str
    points: tuple[PartitionPoint, ...]
    operators: tuple[tuple[str, ...], ...]
    elements: NDArray[np.int64]
    bits: NDArray[np.float64]
    local_mmacs: NDArray[np.float64]
    local_latency_ms: NDArray[np.float64]
    server_latency_ms: NDArray[np.float64]
    server_share: NDArray[np.float64]
    other_servers_ms: NDArray[np.float64]
    epsilon: float = 0.0

    @cached_property
    def head_memory_bytes(self) -> NDArray[np.int64]:
        """int64, what the device must hold, as :func:`.memory.head_memory_bytes` counts it."""
        found = [head_memory_bytes(point.graph, point.head) for point in self.points]
        return _frozen(np.array(found, dtype=np.int64))

    @property
    def num_points(self) -> int:
        """``S``, the number of partition points."""
        return len(self.points)

    @property
    def full_local(self) -> int:
        """Index of the point at which everything runs on the device, ``s = S``."""
        return self.num_points - 1

    def __len__(self) -> int:
        """``S``, the number of partition points."""
        return len(self.points)

    def point(self, index: int) -> PartitionPoint:
        """The point at an index.

        Args:
            index: 0 sends the input, S - 1 is full local.

        Raises:
            MecError: There is no such index.
        """
        if not 0 <= index < len(self.points):
            raise MecError(
                f"partition point {index} is out of range: {self.dnn!r} has points 0 to"
                f" {len(self.points) - 1} (method {self.method!r})"
            )
        return self.points[index]


def partition_table(
    dnn: str | OperatorGraph,
    method: str = "pareto",
    *,
    feature_bits: float = 32,
    codec: str | Codec | None = None,
    device_latency_ms: float | LatencyProfile = 1.0,
    server_latency_ms: float | LatencyProfile = 1.0,
    server_model: str = "constant",
    other_servers_ms: Sequence[float | LatencyProfile] = (),
) -> PartitionTable:
    """Tabulate a DNN's partition points.

    Args:
        dnn: A torchvision classification model's name, at a 3x224x224 input, or a traced graph.
        method: ``"pareto"``: the points that no other beats in bits sent, MACs and latency on the
            device and, under the server model ``"share"``, work left for the server;
            ``"operator"``: all cuts between operators; ``"algorithm1"``: Algorithm 1 as printed;
            ``"vertical"``: cuts that a single tensor crosses; ``"layer"``: cuts between layers.
        feature_bits: Bits per floating-point element sent.
        codec: Name of a feature codec or the codec, whose exact bytes replace ``feature_bits``.
        device_latency_ms: Latency of the whole DNN on the device, shared over the operators by
            MACs, or a measured profile.
        server_latency_ms: The same on an otherwise idle server, ``L_0`` of Eq. 2.
        server_model: ``"constant"``: every cut but full local costs the whole server latency;
            ``"share"``: in proportion to the MACs left, or what a profile says of the operators
            left.
        other_servers_ms: ``server_latency_ms`` of other servers that a task may be sent to; a front
            then has the points of the front with each server.

    Returns:
        The table.

    Raises:
        MecError: An unknown name, a number that is not positive, a profile of another DNN, or more
            points than can be listed.
    """
    if method not in METHODS:
        raise unknown("partition method", method, METHODS)
    if server_model not in SERVER_MODELS:
        raise unknown("server model", server_model, SERVER_MODELS)
    if not (isinstance(feature_bits, (int, float)) and 0 < feature_bits < math.inf):
        raise MecError(f"feature_bits must be a positive number, got {feature_bits!r}")
    if isinstance(codec, str):
        codec = codec_by_name(codec)
    if isinstance(dnn, str):
        from rllib_mec.dnn.models import model_graph

        dnn = model_graph(dnn)
    return _Tabulation(
        graph=dnn,
        bits=tuple(_bits(node, feature_bits, codec) for node in dnn.nodes),
        device=_Work.of(dnn, device_latency_ms, "device_latency_ms"),
        server=_Work.of(dnn, server_latency_ms, "server_latency_ms"),
        server_model=server_model,
        others=tuple(_Work.of(dnn, given, "other_servers_ms") for given in other_servers_ms),
    ).table(method)


def _bits(node: Operator, feature_bits: float, codec: Codec | None) -> float:
    """Bits of a node's output on the link."""
    if codec is None:
        return node.bits(feature_bits)
    return sum(count * raw if raw else 8 * codec.num_bytes(count) for count, raw in node.parts)


@dataclass(frozen=True)
class _Work:
    """Latency on one machine: in proportion to the MACs done, or as measured for each operator.

    Attributes:
        whole_ms: Latency of the whole DNN.
        measured_ms: Latency of each node, inputs included; None: by MACs.
    """

    whole_ms: float
    measured_ms: tuple[float, ...] | None = None

    @classmethod
    def of(cls, graph: OperatorGraph, given: float | LatencyProfile, label: str) -> _Work:
        measured = as_latencies(given, graph, label)
        if measured is None:
            return cls(float(given))  # type: ignore[arg-type]  # as_latencies checked it
        return cls(math.fsum(measured), (*(0.0 for _ in graph.inputs), *measured))

    def share(self, graph: OperatorGraph, nodes: int) -> float:
        """The share of the whole latency that a set of nodes takes; exactly 0 or 1 at the ends."""
        if nodes == graph.full_set:
            return 1.0
        if self.measured_ms is not None:
            return math.fsum(self.measured_ms[i] for i in bits_of(nodes)) / (self.whole_ms or 1.0)
        return sum(graph.nodes[i].macs for i in bits_of(nodes)) / max(graph.total_macs, 1)


@dataclass(frozen=True)
class _Tabulation:
    """Everything that the points' numbers depend on."""

    graph: OperatorGraph
    bits: tuple[float, ...]
    device: _Work
    server: _Work
    server_model: str
    others: tuple[_Work, ...]

    def table(self, method: str) -> PartitionTable:
        points, epsilon = self._points(method)
        graph, full = self.graph, self.graph.full_set
        macs = [p.macs for p in points]
        local = [self.device.share(graph, p.head) for p in points]

        def left_ms(server: _Work) -> NDArray[np.float64]:
            """What is left for a server at each point."""
            if self.server_model == "share":
                left = [server.share(graph, full & ~p.head) for p in points]
            else:
                left = [0.0 if p.is_full_local else 1.0 for p in points]
            return np.array(left) * server.whole_ms

        bits = [sum(self.bits[i] for i in graph.crossing(p.head)) for p in points]
        total = max(graph.total_macs, 1)
        shares = [
            0.0 if p.is_full_local else 1 - m / total for p, m in zip(points, macs, strict=True)
        ]
        return PartitionTable(
            dnn=graph.name,
            method=method,
            server_model=self.server_model,
            points=points,
            operators=tuple(p.operators for p in points),
            elements=_frozen(np.array([p.elements for p in points], dtype=np.int64)),
            bits=_frozen(np.array(bits, dtype=np.float64)),
            local_mmacs=_frozen(np.array(macs, dtype=np.float64) / 1e6),
            local_latency_ms=_frozen(np.array(local) * self.device.whole_ms),
            server_latency_ms=_frozen(left_ms(self.server)),
            server_share=_frozen(np.array(shares)),
            other_servers_ms=_frozen(
                np.array([left_ms(other) for other in self.others]).reshape(-1, len(points))
            ),
            epsilon=epsilon,
        )

    def _points(self, method: str) -> tuple[tuple[PartitionPoint, ...], float]:
        """The points of a method in their one-dimensional order, with whatever server."""
        found = [self._points_with(server, method) for server in (self.server, *self.others)]
        heads = {point.head: point for points, _ in found for point in points}
        return tuple(sorted(heads.values(), key=_rank)), max(epsilon for _, epsilon in found)

    def _points_with(self, server: _Work, method: str) -> tuple[tuple[PartitionPoint, ...], float]:
        """The points of a method with one of the servers, kept on the graph."""
        share = self.server_model == "share"
        key = (method,)
        if method == "pareto":
            key = (method, self.bits, self.device.measured_ms, share and (server.measured_ms,))
        if key not in self.graph.cache:
            epsilon = 0.0
            if method == "pareto":
                front = pareto_front(
                    self.graph,
                    self.bits,
                    server_model=self.server_model,
                    device_ms=self.device.measured_ms,
                    server_ms=server.measured_ms,
                )
                points, epsilon = front.points, front.epsilon
            else:
                points = _ENUMERATED[method](self.graph)
            self.graph.cache[key] = tuple(points), epsilon
        return self.graph.cache[key]


_ENUMERATED: dict[str, Callable[[OperatorGraph], Sequence[PartitionPoint]]] = {
    "operator": operator_points,
    "algorithm1": algorithm_1,
    "vertical": vertical_points,
    "layer": layer_points,
}


def _rank(point: PartitionPoint) -> tuple[bool, int, int, tuple[int, ...]]:
    """Input first, full local last, and between them by MACs on the device."""
    return point.is_full_local, point.macs, point.head.bit_count(), tuple(bits_of(point.head))


def _frozen(array: NDArray) -> NDArray:
    array.setflags(write=False)
    return array
