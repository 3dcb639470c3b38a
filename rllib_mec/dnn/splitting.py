"""Executable halves: cut a module in two at a partition point, bit for bit the same result."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import fx, nn

from rllib_mec.dnn.checks import Checks, by_name, of_a_call
from rllib_mec.dnn.dimensions import Ranges
from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.halves import HalfGraph, head_graph, tail_graph
from rllib_mec.dnn.nesting import Nest, put_together
from rllib_mec.dnn.partition import partition_table
from rllib_mec.dnn.points import PartitionPoint
from rllib_mec.dnn.program import Program, TensorSpec, example_tensors
from rllib_mec.dnn.shadow import fingerprint, twin
from rllib_mec.dnn.sides import check_halves, inside_of, sent_nodes
from rllib_mec.dnn.tracing import check_mode, trace
from rllib_mec.errors import MecError

_traced: weakref.WeakKeyDictionary[nn.Module, OperatorGraph] = weakref.WeakKeyDictionary()
"""Graphs of modules that were split at points of another graph, e.g. of one without weights."""


class Head(fx.GraphModule):
    """The half on the device: takes the DNN's arguments, returns the tensors to send by name.

    Attributes:
        inputs: Name and spec of each tensor in the arguments.
        tensors: Name and spec of each tensor returned. Full local inference returns the results.
        state: Name and spec of each state that it keeps; None: the DNN was traced without any.
        ranges: The sizes that range in all of these.
    """

    state: dict[str, TensorSpec] | None
    ranges: Ranges
    inputs: dict[str, TensorSpec]
    tensors: dict[str, TensorSpec]


class Tail(fx.GraphModule):
    """The half on the server: takes the head's tensors, returns what the module returns.

    Attributes:
        tensors: Name and spec of each tensor taken.
        result: What the module returns, with a slot for each tensor.
        state: As a head's.
        ranges: As a head's.
    """

    state: dict[str, TensorSpec] | None
    ranges: Ranges
    tensors: dict[str, TensorSpec]
    result: Nest


Half = TypeVar("Half", bound=fx.GraphModule)


def split(
    module: nn.Module,
    point: PartitionPoint | int,
    example_input: Any = None,
    *,
    method: str = "pareto",
) -> tuple[Head, Tail]:
    """Cut a module in two: ``tail(head(x))`` is ``module(x)``, bit for bit.

    Where PyTorch itself fuses a module into another kernel (``nn.TransformerEncoderLayer`` without
    gradients, a mask found to be causal), and where a size that ranges decides whether it copies (a
    reshape of a batch of one), results differ in the last bits. The halves call the same operations
    on the same parameters, which are shared with the module and not copied; a later ``train()``, a
    replaced submodule or another setting of one changes not the other.

    At the first point (the input) the head returns its inputs; at the last one (full local) it
    returns the results, and nothing needs to be sent.

    Of a DNN with state, traced as :func:`rllib_mec.dnn.trace` says, each half keeps what its own
    operators read and renew, and nothing of it is sent: ``sent, mine = head(mine, ids)`` and
    ``result, theirs = tail(theirs, sent)``, with :func:`fresh_state` at the beginning. In the
    result, ``None`` stands for the state.

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
    if not isinstance(module, nn.Module):
        raise MecError(f"expected a torch.nn.Module to split, got {type(module).__name__}")
    check_mode(module)
    program = _program_of(module, point.graph)
    sides = check_halves(program, point)
    inside, names = inside_of(point), sent_nodes(program, point)
    tensors = {name: program.specs[node] for node, name in names.items()}
    name = point.graph.name
    front, back = head_graph(program, inside, names), tail_graph(program, inside, names)
    sent = front.pack({name: node for node, name in names.items()})
    results = tuple(back.copies[node] for node in program.result_nodes)
    head = _half(Head, front, sent, sides[0], f"{name}_head")
    tail = _half(Tail, back, results, sides[1], f"{name}_tail")
    head.inputs = {n: spec for n, spec in program.inputs.items() if n not in program.held}
    head.tensors, tail.tensors = tensors, tensors
    tail.result = program.result
    call = program.call.without(program.held)
    of_call = functools.partial(of_a_call, call)
    for half, read, specs in ((head, of_call, head.inputs), (tail, by_name, tensors)):
        hook = Checks(read, specs, half.state, program.shape_bound, program.ranges)
        half.register_forward_pre_hook(hook, with_kwargs=True)
    tail.register_forward_hook(Rebuilds(program.result, bool(program.state)))
    return head, tail


