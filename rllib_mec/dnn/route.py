"""The best cuts of a DNN for given machines and links, by minimum cuts.

Work goes from the device over a chain of links to servers further on: a nested cut ``H_1 ⊆ H_2 ⊆
…`` for links 1, 2, …, with ``H_k`` the operators on the machines before link k. With the machines
that do work fixed, every cost is one of a node or of a tensor, and one minimum cut finds the best
nested cut of any DAG (its cost is submodular: Kolmogorov and Zabih 2004). Each set of servers is
tried, since a server takes its whole latency or nothing under Eq. 2, and since whoever runs the
last operator has the result and sends nothing on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rllib_mec.dnn.codecs import Codec
from rllib_mec.dnn.graph import OperatorGraph, bits_of
from rllib_mec.dnn.points import MAX_POINTS, PartitionPoint, TooMany, operator_points
from rllib_mec.dnn.profiling import LatencyProfile
from rllib_mec.dnn.sides import check_hops, that_split
from rllib_mec.dnn.work import Work, bits_sent, check_bandwidth, check_server_model, graph_of
from rllib_mec.errors import MecError


@dataclass(frozen=True)
class Route:
    """Where each operator runs, on a chain of machines that begins with the device.

    Attributes:
        points: The cut of each link, nested: its head runs on the machines before the link. Full
            local where nothing is sent over it.
        work_ms: Latency on each machine, one more than links.
        link_ms: Latency on each link.
        bits: Bits sent over each link.
    """

    points: tuple[PartitionPoint, ...]
    work_ms: tuple[float, ...]
    link_ms: tuple[float, ...]
    bits: tuple[float, ...]

    @property
    def latency_ms(self) -> float:
        """Latency of one task alone."""
        return sum(self.work_ms) + sum(self.link_ms)

    @property
    def operators(self) -> tuple[tuple[str, ...], ...]:
        """Names of the operators on each machine."""
        graph = self.points[0].graph
        heads = [graph.input_set, *(point.head for point in self.points), graph.full_set]
        return tuple(
            tuple(graph.nodes[i].name for i in bits_of(after & ~before))
            for before, after in itertools.pairwise(heads)
        )


def best_route(
    dnn: str | OperatorGraph,
    latencies_ms: Sequence[float | LatencyProfile],
    bandwidths_mbps: Sequence[float],
    *,
    feature_bits: float = 32,
    codec: str | Codec | None = None,
    server_model: str = "constant",
) -> Route:
    """The cuts of least latency for one task alone.

    With one link it is the best partition point for that link, also of a graph whose Pareto front
    is too wide; with two it is the best three-way cut of device, edge and cloud. What a machine
    does not need but one further on does is sent over both links. Where sizes range, or a state is
    kept, the best is that of the cuts whose parts can be made.

    Args:
        dnn: As in :func:`rllib_mec.dnn.partition_table`.
        latencies_ms: Of the whole DNN on each machine, the device first, or measured profiles.
        bandwidths_mbps: Of the link from each machine to the next, one fewer.
        feature_bits: Bits per floating-point element sent.
        codec: A codec, whose exact bytes replace ``feature_bits``.
        server_model: ``"constant"``: a server that does any work takes its whole latency (Eq. 2);
            ``"share"``: in proportion to the MACs that it does, or as measured.

    Returns:
        The route.

    Raises:
        MecError: An unknown name, a number that is not positive, not one link between any two
            machines, a DNN that keeps state over several links, or too many cuts to look for
            those whose parts can be made.
    """
    check_server_model(server_model)
    graph = graph_of(dnn)
    for label, given in ("latencies_ms", latencies_ms), ("bandwidths_mbps", bandwidths_mbps):
        if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray):
            raise MecError(f"{label} must be a list, one for each, got {given!r}")
    machines = [Work.of(graph, ms, f"latencies_ms[{i}]") for i, ms in enumerate(latencies_ms)]
    if len(machines) < 2 or len(bandwidths_mbps) != len(machines) - 1:
        raise MecError(
            f"bandwidths_mbps must be one for each link between {len(machines)} machines, at least"
            f" two of them, but are {len(bandwidths_mbps)}"
        )
    for i, given in enumerate(bandwidths_mbps):
        check_bandwidth(f"bandwidths_mbps[{i}]", given)
    bits = bits_sent(graph, feature_bits, codec)
    return route_of(graph, machines, bits, bandwidths_mbps, server_model)


def route_of(
    graph: OperatorGraph,
    machines: Sequence[Work],
    bits: Sequence[float],
    bandwidths_mbps: Sequence[float],
    server_model: str,
) -> Route:
    """The same of what is known to be right.

    Args:
        graph: The DNN.
        machines: Its work on each.
        bits: Of each node's output.
        bandwidths_mbps: Of each link.
        server_model: One of :data:`.work.SERVER_MODELS`.

    Raises:
        MecError: Over several links a DNN keeps state.
    """
    check_hops(graph.program, len(bandwidths_mbps))
    return _Search(graph, machines, bits, bandwidths_mbps, server_model == "share").best()


@dataclass(frozen=True)
class _Search:
    """Everything that the costs of a nested cut depend on."""

    graph: OperatorGraph
    machines: Sequence[Work]
    bits: Sequence[float]
    bandwidths_mbps: Sequence[float]
    share: bool

    def best(self) -> Route:
        """Of the best routes with each set of servers the best one whose parts can be made."""
        servers = range(1, len(self.machines))
        sizes = range(len(servers) + 1)
        sets = (used for size in sizes for used in itertools.combinations(servers, size))
        best = min((self._route(self._heads(used)) for used in sets), key=lambda r: r.latency_ms)
        if self._can_be_made(best):
            return best
        routes = sorted(map(self._route, self._listed()), key=lambda route: route.latency_ms)
        return next(filter(self._can_be_made, routes))

    def _can_be_made(self, route: Route) -> bool:
        return any(that_split(self.graph, [[point.head for point in route.points]]))

    def _listed(self) -> Iterator[tuple[int, ...]]:
        """All nested cuts at points that halves can be made of.

        Raises:
            TooMany: They cannot be listed.
        """
        graph, links = self.graph, len(self.bandwidths_mbps)
        listed = ((point.head,) for point in operator_points(graph))
        heads = sorted((head for (head,) in that_split(graph, listed)), key=int.bit_count)
        if math.comb(len(heads) + links - 1, links) > MAX_POINTS:
            raise TooMany(
                f"{graph.name!r} has too many cuts to look for the best whose parts can be made"
            )
        for cut in itertools.combinations_with_replacement(heads, links):
            if not any(before & ~after for before, after in itertools.pairwise(cut)):
                yield cut

    def _route(self, heads: Sequence[int]) -> Route:
        """What a nested cut costs."""
        graph, full = self.graph, self.graph.full_set
        device = self.machines[0]
        work = [device.whole_ms if heads[0] == full else device.ms(bits_of(heads[0]))]
        for server, before, after in zip(self.machines[1:], heads, (*heads[1:], full), strict=True):
            own = after & ~before
            work.append(server.ms(bits_of(own)) if self.share else server.whole_ms * (own > 0))
        sent = [float(sum(self.bits[i] for i in graph.crossing(head))) for head in heads]
        return Route(
            points=tuple(PartitionPoint(graph, head) for head in heads),
            work_ms=tuple(work),
            link_ms=tuple(b / (r * 1e3) for b, r in zip(sent, self.bandwidths_mbps, strict=True)),
            bits=tuple(sent),
        )

    def _heads(self, servers: tuple[int, ...]) -> list[int]:
        """The head before each link where only some of the servers do work, the last to the end."""
        full = self.graph.full_set
        cut = self._minimum_cut(servers) if servers else []
        heads = []
        for link in range(1, len(self.machines)):
            reached = [head for server, head in zip(servers, cut, strict=True) if server >= link]
            heads.append(reached[0] if reached else full)
        return heads

    def _minimum_cut(self, servers: tuple[int, ...]) -> list[int]:
        """For each of the servers the head that runs before it.

        Node ``(i, k)`` is on the source's side where operator ``i`` runs before server ``k``.
        """
        import networkx as nx  # not at the top: env workers start faster

        graph, flow = self.graph, nx.DiGraph()
        whole = sum(m.whole_ms for m in self.machines) + sum(
            sum(self.bits) * 1e-3 / rate for rate in self.bandwidths_mbps
        )

        def capacity(ms: float) -> int:
            """A latency as a whole number, so that flows add up exactly."""
            return round(ms / whole * 2**80)

        last = len(servers) - 1
        for k, server in enumerate(servers):
            before = servers[k - 1] if k else 0
            ms_per_bit = sum(1e-3 / rate for rate in self.bandwidths_mbps[before:server])
            for i in range(len(graph.nodes)):
                here, tensor = (i, k), (i, k, "tensor")
                if graph.input_set >> i & 1:
                    flow.add_edge("source", here)
                elif k == last and self.share:
                    flow.add_edge("source", here, capacity=capacity(self.machines[server].ms([i])))
                if k == 0:
                    flow.add_edge(here, "sink", capacity=capacity(self.machines[0].ms([i])))
                else:
                    between = capacity(self.machines[before].ms([i])) if self.share else 0
                    flow.add_edge(here, (i, k - 1), capacity=between)
                    flow.add_edge((i, k - 1), here)
                flow.add_edge(here, tensor, capacity=capacity(self.bits[i] * ms_per_bit))
                for reader in graph.child_ids[i]:
                    flow.add_edge(tensor, (reader, k))
                    flow.add_edge((reader, k), here)
                if graph.output_set >> i & 1:
                    flow.add_edge(tensor, "sink")
        _, (near, _) = nx.minimum_cut(flow, "source", "sink")
        heads = [0] * len(servers)
        for i, k, *tensor in near - {"source"}:
            heads[k] |= 0 if tensor else 1 << i
        return heads
