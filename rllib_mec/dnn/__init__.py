"""DNN partitioning: operator graphs, partition points (Algorithm 1), executable halves.

Graphs and tables need no torch at import; names that do are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rllib_mec.dnn.graph import Operator, OperatorGraph
from rllib_mec.dnn.partition import PartitionTable, partition_table
from rllib_mec.dnn.points import PartitionPoint

if TYPE_CHECKING:
    from rllib_mec.dnn.models import build_model, model_graph, model_names
    from rllib_mec.dnn.tracing import trace

_LAZY = {
    "build_model": "models",
    "model_graph": "models",
    "model_names": "models",
    "trace": "tracing",
}

__all__ = [
    "Operator",
    "OperatorGraph",
    "PartitionPoint",
    "PartitionTable",
    "build_model",
    "model_graph",
    "model_names",
    "partition_table",
    "trace",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for."""
    if name in _LAZY:
        return getattr(import_module(f"rllib_mec.dnn.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
