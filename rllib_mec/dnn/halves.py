"""The programs of two halves: which nodes each runs, what it takes and what it gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import fx

from rllib_mec.dnn.dimensions import SIZE, Step, value_of
from rllib_mec.dnn.program import Program
from rllib_mec.dnn.sides import needed_nodes, told_sizes


class HalfGraph:
    """The graph of a half in the making.

    Args:
        program: Of the whole DNN.

    Attributes:
        graph: The half's, for its owner to finish.
        copies: Node of the program -> its copy, or what stands for it.
    """

    def __init__(self, program: Program):
        """Begin with nothing."""
        self.program, self.graph = program, fx.Graph()
        self.copies: dict[fx.Node, fx.Node] = {}
        self._taken: list[fx.Node] = []
        self._state: dict[str, fx.Node] = {}

    def take(self, node: fx.Node, taken: fx.Node) -> fx.Node:
        """Let something that the half takes stand for a node.

        Args:
            node: Of the program.
            taken: Of the half.
        """
        order = self.program.specs[node.name].order
        written = node.name in self.program.written
        self.copies[node] = self.graph.call_function(lay_out, (taken, order, written))
        self._taken.append(node)
        return self.copies[node]

    def take_state(self) -> None:
        """Take the state as well, if the DNN has any."""
        program = self.program
        if not program.state:
            return
        mapping = self.graph.placeholder("state", type_expr=dict[str, torch.Tensor])
        for node, name in zip(program.placeholders, program.inputs, strict=True):
            if name in program.held:
                taken = self.graph.call_function(take, (mapping, name))
                self._state[name] = self.take(node, taken)

    def needs(self) -> set[str]:
        """The state that what was copied so far reads."""
        return {name for name, node in self._state.items() if node.users}

    def drop_state(self, kept: Iterable[str]) -> None:
        """Forget the state that the half does not need.

        Args:
            kept: What it needs, or passes on.
        """
        for name in set(self._state) - set(kept):
            node = self._state.pop(name)
            (taken,) = node.all_input_nodes
            self.graph.erase_node(node)
            self.graph.erase_node(taken)

    def pack(self, nodes: Mapping[str, str]) -> fx.Node:
        """A mapping of tensors by name.

        Args:
            nodes: Name -> name of the program's node.
        """
        by_name = {node.name: copy for node, copy in self.copies.items()}
        return self.graph.call_function(pack, (tuple(nodes), *(by_name[n] for n in nodes.values())))

    def run(self, operators: Iterable[str], wanted: set[str]) -> None:
        """Copy the nodes of some operators, and what they need of the replicated ones.

        Args:
            operators: Their names.
            wanted: Names of nodes that are given on, and may be replicated ones.
        """
        program, copies = self.program, self.copies
        taken = {node.name for node in copies}
        own, needed = needed_nodes(program, operators, taken, wanted)
        steps = told_sizes(program, [node.name for node in self._taken], own, needed)
        by_name = {node.name: copies[node] for node in self._taken}
        sizes = SizesThatRange(program, self.graph, by_name, steps)
        for node in own:
            copies[node] = self.graph.node_copy(
                node, lambda old: copies[old] if old in copies else sizes.node(old)
            )


class SizesThatRange:
    """What a half needs to know of the sizes that range, computed from the tensors it takes.

    Args:
        program: Of the whole DNN.
        graph: The half's.
        taken: Node of the program whose value the half takes -> the half's node.
        steps: How these tell each symbol.
    """

    def __init__(
        self,
        program: Program,
        graph: fx.Graph,
        taken: Mapping[str, fx.Node],
        steps: Mapping[Any, Step],
    ):
        """Nothing is computed before it is asked for."""
        self._ranges, self._graph, self._taken, self._steps = program.ranges, graph, taken, steps
        self._values: dict[Any, fx.Proxy] = {}
        self._nodes: dict[fx.Node, fx.Node] = {}

    def node(self, size: fx.Node) -> Any:
        """What stands for a size in the half.

        Args:
            size: Node of the program.
        """
        if size not in self._nodes:
            self._nodes[size] = self._value(self._ranges.sizes[size.name]).node
        return self._nodes[size]

    def _value(self, formula: Any) -> Any:
        for symbol in sorted(formula.free_symbols, key=str):
            if symbol in self._values:
                continue
            _, name, at, inverse = self._steps[symbol]
            size = self._graph.call_function(torch.ops.aten.sym_size.int, (self._taken[name], at))
            for other in inverse.free_symbols - {SIZE}:
                self._value(other)
            self._values[SIZE] = fx.Proxy(size)
            self._values[symbol] = value_of(inverse, self._values)
        return value_of(formula, self._values)


def head_graph(program: Program, inside: set[str], names: Mapping[str, str]) -> HalfGraph:
    """Inputs in, the named tensors to come out.

    Args:
        program: Of the whole DNN.
        inside: Names of the head's operators and inputs.
        names: Node whose value is sent -> name of the tensor.
    """
    half = HalfGraph(program)
    half.take_state()
    given = [
        node
        for node, name in zip(program.placeholders, program.inputs, strict=True)
        if name not in program.held
    ]
    for node, copy in [(node, half.graph.node_copy(node)) for node in given]:
        half.take(node, copy)
    half.run(inside, wanted=set(names))
    return half


def tail_graph(program: Program, inside: set[str], names: Mapping[str, str]) -> HalfGraph:
    """The named tensors in, the module's result to come out.

    Args:
        program: Of the whole DNN.
        inside: Names of the head's operators and inputs.
        names: Node whose value is sent -> name of the tensor.
    """
    half = HalfGraph(program)
    half.take_state()
    tensors = half.graph.placeholder("tensors", type_expr=dict[str, torch.Tensor])
    for node in program.module.graph.nodes:
        if node.name in names:
            half.take(node, half.graph.call_function(take, (tensors, names[node.name])))
    wanted = {node.name for node in program.result_nodes}
    half.run(set(program.groups) - inside, wanted)
    return half


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


def pack(names: tuple[str, ...], *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    """Tensors by name.

    Args:
        names: Their names.
        *tensors: One for each.
    """
    return dict(zip(names, tensors, strict=True))


def take(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """One of them.

    Args:
        tensors: By name.
        name: Its name.
    """
    return tensors[name]
