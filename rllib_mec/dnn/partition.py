"""The partition table: what each partition point sends, computes, and leaves for the server."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_mec.dnn.codecs import Codec
from rllib_mec.dnn.codecs import codec as codec_by_name
from rllib_mec.dnn.graph import Operator, OperatorGraph
from rllib_mec.dnn.memory import heads_memory_bytes
from rllib_mec.dnn.pareto import pareto_front
from rllib_mec.dnn.points import (
    PartitionPoint,
    algorithm_1,
    layer_points,
    operator_points,
    vertical_points,
)
from rllib_mec.dnn.profiling import LatencyProfile, as_latencies
from rllib_mec.dnn.walk import exact, walk
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
        found = heads_memory_bytes(self.points[0].graph, [point.head for point in self.points])
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
        counts: Each node's work, in whole multiples of a unit.
        unit: How many of them are one ms, or the whole DNN where ``measured_ms`` is None.
    """

    whole_ms: float
    measured_ms: tuple[float, ...] | None
    counts: Sequence[int]
    unit: int

    @classmethod
    def of(cls, graph: OperatorGraph, given: float | LatencyProfile, label: str) -> _Work:
        measured = as_latencies(given, graph, label)
        if measured is None:
            macs = [node.macs for node in graph.nodes]
            return cls(float(given), None, macs, max(graph.total_macs, 1))  # type: ignore[arg-type]
        of_nodes = (*(0.0 for _ in graph.inputs), *measured)
        return cls(math.fsum(measured), of_nodes, *exact(of_nodes))

    def share(self, count: int) -> float:
        """The share of the whole latency that so much work takes."""
        return count / self.unit / (1.0 if self.measured_ms is None else self.whole_ms or 1.0)


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
        graph, full = self.graph, self.graph.full_set
        points, epsilon = self._points(method)
        rows = self._rows([point.head for point in points])
        places = sorted(range(len(points)), key=lambda i: _rank(points[i], rows[i].macs))
        points, rows = tuple(points[i] for i in places), [rows[i] for i in places]
        is_local = [point.head == full for point in points]

        def left_ms(number: int, server: _Work) -> NDArray[np.float64]:
            """What is left for a server at each point."""
            left = [0.0 if local else 1.0 for local in is_local]
            if self.server_model == "share":
                whole = sum(server.counts)
                left = [
                    0.0 if local else server.share(whole - row.work[1 + number])
                    for local, row in zip(is_local, rows, strict=True)
                ]
            return np.array(left) * server.whole_ms

        done = [
            1.0 if local else self.device.share(row.work[0])
            for local, row in zip(is_local, rows, strict=True)
        ]
        total = max(graph.total_macs, 1)
        shares = [
            0.0 if local else 1 - row.macs / total
            for local, row in zip(is_local, rows, strict=True)
        ]
        others = [left_ms(i, other) for i, other in enumerate(self.others, start=1)]
        return PartitionTable(
            dnn=graph.name,
            method=method,
            server_model=self.server_model,
            points=points,
            operators=tuple(tuple(graph.nodes[i].name for i in row.crossing) for row in rows),
            elements=_frozen(np.array([row.elements for row in rows], dtype=np.int64)),
            bits=_frozen(np.array([row.bits for row in rows], dtype=np.float64)),
            local_mmacs=_frozen(np.array([row.macs for row in rows], dtype=np.float64) / 1e6),
            local_latency_ms=_frozen(np.array(done) * self.device.whole_ms),
            server_latency_ms=_frozen(left_ms(0, self.server)),
            server_share=_frozen(np.array(shares)),
            other_servers_ms=_frozen(np.array(others).reshape(-1, len(points))),
            epsilon=epsilon,
        )

    def _rows(self, heads: Sequence[int]) -> list[_Row]:
        """The numbers of each head."""
        nodes = self.graph.nodes
        bits, unit = exact(self.bits)
        machines = (self.device, self.server, *self.others)
        columns = [[node.macs for node in nodes], *(machine.counts for machine in machines)]
        sums = [0] * len(columns)
        found: dict[int, _Row] = {}
        for at, joined, left, crossing in walk(self.graph, heads):
            for k, column in enumerate(columns):
                sums[k] += sum(column[i] for i in joined) - sum(column[i] for i in left)
            found[at] = _Row(
                crossing=tuple(sorted(crossing)),
                elements=sum(nodes[i].elements for i in crossing),
                bits=sum(bits[i] for i in crossing) / unit,
                macs=sums[0],
                work=tuple(sums[1:]),
            )
        return [found[at] for at in range(len(heads))]

    def _points(self, method: str) -> tuple[tuple[PartitionPoint, ...], float]:
        """The points of a method with whatever server, in no order."""
        found = [self._points_with(server, method) for server in (self.server, *self.others)]
        heads = {point.head: point for points, _ in found for point in points}
        return tuple(heads.values()), max(epsilon for _, epsilon in found)

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


class _Row(NamedTuple):
    """The numbers of one point: what crosses, and sums over the head, ``work`` by machine."""

    crossing: tuple[int, ...]
    elements: int
    bits: float
    macs: int
    work: tuple[int, ...]


def _rank(point: PartitionPoint, macs: int) -> tuple[bool, int, int, bytes]:
    """Input first, full local last, between them by MACs, operators, and who comes first."""
    ties = point.head.to_bytes(len(point.graph.nodes) // 8 + 1, "little").translate(_BACKWARDS)
    return point.is_full_local, macs, point.head.bit_count(), ties


_BACKWARDS = bytes(int(f"{~byte & 255:08b}"[::-1], 2) for byte in range(256))
"""Puts the set first whose smallest member that the other lacks is smaller."""


def _frozen(array: NDArray) -> NDArray:
    array.setflags(write=False)
    return array
