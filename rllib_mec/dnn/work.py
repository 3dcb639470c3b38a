"""What operators cost: latency on a machine, bits on a link."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rllib_mec.dnn.codecs import CODECS, Codec
from rllib_mec.dnn.codecs import codec as codec_by_name
from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.profiling import LatencyProfile, as_latencies
from rllib_mec.dnn.walk import exact
from rllib_mec.errors import MecError, unknown

SERVER_MODELS = ("constant", "share")
"""Server latency of a cut: the whole DNN's (Eq. 2), or in proportion to the MACs left."""


@dataclass(frozen=True)
class Work:
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
    def of(cls, graph: OperatorGraph, given: float | LatencyProfile, label: str) -> Work:
        """The work of a DNN on a machine.

        Args:
            graph: The DNN.
            given: Latency of all of it in ms, or a measured profile.
            label: What to call that in an error.

        Raises:
            MecError: It is neither, or the profile is of another DNN.
        """
        measured = as_latencies(given, graph, label)
        if measured is None:
            counts = graph.work_counts
            return cls(float(given), None, counts, sum(counts))  # type: ignore[arg-type]
        of_nodes = (*(0.0 for _ in graph.inputs), *measured)
        return cls(math.fsum(measured), of_nodes, *exact(of_nodes))

    def share(self, count: int) -> float:
        """The share of the whole latency that so much work takes.

        Args:
            count: A sum of ``counts``.
        """
        return count / self.unit / (1.0 if self.measured_ms is None else self.whole_ms or 1.0)

    def ms(self, nodes: Iterable[int]) -> float:
        """Latency of some nodes.

        Args:
            nodes: Their numbers.
        """
        return self.share(sum(self.counts[i] for i in nodes)) * self.whole_ms


def graph_of(dnn: str | OperatorGraph) -> OperatorGraph:
    """The graph of a DNN by name, or the graph itself.

    Args:
        dnn: Either.

    Raises:
        MecError: There is no such DNN, or it is neither.
    """
    if isinstance(dnn, OperatorGraph):
        return dnn
    if not isinstance(dnn, str):
        raise MecError(
            "a DNN is given by its name or as the OperatorGraph that trace() makes of a module, got"
            f" a {type(dnn).__name__}"
        )
    from rllib_mec.dnn.models import model_graph

    return model_graph(dnn)


def bits_sent(
    graph: OperatorGraph, feature_bits: float, codec: str | Codec | None
) -> tuple[float, ...]:
    """Bits of each node's output on the link, tensor by tensor.

    Args:
        graph: The DNN.
        feature_bits: Bits per floating-point element.
        codec: Name of a codec or the codec, whose exact bytes replace ``feature_bits``.

    Raises:
        MecError: There is no such codec, or ``feature_bits`` is not positive.
    """
    if not (isinstance(feature_bits, int | float) and 0 < feature_bits < math.inf):
        raise MecError(f"feature_bits must be a positive number, got {feature_bits!r}")
    if isinstance(codec, str):
        codec = codec_by_name(codec)
    if codec is not None and not isinstance(codec, Codec):
        raise MecError(f"codec must be one of {', '.join(CODECS)} or a Codec, got {codec!r}")
    if codec is None:
        return tuple(node.bits(feature_bits) for node in graph.nodes)
    return tuple(
        sum(count * raw if raw else 8 * codec.num_bytes(count) for count, raw in node.parts)
        for node in graph.nodes
    )


def check_server_model(server_model: str) -> None:
    """Check the name of a server model.

    Args:
        server_model: What was given.

    Raises:
        MecError: It is not one of :data:`SERVER_MODELS`.
    """
    if server_model not in SERVER_MODELS:
        raise unknown("server model", server_model, SERVER_MODELS)


def check_bandwidth(label: str, given: object) -> None:
    """Check the rate of a link.

    Args:
        label: What to call it in the error.
        given: In Mbit/s.

    Raises:
        MecError: It is not a positive number.
    """
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not (is_number and 0 < given < math.inf):  # type: ignore[operator]
        raise MecError(f"{label} must be a positive number, got {given!r}")
