"""Fold a traced program's nodes into operators (footnote 1 of the paper)."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from rllib_mec.dnn.graph import INPUT, Operator, OperatorGraph
from rllib_mec.dnn.nesting import (
    Branch,
    Constant,
    Nest,
    Slot,
    graft,
    prune,
    slot_names,
    take_apart,
    within,
)
from rllib_mec.dnn.program import (
    Probe,
    Program,
    operation,
    operator_path,
    storage_of,
    tensors_in,
)
from rllib_mec.errors import MecError, unknown

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass
class _Group:
    """An operator in the making: its nodes, and the nodes whose values leave it."""

    anchor: fx.Node
    nodes: list[fx.Node]
    results: list[fx.Node]
    parents: list[fx.Node] = field(default_factory=list)
    macs: int = 0


def fold(program: Program, found: Probe, module: nn.Module, name: str) -> OperatorGraph:
    """Group the nodes of a traced program into operators.

    A node starts a new operator when it computes (has MACs), joins several tensors, stands on a
    branch of its own, or enlarges its input; otherwise it folds into the operator before.

    Args:
        program: The program; its groups are filled in and its graph loses what is constant.
        found: The probe of that program.
        module: The module that was traced, for the layers' names.
        name: The graph's name.

    Returns:
        The operator graph, with ``program`` attached.

    Raises:
        MecError: Nothing in the program depends on its inputs.
    """
    _unpack_result(program, found)
    program.shape_bound |= _bake_in_sizes(program, found)
    _take_tuples_apart(program, found)
    data = _data_nodes(program, found)
    views = {n for n in data if _is_tuple_view(n, data, found)}
    sources = {n: _sources(n, data, views) for n in data}
    readers: dict[fx.Node, set[fx.Node]] = {n: set() for n in data}
    for node in data:
        if node not in views:
            for source in sources[node]:
                readers[source].add(node)
    returned: set[fx.Node] = set()
    for node in program.result_nodes:
        returned.update(_sources(node, data, views) if node in views else data.keys() & {node})

    group_of: dict[fx.Node, _Group] = {}
    groups: list[_Group] = []
    for node in data:
        if node in views or node.op == "placeholder":
            continue
        before = sources[node]
        owner = group_of.get(before[0]) if len(before) == 1 else None
        takes_apart = owner is not None and not isinstance(found.values[before[0]], torch.Tensor)
        if owner is not None and (
            takes_apart or _folds(node, before[0], owner, readers, returned, found)
        ):
            owner.results = [r for r in owner.results if r is not before[0]] + [node]
        else:
            owner = _Group(node, [], [node], parents=list(before))
            groups.append(owner)
        owner.nodes.append(node)
        owner.macs += found.macs[node]
        group_of[node] = owner
    if not groups:
        raise MecError(f"nothing in {name!r} depends on its input: there is nothing to partition")
    replicated = frozenset(
        n.name
        for n in program.module.graph.nodes
        if n in views or (n not in data and n.op not in ("placeholder", "output"))
    )
    written = set[int]().union(*found.mutated.values())
    touched = frozenset(
        n.name for n in data if any(storage_of(t) in written for t in tensors_in(found.values[n]))
    )
    program = replace(program, replicated=replicated, written=touched)
    return _build(program, groups, group_of, found, module, name, returned)


def _unpack_result(program: Program, found: Probe) -> None:
    """Where a tuple is returned as it is (an LSTM's), return its items: tensors have names."""
    graph, shapes = program.module.graph, program.ranges.shapes
    output = next(iter(graph.find_nodes(op="output")))
    results: list[fx.Node] = []

    def unpacked(node: fx.Node) -> Nest:
        value = found.values[node]
        nest, tensors = take_apart(value, lambda v: isinstance(v, torch.Tensor), "a result")
        if isinstance(nest, Slot):
            results.append(node)
        if not tensors:
            program.shape_bound |= not isinstance(value, torch.dtype | torch.device | None)
            return Constant(value)
        if not isinstance(nest, Branch):
            return nest
        parts: list[Nest] = []
        for i, item in enumerate(value):
            with graph.inserting_before(output):
                part = graph.call_function(operator.getitem, (node, i))
            part.meta.update(node.meta)
            found.values[part], found.macs[part] = item, 0
            if node.name in shapes:
                shapes[part.name] = (shapes[node.name][i],)
            parts.append(unpacked(part) if tensors_in(item) else Constant(item))
        return replace(nest, children=tuple(parts))

    program.result = graft(program.result, map(unpacked, output.args[0]))
    given = dict(zip(slot_names(program.result), results, strict=True))
    kept = {n: within(n, program.state.values()) for n in given}
    for name, place in kept.items():
        if place is not None:
            argument = next(a for a, p in program.state.items() if p == place)
            program.kept[argument + name.removeprefix(place)] = given[name].name
    for name in program.held:
        if name not in program.kept:
            raise MecError(
                f"the state {name!r} has no new value in the result, which has {', '.join(given)}"
            )
    for argument, place in program.state.items():
        if place not in kept.values():
            raise unknown(f"result that is the new {argument}:", place, given, show=12)
    left = [Slot() if place is None else Constant(None) for place in kept.values()]
    program.result = prune(graft(program.result, iter(left)), tuple(program.state.values()))
    new = tuple(given[name] for name, place in kept.items() if place is not None)
    output.args = ((tuple(given[n] for n, place in kept.items() if place is None), new),)


def _bake_in_sizes(program: Program, found: Probe) -> bool:
    """Replace sizes, flags and assertions by the values they had; True if a tensor used one.

    Sizes that range stay.
    """
    used, graph, range_ = False, program.module.graph, program.ranges.sizes
    for node in list(graph.nodes):
        if node.op in ("placeholder", "output") or tensors_in(found.values[node]):
            continue
        value = found.values[node]
        if node.name in range_ or isinstance(value, nn.Module):  # a branch of torch.cond
            continue
        for user in list(node.users):
            used = used or bool(tensors_in(found.values[user]))
            user.args = fx.map_arg(user.args, lambda n, old=node, new=value: new if n is old else n)
            user.kwargs = fx.map_arg(
                user.kwargs, lambda n, old=node, new=value: new if n is old else n
            )
    for node in reversed(list(graph.nodes)):
        if node.op in ("placeholder", "output"):
            continue
        if not node.users and (not tensors_in(found.values[node]) or node not in found.mutated):
            graph.erase_node(node)
    return used


def _take_tuples_apart(program: Program, found: Probe) -> None:
    """Where a tuple is handed on as it is (an LSTM cell's state), hand on its items."""
    graph = program.module.graph
    everything, todo = dict.fromkeys(graph.nodes), list(graph.nodes)
    while todo:
        node = todo.pop()
        value: Any = found.values.get(node)
        whole = [u for u in node.users if u.target not in (operator.getitem, getattr)]
        if type(value) not in (tuple, list) or not whole or not tensors_in(value):
            continue
        if node.op == "output" or _is_tuple_view(node, everything, found):
            continue
        items, after = [], node
        for i, item in enumerate(value):
            if not tensors_in(item):
                items.append(item)
                continue
            with graph.inserting_after(after):
                after = graph.call_function(operator.getitem, (node, i))
            after.meta.update(node.meta)
            found.values[after], found.macs[after] = item, 0
            everything[after] = None
            items.append(after)
        instead = {node: list(items) if isinstance(value, list) else tuple(items)}
        for user in whole:
            user.args = fx.map_arg(user.args, lambda n, new=instead: new.get(n, n))
            user.kwargs = fx.map_arg(user.kwargs, lambda n, new=instead: new.get(n, n))
        todo += [item for item in items if isinstance(item, fx.Node)]


def _draws(node: fx.Node) -> bool:
    """Whether a node of an exported program draws at random: two halves must not draw apart."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _data_nodes(program: Program, found: Probe) -> dict[fx.Node, None]:
    """Nodes that depend on inputs or on chance, in execution order; state is like weights."""
    data: dict[fx.Node, None] = {}
    inputs = iter(program.inputs)
    for node in program.module.graph.nodes:
        held = node.op == "placeholder" and next(inputs) in program.held
        if node.op == "output" or held or not tensors_in(found.values[node]):
            continue
        reads = any(parent in data for parent in node.all_input_nodes)
        if node.op == "placeholder" or reads or _draws(node):
            data[node] = None
    return data


def _is_tuple_view(node: fx.Node, data: dict[fx.Node, None], found: Probe) -> bool:
    """A tensor taken apart into views (chunk, unbind, ...): free, so done on either side."""
    value = found.values[node]
    if node.op == "placeholder" or isinstance(value, torch.Tensor):
        return False
    read = [t for p in node.all_input_nodes if p in data for t in tensors_in(found.values[p])]
    return len(read) == 1 and all(storage_of(t) == storage_of(read[0]) for t in tensors_in(value))


def _sources(node: fx.Node, data: dict[fx.Node, None], views: set[fx.Node]) -> list[fx.Node]:
    """The data nodes a node reads, seen through tuple views."""
    found: dict[fx.Node, None] = {}
    for parent in node.all_input_nodes:
        if parent in views:
            found.update(dict.fromkeys(_sources(parent, data, views)))
        elif parent in data:
            found[parent] = None
    return list(found)


def _folds(
    node: fx.Node,
    before: fx.Node,
    owner: _Group,
    readers: dict[fx.Node, set[fx.Node]],
    returned: set[fx.Node],
    found: Probe,
) -> bool:
    """Whether a one-input node is small and the only reader of the operator before it."""
    return (
        found.macs[node] == 0
        and isinstance(found.values[node], torch.Tensor)
        and owner.results == [before]
        and readers[before] == {node}
        and before not in returned
        and found.values[node].numel() <= found.values[before].numel()
    )


def _build(
    program: Program,
    groups: list[_Group],
    group_of: dict[fx.Node, _Group],
    found: Probe,
    module: nn.Module,
    name: str,
    returned: set[fx.Node],
) -> OperatorGraph:
    """Name the groups and link them into an operator graph."""
    placeholders = program.placeholders
    modules = dict(program.module.named_modules())
    names_of_inputs = zip(placeholders, program.inputs, strict=True)
    held = {node: (n, found.values[node]) for node, n in names_of_inputs if n in program.held}
    weights = _Weights(program, held)
    names: dict[int, str] = {}
    taken: Counter[str] = Counter()

    def unique(wanted: str) -> str:
        taken[wanted] += 1
        return wanted if taken[wanted] == 1 else unique(f"{wanted}_{taken[wanted]}")

    operators: list[Operator] = []
    specs = program.specs
    of_node: dict[fx.Node, str] = {}
    several = len(program.inputs) > len(program.held) + 1
    for node, argument in zip(placeholders, program.inputs, strict=True):
        specs[node.name] = program.spec(node.name, found.values[node])
        if argument in program.held:
            continue
        of_node[node] = unique(argument if several else "input")
        program.results[of_node[node]] = (node.name,)
        operators.append(_operator(of_node[node], [node], found, kind=INPUT))
    layers = _Layers(module)
    for group in groups:
        # A tuple that is taken apart leaves only the parts that somebody reads.
        group.results = [r for r in group.results if isinstance(found.values[r], torch.Tensor)]
        label = names[id(group)] = unique(operator_path(group.anchor))
        program.groups[label] = tuple(n.name for n in group.nodes)
        program.results[label] = tuple(n.name for n in group.results)
        specs.update((n.name, program.spec(n.name, found.values[n])) for n in group.results)
        parents = dict.fromkeys(
            of_node[p] if p in of_node else names[id(group_of[p])] for p in group.parents
        )
        kind = operation(group.anchor, modules.get(str(group.anchor.target)))
        made = _operator(label, group.results, found, kind=kind)
        operators.append(
            replace(
                made,
                parents=tuple(parents),
                macs=group.macs,
                weights=weights.of(group.nodes, set(group_of)),
                peak_bytes=max(_bytes(found.values[n]) for n in group.nodes),
                layer=layers.of(group.anchor),
            )
        )
    outputs = dict.fromkeys(
        of_node[n] if n in of_node else names[id(group_of[n])] for n in returned
    )
    return OperatorGraph(operators, outputs, name=name, program=program)


def _operator(name: str, results: list[fx.Node], found: Probe, kind: str) -> Operator:
    tensors = [t for node in results for t in tensors_in(found.values[node])]
    raw = tuple(None if t.is_floating_point() else 8 * t.element_size() for t in tensors)
    floats = [8 * t.element_size() for t in tensors if t.is_floating_point()]
    return Operator(
        name,
        elements=sum(t.numel() for t in tensors),
        shapes=tuple(tuple(t.shape) for t in tensors),
        kind=kind,
        raw_bits=raw[0] if len(set(raw)) == 1 else raw,
        float_bits=max(floats, default=32),
    )


def _bytes(value: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors_in(value))


class _Weights:
    """Which parameters, buffers and state nodes read, each by its first name in the module."""

    def __init__(self, program: Program, held: dict[fx.Node, Any]) -> None:
        module = program.module
        self._held, self._sizes = held, program.ranges.sizes
        self._modules = dict(module.named_modules())
        every = [*module.named_parameters(), *module.named_buffers()]  # shared ones once
        self._names = {id(tensor): name for name, tensor in every}
        self._module = module

    def of(self, nodes: list[fx.Node], data: set[fx.Node]) -> tuple[tuple[str, int], ...]:
        """Names and bytes of what some nodes read, also by way of nodes that are no operator's."""
        found: dict[str, int] = {}
        seen = set(nodes)
        todo = list(nodes)
        while todo:
            node = todo.pop()
            for name, tensor in self._own(node):
                found[name] = tensor.numel() * tensor.element_size()
            read = [n for n in node.all_input_nodes if n.name not in self._sizes]
            beside = [n for n in read if n not in data and n not in seen]
            seen.update(beside)
            todo += beside
        return tuple(found.items())

    def _own(self, node: fx.Node) -> list[tuple[str, torch.Tensor]]:
        value: Any = []
        if node in self._held:
            return [self._held[node]]
        if node.op == "call_module":
            module = self._modules[str(node.target)]
            value = [*module.parameters(), *module.buffers()]
        if node.op == "get_attr":
            value = self._module
            for part in str(node.target).split("."):
                value = getattr(value, part)
        return [(self._names.get(id(t), str(node.target)), t) for t in tensors_in(value)]


class _Layers:
    """Which layer a node belongs to, for the ``layer`` granularity.

    A layer is the outermost module on a node's path that is neither a plain container nor of a
    class that occurs only once: ResNet's bottlenecks, GoogLeNet's Inception modules, ViT's encoder
    blocks. Modules whose class occurs once (a ViT's encoder) are looked through.
    """

    def __init__(self, module: nn.Module) -> None:
        self._modules = dict(module.named_modules())
        self._count = Counter(type(m) for m in self._modules.values())

    def of(self, node: fx.Node) -> str | None:
        parts = operator_path(node).split(".")
        for depth in range(1, len(parts) + 1):
            path = ".".join(parts[:depth])
            module: Any = self._modules.get(path)
            if module is None:
                return None
            if not _is_container(module) and self._count[type(module)] > 1:
                return path
        return None


def _is_container(module: nn.Module) -> bool:
    """A Sequential or the like whose class adds no forward of its own."""
    return isinstance(module, _CONTAINERS) and any(
        type(module).forward is container.forward for container in _CONTAINERS
    )
