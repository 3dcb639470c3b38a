"""Executable halves: cut a module in two at a partition point, bit for bit the same result."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import fx, nn

from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.partition import partition_table
from rllib_mec.dnn.points import PartitionPoint
from rllib_mec.dnn.program import Program, TensorSpec
from rllib_mec.dnn.tracing import trace
from rllib_mec.errors import MecError

_traced: weakref.WeakKeyDictionary[nn.Module, OperatorGraph] = weakref.WeakKeyDictionary()
"""Graphs of modules that were split at points of another graph, e.g. of one without weights."""


class Head(fx.GraphModule):
    """The half on the device: takes the DNN's inputs, returns the tensors to send by name.

    Attributes:
        inputs: Name and spec of each input.
        tensors: Name and spec of each tensor returned. Full local inference returns the results.
    """

    inputs: dict[str, TensorSpec]
    tensors: dict[str, TensorSpec]


class Tail(fx.GraphModule):
    """The half on the server: takes the head's tensors, returns what the module returns.

    Attributes:
        tensors: Name and spec of each tensor taken.
    """

    tensors: dict[str, TensorSpec]


def split(
    module: nn.Module,
    point: PartitionPoint | int,
    example_input: Any = None,
    *,
    method: str = "pareto",
) -> tuple[Head, Tail]:
    """Cut a module in two: ``tail(head(x))`` is ``module(x)``, bit for bit.

    The halves call the same operations on the same parameters, which are shared with the module and
    not copied. At the first point (the input) the head returns its inputs; at the last one (full
    local) it returns the results, and nothing needs to be sent.

    Args:
        module: The DNN, in eval mode.
        point: A point of any graph of this DNN, also of one traced without weights, such as
            ``partition_table("resnet50").point(2)``; or an index into the module's own table.
        example_input: What to trace the module with; needed only with an index.
        method: The table that an index counts in.

    Returns:
        Head and tail.

    Raises:
        MecError: The module is in training mode, the index is out of range, or the point belongs to
            another DNN.
    """
    if isinstance(point, int):
        if example_input is None:
            raise MecError("split at an index needs example_input, to trace the module with")
        graph = trace(module, example_input)
        point = partition_table(graph, method).point(point)
    elif not isinstance(point, PartitionPoint):
        raise MecError(f"expected a PartitionPoint or an index, got {type(point).__name__}")
    if any(child.training for child in module.modules()):
        raise MecError("cannot split a module in training mode: call .eval()")
    program = _program_of(module, point.graph)
    inside = {*point.head_operators, *(node.name for node in point.graph.inputs)}
    sent = point.operators or point.graph.outputs
    names = {
        node: operator if len(program.results[operator]) == 1 else f"{operator}.{i}"
        for operator in sent
        for i, node in enumerate(program.results[operator])
    }
    tensors = {name: program.specs[node] for node, name in names.items()}
    head = Head(program.module, _head_graph(program, inside, names), f"{point.graph.name}_head")
    tail = Tail(program.module, _tail_graph(program, inside, names), f"{point.graph.name}_tail")
    head.inputs, head.tensors, tail.tensors = dict(program.inputs), tensors, tensors
    head.register_forward_pre_hook(_CheckInputs(head.inputs, program.shape_bound))
    tail.register_forward_pre_hook(_CheckTensors(tensors, program.shape_bound))
    return head.eval(), tail.eval()


def _program_of(module: nn.Module, graph: OperatorGraph) -> Program:
    """The module's own program with the operators of ``graph``; traced now if need be."""
    program: Program | None = graph.program
    if program is not None and program.source() is module:
        return program
    own = _traced.get(module)
    if own is None or not _same_shapes(own, graph):
        own = _traced[module] = trace(module, _examples(graph), name=graph.name)
    if [n.name for n in own.nodes] != [n.name for n in graph.nodes]:
        raise MecError(
            f"the partition point is of {graph.name!r}, whose operators are not those of this"
            f" {type(module).__name__}"
        )
    return own.program


def _same_shapes(a: OperatorGraph, b: OperatorGraph) -> bool:
    return [node.shapes for node in a.inputs] == [node.shapes for node in b.inputs]


def _examples(graph: OperatorGraph) -> tuple[torch.Tensor, ...]:
    program: Program | None = graph.program
    if program is not None:
        return tuple(torch.empty(s.shape, dtype=s.dtype) for s in program.inputs.values())
    if not all(node.shapes for node in graph.inputs):
        raise MecError(f"the graph {graph.name!r} was made by hand: split a point of a traced one")
    return tuple(torch.empty(node.shapes[0]) for node in graph.inputs)


