"""DNN partitioning: operator graphs, partition points (Algorithm 1), executable halves.

Graphs, tables and profiles need no torch at import; what does is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rllib_mec.dnn.codecs import CODECS, Codec, codec
from rllib_mec.dnn.graph import Operator, OperatorGraph
from rllib_mec.dnn.pareto import ParetoFront, pareto_front
from rllib_mec.dnn.partition import PartitionTable, partition_table
from rllib_mec.dnn.points import PartitionPoint
from rllib_mec.dnn.profiling import LatencyProfile, measure_latency
from rllib_mec.dnn.route import Route, best_route

if TYPE_CHECKING:
    from rllib_mec.dnn.artifacts import load_half, save_half
    from rllib_mec.dnn.models import build_model, model_graph, model_names
    from rllib_mec.dnn.resizing import resized
    from rllib_mec.dnn.splitting import Head, Tail, fresh_state, split
    from rllib_mec.dnn.stages import Middle, split_route
    from rllib_mec.dnn.tracing import trace

_LAZY = {
    "Head": "splitting",
    "Tail": "splitting",
    "Middle": "stages",
    "build_model": "models",
    "fresh_state": "splitting",
    "load_half": "artifacts",
    "model_graph": "models",
    "model_names": "models",
    "resized": "resizing",
    "save_half": "artifacts",
    "split": "splitting",
    "split_route": "stages",
    "trace": "tracing",
}

__all__ = [
    "CODECS",
    "Codec",
    "Head",
    "LatencyProfile",
    "Middle",
    "Operator",
    "OperatorGraph",
    "ParetoFront",
    "PartitionPoint",
    "PartitionTable",
    "Route",
    "Tail",
    "best_route",
    "build_model",
    "codec",
    "fresh_state",
    "load_half",
    "measure_latency",
    "model_graph",
    "model_names",
    "pareto_front",
    "partition_table",
    "resized",
    "save_half",
    "split",
    "split_route",
    "trace",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for."""
    if name in _LAZY:
        return getattr(import_module(f"rllib_mec.dnn.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
