"""The Pareto front of partition points: what can ever be the best cut, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.labels import Label, non_dominated
from rllib_mec.dnn.points import PartitionPoint
from rllib_mec.dnn.sweep import Criteria, sweep
from rllib_mec.dnn.walk import walk

MAX_LABELS = 8_000
"""Labels held at one time (some 5 MB on a thousand operators) before approximating."""

_SUB_BIT = 1024
_PICOSECONDS_PER_MS = 10**9


@dataclass(frozen=True)
class ParetoFront:
    """The points that no other point beats or equals in every criterion.

    Attributes:
        points: The input, then from most to fewest bits sent, and full local at the end.
        epsilon: 0 if the front is exact. Else for every cut there is a point with at most
            ``1 + epsilon`` times its bits, and every other criterion worse by at most ``epsilon``
            of that criterion's total over the DNN.
    """

    points: tuple[PartitionPoint, ...]
    epsilon: float


def pareto_front(
    graph: OperatorGraph,
    bits: Sequence[float],
    *,
    server_model: str = "constant",
    device_ms: Sequence[float] | None = None,
    server_ms: Sequence[float] | None = None,
    max_labels: int = MAX_LABELS,
    among: Sequence[int] | None = None,
) -> ParetoFront:
    """Find the front by one topological sweep (:mod:`rllib_mec.dnn.sweep`), not by enumeration.

    The criteria, all to be minimised, are the bits sent; the MACs on the device, which stand for
    its energy (Eq. 3) and, unless measured, its latency; the measured latency on the device; and,
    under the server model ``"share"``, the work left for the server. Any cost that grows with these
    has its optimum on the front.

    Args:
        graph: The DNN.
        bits: For each node, inputs included, the bits of its output on the link.
        server_model: ``"constant"`` or ``"share"``.
        device_ms: Measured latency of each node on the device; None: in proportion to its MACs.
        server_ms: The same on the server.
        max_labels: Labels held at one time; beyond it the front becomes approximate.
        among: Heads to choose from, the input among them; default: all.

    Returns:
        The front.

    Raises:
        TooWide: The graph is too wide even for an approximate front.
    """
    macs: Sequence[int] = graph.work_counts
    device: list[Sequence[int]] = [macs]
    server: list[Sequence[int]] = []
    if device_ms is not None:
        device.append(_integers(device_ms, _PICOSECONDS_PER_MS))
    if server_model == "share":
        server.append(macs if server_ms is None else _integers(server_ms, _PICOSECONDS_PER_MS))
    whole = all(float(b).is_integer() for b in bits)
    criteria = Criteria(_integers(bits, 1 if whole else _SUB_BIT), tuple(device), tuple(server))
    if among is not None:
        labels, epsilon = non_dominated(_costs(graph, criteria, among)), 0.0
    else:
        labels, epsilon = sweep(graph, criteria, max_labels)
    # An input without MACs and full local stay in, even where a free operator dominates the input.
    heads = dict.fromkeys([graph.input_set, *(head for _, head in reversed(labels))])
    if among is None or graph.full_set in among:
        heads[graph.full_set] = None
    return ParetoFront(tuple(PartitionPoint(graph, head) for head in heads), epsilon)


def _costs(graph: OperatorGraph, criteria: Criteria, heads: Sequence[int]) -> list[Label]:
    """What each head costs."""
    columns = (*criteria.device, *criteria.server)
    sums = [0] * len(criteria.device) + [sum(weights) for weights in criteria.server]
    signs = [1] * len(criteria.device) + [-1] * len(criteria.server)
    labels: list[Label] = []
    for at, joined, left, crossing in walk(graph, heads):
        for k, column in enumerate(columns):
            more = sum(column[i] for i in joined) - sum(column[i] for i in left)
            sums[k] += signs[k] * more
        labels.append(((sum(criteria.bits[i] for i in crossing), *sums), heads[at]))
    return labels


def _integers(values: Sequence[float], scale: int) -> list[int]:
    """Whole multiples of a small unit: sums of them are exact in any order."""
    return [round(value * scale) for value in values]