def _head_graph(program: Program, inside: set[str], names: Mapping[str, str]) -> fx.Graph:
    """Inputs in, the named tensors out."""
    half = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    placeholders = list(program.module.graph.find_nodes(op="placeholder"))
    taken = [half.node_copy(node) for node in placeholders]
    for node, copy in zip(placeholders, taken, strict=True):
        copies[node] = _laid_out(program, node, copy, half)
    _copy(program, inside, half, copies, wanted=set(names))
    by_name = {node.name: copy for node, copy in copies.items()}
    half.output(half.call_function(_pack, (tuple(names.values()), *map(by_name.get, names))))
    return half


def _tail_graph(program: Program, inside: set[str], names: Mapping[str, str]) -> fx.Graph:
    """The named tensors in, the module's result out."""
    half = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    tensors = half.placeholder("tensors", type_expr=dict[str, torch.Tensor])
    for node in program.module.graph.nodes:
        if node.name in names:
            taken = half.call_function(_take, (tensors, names[node.name]))
            copies[node] = _laid_out(program, node, taken, half)
    output = next(iter(program.module.graph.find_nodes(op="output")))
    outside = set(program.groups) - inside
    _copy(program, outside, half, copies, wanted={n.name for n in output.all_input_nodes})
    half.output(fx.map_arg(output.args[0], lambda node: copies[node]))
    return half


def _laid_out(program: Program, node: fx.Node, taken: fx.Node, half: fx.Graph) -> fx.Node:
    """What came from outside as the program's operators saw it when they were traced."""
    order = program.specs[node.name].order
    return half.call_function(lay_out, (taken, order, node.name in program.written))


def lay_out(tensor: torch.Tensor, order: tuple[int, ...], copy: bool = False) -> torch.Tensor:
    """The same elements with their dimensions in a given order in memory.

    Operators rely on it: a ``view`` is one only in the layout that it was traced for, and what came
    over a link, or from a caller, has any.

    Args:
        tensor: In any strides.
        order: Dimensions from the outermost to the innermost; ``()``: as they stand.
        copy: Give a copy in any case.
    """
    # An exported program is fixed to the strides of its example, unless it copies.
    copy = copy or torch.compiler.is_exporting()
    laid = tensor.permute(order) if order else tensor
    if copy or not laid.is_contiguous():
        laid = laid.clone(memory_format=torch.contiguous_format)
    return laid.permute(sorted(range(len(order)), key=order.__getitem__)) if order else laid


def _pack(names: tuple[str, ...], *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(zip(names, tensors, strict=True))


def _take(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return tensors[name]


def _copy(
    program: Program,
    operators: Iterable[str],
    half: fx.Graph,
    copies: dict[fx.Node, fx.Node],
    wanted: set[str],
) -> None:
    """Copy the nodes of some operators, and what they need of the replicated ones."""
    own = {node for operator in operators for node in program.groups.get(operator, ())}
    needed: set[fx.Node] = set()
    for node in reversed(program.module.graph.nodes):
        if node in copies or node.op == "output":
            continue
        is_own = node.name in own
        is_needed = node in needed or node.name in wanted
        if is_own or (is_needed and node.name in program.replicated):
            needed.add(node)
            needed.update(node.all_input_nodes)
    for node in program.module.graph.nodes:
        if node in copies or node not in needed or node.op == "output":
            continue
        if node.name in own or node.name in program.replicated:
            copies[node] = half.node_copy(node, lambda old: copies[old])


class _CheckInputs:
    """Compares the shapes of a head's inputs with the traced ones, before it runs."""

    def __init__(self, specs: dict[str, TensorSpec], bound: bool) -> None:
        self._specs = specs
        self._bound = bound

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.check(dict(zip(self._specs, args, strict=False)))

    def check(self, tensors: Mapping[str, Any]) -> None:
        for name, spec in self._specs.items():
            if name not in tensors:
                raise MecError(f"the tensor {name!r} is missing: expected {', '.join(self._specs)}")
            shape = tuple(tensors[name].shape)
            skip = 0 if self._bound else 1  # only a program without baked-in sizes takes any batch
            if len(shape) != len(spec.shape) or shape[skip:] != spec.shape[skip:]:
                free = "" if self._bound else " (any batch size)"
                raise MecError(
                    f"{name!r} has shape {shape}, the DNN was traced for {spec.shape}{free}"
                )


class _CheckTensors(_CheckInputs):
    """The same for a tail's tensors."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.check(args[0])
