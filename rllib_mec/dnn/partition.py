"""Which partition points a table has, by what method, and their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_mec.dnn.codecs import Codec
from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.memory import heads_memory_bytes
from rllib_mec.dnn.pareto import ParetoFront, pareto_front
from rllib_mec.dnn.points import (
    PartitionPoint,
    TooMany,
    algorithm_1,
    layer_points,
    operator_points,
    vertical_points,
)
from rllib_mec.dnn.profiling import LatencyProfile
from rllib_mec.dnn.route import route_of
from rllib_mec.dnn.sides import that_split
from rllib_mec.dnn.sweep import TooWide
from rllib_mec.dnn.table import MIN_CUT, PartitionTable, frozen
from rllib_mec.dnn.walk import exact, walk
from rllib_mec.dnn.work import Work, bits_sent, check_bandwidth, check_server_model, graph_of
from rllib_mec.errors import MecError, unknown

METHODS = ("pareto", "operator", "algorithm1", "vertical", "layer")
"""How the points of a table are chosen; see :func:`partition_table`."""


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
    device_memory_mb: float | None = None,
) -> PartitionTable:
    """Tabulate a DNN's partition points, those that :func:`rllib_mec.dnn.split` makes halves of.

    Where sizes range, or a state is kept, a half may need what only the other one has; such points
    are in no table, and a front is the one among all other cuts.

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
        device_memory_mb: What the device has for its DNN, as :func:`.memory.head_memory_bytes`
            counts: only points that fit are in the table, and a front is the one among all cuts
            that do, of a DNN whose cuts can be listed. It may lack full local.

    Returns:
        The table.

    Raises:
        MecError: An unknown name, a number that is not positive, a profile of another DNN, more
            points than can be listed, or a memory that does not even hold the input.
    """
    if method not in METHODS:
        raise unknown("partition method", method, METHODS)
    check_server_model(server_model)
    if isinstance(other_servers_ms, str) or not isinstance(other_servers_ms, Sequence | np.ndarray):
        raise MecError(f"other_servers_ms must be a list, one for each, got {other_servers_ms!r}")
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
        memory_bytes=_memory_bytes(graph, device_memory_mb),
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
    memory_bytes: float

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
            elements=frozen(np.array([row.elements for row in rows], dtype=np.int64)),
            bits=frozen(np.array([row.bits for row in rows], dtype=np.float64)),
            local_mmacs=frozen(np.array([row.macs for row in rows], dtype=np.float64) / 1e6),
            local_latency_ms=frozen(np.array(done) * self.device.whole_ms),
            server_latency_ms=frozen(left_ms(0, self.server)),
            server_share=frozen(np.array(shares)),
            other_servers_ms=frozen(np.array(others).reshape(-1, len(points))),
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
        if self.memory_bytes < math.inf:
            return self._points_among(method), 0.0, method
        heads = [self.graph.input_set, self.graph.full_set]
        errors, asked = [0.0], method
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
        heads = list(dict.fromkeys(heads))
        if len(self._that_split(heads)) < len(heads):
            return self._points_among(asked), 0.0, asked
        return tuple(PartitionPoint(self.graph, head) for head in heads), max(errors), method

    def _points_among(self, method: str) -> tuple[PartitionPoint, ...]:
        """The points of a method that the device's memory holds and that can be split at."""
        listed = "operator" if method == "pareto" else method
        try:
            heads = [point.head for point in self._points_with(self.server, listed)[0]]
        except TooMany as error:
            if method != "pareto":
                raise
            raise MecError(
                f"{self.graph.name!r} has too many cuts to find the front of those that fit"
                " device_memory_mb and can be split at: use method 'vertical' or 'layer'"
            ) from error
        heads = self._that_split(heads)
        needed = heads_memory_bytes(self.graph, heads)
        fit = [h for h, size in zip(heads, needed, strict=True) if size <= self.memory_bytes]
        if method == "pareto":
            servers = (self.server, *self.others)
            fit = [point.head for server in servers for point in self._front(server, fit).points]
        return tuple(PartitionPoint(self.graph, head) for head in dict.fromkeys(fit))

    def _that_split(self, heads: Sequence[int]) -> list[int]:
        """Of some heads those that halves can be made of."""
        return [head for (head,) in that_split(self.graph, ((head,) for head in heads))]

    def _front(self, server: Work, among: Sequence[int] | None = None) -> ParetoFront:
        """The front with one of the servers."""
        return pareto_front(
            self.graph,
            self.bits,
            server_model=self.server_model,
            device_ms=self.device.measured_ms,
            server_ms=server.measured_ms,
            among=among,
        )

    def _points_with(self, server: Work, method: str) -> tuple[tuple[PartitionPoint, ...], float]:
        """The points of a method with one of the servers, kept on the graph."""
        share = self.server_model == "share"
        key = (method,)
        if method == "pareto":
            key = (method, self.bits, self.device.measured_ms, share and (server.measured_ms,))
        if key not in self.graph.cache:
            epsilon = 0.0
            if method == "pareto":
                front = self._front(server)
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


def _memory_bytes(graph: OperatorGraph, given: float | None) -> float:
    """Bytes of a device's memory; infinitely many where none is given."""
    if given is None:
        return math.inf
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not (is_number and 0 < given < math.inf):
        raise MecError(f"device_memory_mb must be a positive number, got {given!r}")
    (least,) = heads_memory_bytes(graph, [graph.input_set])
    # What a point needs, told in MB, is enough for it.
    memory_bytes = round(1e6 * given, 3)
    if memory_bytes < least:
        raise MecError(
            f"device_memory_mb must be at least {math.ceil(least / 1e3) / 1e3:.10g} to hold the"
            f" input of {graph.name!r}, but is {given:g}"
        )
    return memory_bytes


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
