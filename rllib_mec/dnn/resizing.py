"""The same DNN at other sizes of what it takes."""

from __future__ import annotations

import math
from dataclasses import replace

from rllib_mec.dnn.dimensions import Ranges
from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.program import Program, TensorSpec, probe, tensors_in
from rllib_mec.errors import MecError


def resized(graph: OperatorGraph, **sizes: int) -> OperatorGraph:
    """A graph with sizes that range, at some of them: what is sent and computed there.

    The operators, and the halves that :func:`rllib_mec.dnn.split` makes at a point, are the same.

    Args:
        graph: Of :func:`rllib_mec.dnn.trace` with ``dynamic``.
        **sizes: Those that differ from the example's, by name.

    Returns:
        A graph with the same operators.

    Raises:
        MecError: There is no such size, it is beyond its limits, or the DNN cannot run so.
    """
    program: Program | None = graph.program
    if program is None or not program.ranges:
        raise MecError(f"the graph {graph.name!r} has no size that ranges: trace it with dynamic")
    ranges = program.ranges

    inputs = {name: _at(spec, ranges, sizes) for name, spec in program.inputs.items()}
    given = {**ranges.given, **sizes}
    try:
        found = probe(program.module, tuple(spec.example() for spec in inputs.values()))
    except MecError as error:
        told = ", ".join(f"{name} = {size}" for name, size in given.items())
        raise MecError(f"with {told}: {error}") from error
    values = {node.name: value for node, value in found.values.items()}
    macs = {node.name: count for node, count in found.macs.items()}
    held = {
        name: math.prod(inputs[name].shape) * inputs[name].dtype.itemsize for name in program.held
    }
    operators = []
    for node in graph.nodes:
        tensors = [t for name in program.results[node.name] for t in tensors_in(values[name])]
        inner = program.groups.get(node.name, ())
        largest = [sum(t.nbytes for t in tensors_in(values[name])) for name in inner]
        operators.append(
            replace(
                node,
                elements=sum(t.numel() for t in tensors),
                shapes=tuple(tuple(t.shape) for t in tensors),
                macs=sum(macs[name] for name in inner),
                weights=tuple((n, held.get(n, size)) for n, size in node.weights),
                peak_bytes=max(largest, default=0),
                latency_ms=None,
            )
        )
    specs = {name: _at(spec, ranges, sizes) for name, spec in program.specs.items()}
    program = replace(program, inputs=inputs, specs=specs, ranges=replace(ranges, given=given))
    return OperatorGraph(operators, graph.outputs, name=graph.name, program=program)


def _at(spec: TensorSpec, ranges: Ranges, sizes: dict[str, int]) -> TensorSpec:
    return replace(spec, shape=ranges.shape(spec.sizes or spec.shape, **sizes))
