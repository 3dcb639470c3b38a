"""Executable halves: cut a module in two at a partition point, bit for bit the same result."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import fx, nn

from rllib_mec.dnn.calls import Call
from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.nesting import Nest, put_together
from rllib_mec.dnn.partition import partition_table
from rllib_mec.dnn.points import PartitionPoint
from rllib_mec.dnn.program import Program, TensorSpec, example_tensors
from rllib_mec.dnn.shadow import fingerprint, twin
from rllib_mec.dnn.tracing import trace
from rllib_mec.errors import MecError, unknown

_traced: weakref.WeakKeyDictionary[nn.Module, OperatorGraph] = weakref.WeakKeyDictionary()
"""Graphs of modules that were split at points of another graph, e.g. of one without weights."""


class Head(fx.GraphModule):
    """The half on the device: takes the DNN's arguments, returns the tensors to send by name.

    Attributes:
        inputs: Name and spec of each tensor in the arguments.
        tensors: Name and spec of each tensor returned. Full local inference returns the results.
    """

    inputs: dict[str, TensorSpec]
    tensors: dict[str, TensorSpec]


class Tail(fx.GraphModule):
    """The half on the server: takes the head's tensors, returns what the module returns.

    Attributes:
        tensors: Name and spec of each tensor taken.
        result: What the module returns, with a slot for each tensor.
    """

    tensors: dict[str, TensorSpec]
    result: Nest


Half = TypeVar("Half", Head, Tail)


def split(
    module: nn.Module,
    point: PartitionPoint | int,
    example_input: Any = None,
    *,
    method: str = "pareto",
) -> tuple[Head, Tail]:
    """Cut a module in two: ``tail(head(x))`` is ``module(x)``, bit for bit.

    Where PyTorch itself fuses a module into another kernel (``nn.TransformerEncoderLayer`` without
    gradients, a mask found to be causal), results differ in the last bits. The halves call the same
    operations on the same parameters, which are shared with the module and not copied; a later
    ``train()``, a replaced submodule or another setting of one changes not the other.

    At the first point (the input) the head returns its inputs; at the last one (full local) it
    returns the results, and nothing needs to be sent.

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
    name, bound = point.graph.name, program.shape_bound
    head = _half(Head, program, _head_graph(program, inside, names), f"{name}_head")
    tail = _half(Tail, program, _tail_graph(program, inside, names), f"{name}_tail")
    head.inputs, head.tensors, tail.tensors = dict(program.inputs), tensors, tensors
    tail.result = program.result
    head.register_forward_pre_hook(_TakesACall(program.call, head.inputs, bound), with_kwargs=True)
    tail.register_forward_pre_hook(_TakesTensors(tensors, bound), with_kwargs=True)
    tail.register_forward_hook(_Rebuilds(program.result))
    return head, tail


def _program_of(module: nn.Module, graph: OperatorGraph) -> Program:
    """The module's own program with the operators of ``graph``; traced now if need be."""
    program: Program | None = graph.program
    now = fingerprint(module)
    if program is not None and program.source() is module and program.made_of == now:
        return program
    own = _traced.get(module)
    if own is None or own.program.made_of != now or not _same_call(own, graph):
        own = _traced[module] = trace(module, _example(graph, module), name=graph.name)
    if [n.name for n in own.nodes] != [n.name for n in graph.nodes]:
        raise MecError(
            f"the partition point is of {graph.name!r}, whose operators are not those of this"
            f" {type(module).__name__}: trace it again"
        )
    return own.program


def _same_call(own: OperatorGraph, graph: OperatorGraph) -> bool:
    if graph.program is None:
        return [node.shapes for node in own.inputs] == [node.shapes for node in graph.inputs]
    a, b = own.program, graph.program
    return a.inputs == b.inputs and a.call.fixed == b.call.fixed


def _example(graph: OperatorGraph, module: nn.Module) -> Any:
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    program: Program | None = graph.program
    if program is not None:
        return program.call.example(example_tensors(program, device))
    if not all(node.shapes for node in graph.inputs):
        raise MecError(f"the graph {graph.name!r} was made by hand: split a point of a traced one")
    return tuple(torch.empty(node.shapes[0], device=device) for node in graph.inputs)


def _half(kind: Callable[..., Half], program: Program, graph: fx.Graph, name: str) -> Half:
    """A half with modules of its own: a ``train()`` of it is none of another."""
    parts: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            path = str(node.target)
            part = functools.reduce(getattr, path.split("."), program.module)
            parts[path] = twin(part) if node.op == "call_module" else part
    return kind(parts, graph, name).eval()


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
    half.output(fx.map_arg(output.args[0], copies.__getitem__))
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


def _check(tensors: Mapping[str, Any], specs: Mapping[str, TensorSpec], bound: bool) -> None:
    """Compare tensors with the traced ones."""
    for name, spec in specs.items():
        if name not in tensors:
            raise MecError(f"the tensor {name!r} is missing: expected {', '.join(specs)}")
        tensor = tensors[name]
        if not isinstance(tensor, torch.Tensor):
            raise MecError(f"{name!r} must be a tensor, but is a {type(tensor).__name__}")
        shape = tuple(tensor.shape)
        skip = 0 if bound else 1  # only a program without baked-in sizes takes any batch
        if len(shape) != len(spec.shape) or shape[skip:] != spec.shape[skip:]:
            free = "" if bound else " (any batch size)"
            raise MecError(f"{name!r} has shape {shape}, the DNN was traced for {spec.shape}{free}")
        if tensor.dtype != spec.dtype:
            raise MecError(f"{name!r} is of {tensor.dtype}, the DNN was traced for {spec.dtype}")
    for name in tensors:
        if name not in specs:
            raise unknown("tensor", name, specs, show=12)


class _TakesACall:
    """Takes a head's arguments apart, as its module has them, and checks the tensors in them."""

    def __init__(self, call: Call, specs: dict[str, TensorSpec], bound: bool) -> None:
        self._call, self._specs, self._bound = call, specs, bound

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        tensors = self._call.tensors(args, kwargs)
        _check(dict(zip(self._specs, tensors, strict=True)), self._specs, self._bound)
        return tuple(tensors), {}


class _TakesTensors:
    """Checks a tail's tensors."""

    def __init__(self, specs: dict[str, TensorSpec], bound: bool) -> None:
        self._specs, self._bound = specs, bound

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if kwargs or len(args) != 1 or not isinstance(args[0], Mapping):
            raise MecError("a tail takes one mapping of tensors by name, as its head returns it")
        _check(args[0], self._specs, self._bound)
        return args, {}


class _Rebuilds:
    """Makes of a tail's tensors what its module returns."""

    def __init__(self, result: Nest) -> None:
        self._result = result

    def __call__(self, module: nn.Module, args: Any, results: Any) -> Any:
        return put_together(self._result, results)
