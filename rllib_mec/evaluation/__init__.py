"""One protocol for every policy: the paper's metrics over seeded episodes, with intervals."""

from rllib_mec.evaluation.bound import Bound, lower_bound
from rllib_mec.evaluation.interval import Interval
from rllib_mec.evaluation.paper import paper_row
from rllib_mec.evaluation.protocol import (
    COSTS,
    METRICS,
    NUM_EPISODES,
    Evaluation,
    evaluate,
    optimality_gap,
)
from rllib_mec.evaluation.table import comparison_table

__all__ = [
    "COSTS",
    "METRICS",
    "NUM_EPISODES",
    "Bound",
    "Evaluation",
    "Interval",
    "comparison_table",
    "evaluate",
    "lower_bound",
    "optimality_gap",
    "paper_row",
]