def fresh_state(half: Head | Tail, **sizes: int) -> dict[str, torch.Tensor]:
    """Zeros for each state that a half keeps.

    Args:
        half: Of a DNN that was traced with state.
        **sizes: Sizes that range, where they differ from the example's: ``past=0`` for a cache that
            grows.

    Raises:
        MecError: There is no such size, or it is beyond its limits.
    """
    if not isinstance(half, Head | Tail):
        raise MecError(f"expected a half of split, got a {type(half).__name__}")
    device = next((p.device for p in half.parameters()), torch.device("cpu"))
    made = dict[str, torch.Tensor]()
    for name, spec in (half.state or {}).items():
        shape = half.ranges.shape(spec.sizes or spec.shape, **sizes)
        made[name] = torch.zeros(shape, dtype=spec.dtype, device=device)
    return made


def _program_of(module: nn.Module, graph: OperatorGraph) -> Program:
    """The module's own program with the operators of ``graph``; traced now if need be."""
    program: Program | None = graph.program
    now = fingerprint(module)
    if program is not None and program.source() is module and program.made_of == now:
        return program
    own = _traced.get(module)
    if own is None or own.program.made_of != now or not _same_call(own, graph):
        state = graph.program.state if graph.program else {}
        example = _example(graph, module)
        own = _traced[module] = trace(module, example, name=graph.name, state=state)
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
    return (a.inputs, a.state, a.call.fixed) == (b.inputs, b.state, b.call.fixed)


def _example(graph: OperatorGraph, module: nn.Module) -> Any:
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    program: Program | None = graph.program
    if program is not None:
        return program.call.example(example_tensors(program, device))
    if not all(node.shapes for node in graph.inputs):
        raise MecError(f"the graph {graph.name!r} was made by hand: split a point of a traced one")
    return tuple(torch.empty(node.shapes[0], device=device) for node in graph.inputs)


def _half(
    kind: Callable[..., Half], half: HalfGraph, given: Any, renewed: dict[str, str], name: str
) -> Half:
    """A half with modules of its own: a ``train()`` of it is none of another."""
    program, parts = half.program, dict[str, Any]()
    state = {n: program.inputs[n] for n in program.held if n in half.needs() | set(renewed)}
    if program.state:
        half.drop_state(state)
        given = given, half.pack(renewed)
    half.graph.output(given)
    for node in half.graph.nodes:
        if node.op in ("call_module", "get_attr"):
            path = str(node.target)
            part = functools.reduce(getattr, path.split("."), program.module)
            parts[path] = twin(part) if node.op == "call_module" else part
    made = kind(parts, half.graph, name).eval()
    made.ranges = program.ranges  # type: ignore[assignment]  # as each kind declares
    made.state = state if program.state else None  # type: ignore[assignment]  # as each kind declares
    return made


class Rebuilds:
    """A hook that makes of a tail's tensors what its module returns.

    Args:
        result: What that is made of.
        has_state: The tail gives the tensors and its state.
    """

    def __init__(self, result: Nest, has_state: bool) -> None:
        """Keep what to make."""
        self._result, self._has_state = result, has_state

    def __call__(self, module: nn.Module, args: Any, results: Any) -> Any:
        """Make one result.

        Args:
            module: The tail.
            args: Of its call.
            results: The tensors.
        """
        if self._has_state:
            return put_together(self._result, results[0]), results[1]
        return put_together(self._result, results)
