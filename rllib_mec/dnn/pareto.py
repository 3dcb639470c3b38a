"""The Pareto front of partition points."""

from __future__ import annotations

import numpy as np

from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.points import PartitionPoint, operator_points


def pareto_points(
    graph: OperatorGraph, feature_bits: float = 32, server_model: str = "constant"
) -> list[PartitionPoint]:
    """Points that no other point beats or equals in every criterion."""
    points = operator_points(graph)
    costs = np.array(
        [(p.bits(feature_bits), p.macs, -p.macs if server_model == "share" else 0) for p in points]
    )
    keep: list[int] = []
    for i in np.lexsort(costs.T[::-1]):
        if not any((costs[j] <= costs[i]).all() for j in keep):
            keep.append(int(i))
    return [points[i] for i in keep]
