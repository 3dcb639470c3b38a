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
from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.memory import heads_memory_bytes
from rllib_mec.dnn.pareto import pareto_front
from rllib_mec.dnn.points import (
    PartitionPoint,
    algorithm_1,
    layer_points,
    operator_points,
    vertical_points,
)
from rllib_mec.dnn.profiling import LatencyProfile
from rllib_mec.dnn.route import route_of
from rllib_mec.dnn.sweep import TooWide
from rllib_mec.dnn.walk import exact, walk
from rllib_mec.dnn.work import Work, bits_sent, check_bandwidth, check_server_model, graph_of
from rllib_mec.errors import MecError, unknown

METHODS = ("pareto", "operator", "algorithm1", "vertical", "layer")
"""How the points of a table are chosen; see :func:`partition_table`."""

MIN_CUT = "min-cut"
"""The method of a table with only the best cut for one link, the input and full local."""


@dataclass(frozen=True, eq=False)
class PartitionTable:
    """All partition points ``s = 1..S`` of a DNN in one dimension, index 0 being ``s = 1``.

    Points stand in the order of the MACs done on the device (ties: fewer operators first), so index
    0 sends the input and the last one is full local. Arrays are read-only, of shape ``(S,)``.

    Attributes:
        dnn: The DNN's name.
        method: One of :data:`METHODS`, or ``"min-cut"``.
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
    bandwidth_mbps: float | None = None,
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
        bandwidth_mbps: Of the link, for one task alone. Where the exact front is too wide, the
            best cut for this link, found by one minimum cut, is among the points; where there is
            not even an approximate front, it stands alone between the input and full local, and
            the table's ``method`` is ``"min-cut"``.

    Returns:
        The table.

    Raises:
        MecError: An unknown name, a number that is not positive, a profile of another DNN, or more
            points than can be listed.
    """
    if method not in METHODS:
        raise unknown("partition method", method, METHODS)
    check_server_model(server_model)
    if bandwidth_mbps is not None:
        check_bandwidth("bandwidth_mbps", bandwidth_mbps)
    graph = graph_of(dnn)
    return _Tabulation(
        graph=graph,
        bits=bits_sent(graph, feature_bits, codec),
        device=Work.of(graph, device_latency_ms, "device_latency_ms"),
        server=Work.of(graph, server_latency_ms, "server_latency_ms"),
        server_model=server_model,
        others=tuple(Work.of(graph, given, "other_servers_ms") for given in other_servers_ms),
        bandwidth_mbps=bandwidth_mbps,
    ).table(method)


@dataclass(frozen=True)
class _Tabulation:
    """Everything that the points' numbers depend on."""

    graph: OperatorGraph
    bits: tuple[float, ...]
    device: Work
    server: Work
    server_model: str
    others: tuple[Work, ...]
    bandwidth_mbps: float | None

    def table(self, method: str) -> PartitionTable:
        graph, full = self.graph, self.graph.full_set
        points, epsilon, method = self._points(method)
        rows = self._rows([point.head for point in points])
        places = sorted(range(len(points)), key=lambda i: _rank(points[i], rows[i].macs))
        points, rows = tuple(points[i] for i in places), [rows[i] for i in places]
        is_local = [point.head == full for point in points]

        def left_ms(number: int, server: Work) -> NDArray[np.float64]:
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

    def _points(self, method: str) -> tuple[tuple[PartitionPoint, ...], float, str]:
        """The points of a method with whatever server, in no order; their error, their method."""
        heads = [self.graph.input_set, self.graph.full_set]
        errors = [0.0]
        for server in (self.server, *self.others):
            try:
                points, epsilon = self._points_with(server, method)
            except TooWide:
                if self.bandwidth_mbps is None:
                    raise
                points, epsilon, method = (), math.inf, MIN_CUT
            heads += [point.head for point in points]
            if self.bandwidth_mbps is not None and epsilon > 0:
                machines, links = (self.device, server), (self.bandwidth_mbps,)
                best = route_of(self.graph, machines, self.bits, links, self.server_model)
                heads.append(best.points[0].head)
            errors.append(epsilon if points else 0.0)
        points = tuple(PartitionPoint(self.graph, head) for head in dict.fromkeys(heads))
        return points, max(errors), method

    def _points_with(self, server: Work, method: str) -> tuple[tuple[PartitionPoint, ...], float]:
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
