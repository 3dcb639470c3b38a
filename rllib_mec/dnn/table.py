"""The partition table: what each partition point sends, computes, and leaves for the server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rllib_mec.dnn.memory import heads_memory_bytes
from rllib_mec.dnn.points import PartitionPoint
from rllib_mec.errors import MecError

MIN_CUT = "min-cut"
"""The method of a table with only the best cut for one link, the input and full local."""


@dataclass(frozen=True, eq=False)
class PartitionTable:
    """All partition points ``s = 1..S`` of a DNN in one dimension, index 0 being ``s = 1``.

    Points stand in the order of the MACs done on the device (ties: fewer operators first), so index
    0 sends the input and the last one is full local. Arrays are read-only, of shape ``(S,)``.

    Attributes:
        dnn: The DNN's name.
        method: One of :data:`.partition.METHODS`, or ``"min-cut"``.
        server_model: One of :data:`.work.SERVER_MODELS`.
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
        return frozen(np.array(found, dtype=np.int64))

    @property
    def num_points(self) -> int:
        """``S``, the number of partition points."""
        return len(self.points)

    @property
    def full_local(self) -> int:
        """Index of the point at which everything runs on the device, ``s = S``.

        Raises:
            MecError: There is none, since the device's memory does not hold the whole DNN.
        """
        if not self.points[-1].is_full_local:
            raise MecError(f"no full local point: the device cannot hold the whole of {self.dnn!r}")
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
        if not isinstance(index, int | np.integer) or isinstance(index, bool):
            raise MecError(f"a partition point is told by its index, a whole number, got {index!r}")
        if not 0 <= index < len(self.points):
            raise MecError(
                f"partition point {index} is out of range: {self.dnn!r} has points 0 to"
                f" {len(self.points) - 1} (method {self.method!r})"
            )
        return self.points[index]


def frozen(array: NDArray) -> NDArray:
    """The array, which nobody can write into any more.

    Args:
        array: Just made.
    """
    array.setflags(write=False)
    return array
