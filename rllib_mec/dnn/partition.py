"""The partition table: what each partition point sends, computes, and leaves for the server."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rllib_mec.dnn.graph import OperatorGraph, bits_of
from rllib_mec.dnn.pareto import pareto_points
from rllib_mec.dnn.points import (
    PartitionPoint,
    algorithm_1,
    layer_points,
    operator_points,
    vertical_points,
)
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
    epsilon: float = 0.0

    @property
    def num_points(self) -> int:
        """``S``, the number of partition points."""
        return len(self.points)

    def __len__(self) -> int:
        """``S``, the number of partition points."""
        return len(self.points)

    def point(self, index: int) -> PartitionPoint:
        """The point at an index.

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
    device_latency_ms: float = 1.0,
    server_latency_ms: float = 1.0,
    server_model: str = "constant",
) -> PartitionTable:
    """Tabulate a DNN's partition points.

    Args:
        dnn: A torchvision classification model's name, at a 3x224x224 input, or a traced graph.
        method: ``"pareto"``: the points that no other beats in bits sent and MACs on the device (and,
            under the server model ``"share"``, MACs left for the server); ``"operator"``: all
            cuts between operators; ``"algorithm1"``: Algorithm 1 as printed; ``"vertical"``: cuts
            that a single tensor crosses; ``"layer"``: cuts between whole layers.
        feature_bits: Bits per floating-point element sent.
        device_latency_ms: Latency of the whole DNN on the device, shared over the operators by
            MACs.
        server_latency_ms: The same on an otherwise idle server, ``L_0`` of Eq. 2.
        server_model: ``"constant"``: every cut but full local costs the whole server latency;
            ``"share"``: in proportion to the MACs left.

    Returns:
        The table.

    Raises:
        MecError: An unknown name, a number that is not positive, or more points than can be listed.
    """
    if method not in METHODS:
        raise unknown("partition method", method, METHODS)
    if server_model not in SERVER_MODELS:
        raise unknown("server model", server_model, SERVER_MODELS)
    for label, value in (
        ("feature_bits", feature_bits),
        ("device_latency_ms", device_latency_ms),
        ("server_latency_ms", server_latency_ms),
    ):
        if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
            raise MecError(f"{label} must be a positive number, got {value!r}")
    if isinstance(dnn, str):
        from rllib_mec.dnn.models import model_graph

        dnn = model_graph(dnn)
    points = _points(dnn, method, float(feature_bits), server_model)
    total = dnn.total_macs
    macs = np.array([p.macs for p in points], dtype=np.float64)
    full = np.array([p.is_full_local for p in points])
    share = np.where(full, 1.0, macs / max(total, 1))
    left = 1.0 - share
    server = np.where(full, 0.0, left if server_model == "share" else 1.0)
    return PartitionTable(
        dnn=dnn.name,
        method=method,
        server_model=server_model,
        points=points,
        operators=tuple(p.operators for p in points),
        elements=_frozen(np.array([p.elements for p in points], dtype=np.int64)),
        bits=_frozen(np.array([p.bits(feature_bits) for p in points], dtype=np.float64)),
        local_mmacs=_frozen(macs / 1e6),
        local_latency_ms=_frozen(share * device_latency_ms),
        server_latency_ms=_frozen(server * server_latency_ms),
        server_share=_frozen(left),
    )


@lru_cache(maxsize=128)
def _points(
    graph: OperatorGraph, method: str, feature_bits: float, server_model: str
) -> tuple[PartitionPoint, ...]:
    """The points of a method in their one-dimensional order."""
    if method == "pareto":
        points = pareto_points(graph, feature_bits, server_model)
    else:
        search = {
            "operator": operator_points,
            "algorithm1": algorithm_1,
            "vertical": vertical_points,
            "layer": layer_points,
        }[method]
        points = search(graph)
    return tuple(sorted(points, key=lambda p: (p.macs, p.head.bit_count(), tuple(bits_of(p.head)))))


def _frozen(array: NDArray) -> NDArray:
    array.setflags(write=False)
    return array
