"""What each half of a program runs, reads and renews, and whether it can, before it is made."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.points import PartitionPoint
from rllib_mec.errors import MecError

if TYPE_CHECKING:
    from torch import fx

    from rllib_mec.dnn.dimensions import Step
    from rllib_mec.dnn.program import Program


def check_hops(program: Program | None, num_links: int) -> None:
    """Refuse more than two parts of a DNN that keeps state.

    Args:
        program: The traced module, if there is one.
        num_links: Between its parts.

    Raises:
        MecError: There is state, and more than one link.
    """
    if program and program.state and num_links > 1:
        raise MecError(
            "a DNN that was traced with state runs in two halves only: give one link, use split"
        )


def sent_nodes(program: Program, point: PartitionPoint) -> dict[str, str]:
    """The nodes whose tensors a head returns, and the names of these.

    Args:
        program: The traced module.
        point: Where it is cut; at full local these are the results.
    """
    return {
        node: operator if len(program.results[operator]) == 1 else f"{operator}.{i}"
        for operator in point.operators or point.graph.outputs
        for i, node in enumerate(program.results[operator])
    }


def inside_of(point: PartitionPoint) -> set[str]:
    """Names of the operators and inputs on the device's side.

    Args:
        point: Where a DNN is cut.
    """
    return {*point.head_operators, *(node.name for node in point.graph.inputs)}


def needed_nodes(
    program: Program, operators: Iterable[str], taken: Container[str], wanted: Container[str]
) -> tuple[list[fx.Node], set[fx.Node]]:
    """The nodes that some operators run, with the replicated ones they need, and all that is read.

    Args:
        program: Of the whole DNN.
        operators: Their names.
        taken: Names of nodes whose values are there already.
        wanted: Names of nodes that are given on, and may be replicated ones.

    Returns:
        Nodes to run in order, and these with the nodes that they read.
    """
    names = {node for operator in operators for node in program.groups.get(operator, ())}
    own: list[fx.Node] = []
    needed: set[fx.Node] = set()
    for node in reversed(program.module.graph.nodes):
        name = node.name
        if name in taken or node.op == "output" or name in program.ranges.sizes:
            continue
        is_needed = node in needed or name in wanted
        if name in names or (is_needed and name in program.replicated):
            own.append(node)
            needed.add(node)
            needed.update(node.all_input_nodes)
    return own[::-1], needed


def told_sizes(
    program: Program, taken: Iterable[str], own: Iterable[fx.Node], needed: Container[fx.Node]
) -> dict[Any, Step]:
    """How a half finds the sizes that range, which its operators read, from the tensors it takes.

    Args:
        program: Of the whole DNN.
        taken: Names of the nodes whose values it takes.
        own: Those that it runs.
        needed: Those that it reads.

    Returns:
        A step for each symbol that these tell.

    Raises:
        MecError: They do not tell one that is read.
    """
    sizes = program.ranges.sizes
    formulas: list[Any] = [
        sizes[read.name] for node in own for read in node.all_input_nodes if read.name in sizes
    ]
    if not formulas:
        return {}
    from rllib_mec.dnn.dimensions import solve  # not at the top: tables need no torch

    # A state that only the other half has tells nothing here.
    others = {node.name for node in _held(program).values() if node not in needed}
    shapes = {name: program.specs[name].sizes for name in taken if name not in others}
    steps = {step[0]: step for step in solve(shapes)}
    for symbol in sorted(set().union(*(f.free_symbols for f in formulas)), key=str):
        if symbol not in steps:
            raise MecError(
                f"what runs on one side of this point needs the size {symbol.name!r}, which"
                " no tensor that it takes tells: choose another point"
            )
    return steps


def sides_of_state(
    program: Program, inside: Container[str], needed: Sequence[Container[fx.Node]]
) -> tuple[dict[str, str], dict[str, str]]:
    """The state that each half renews: its name -> the program's node.

    Args:
        program: Of the whole DNN.
        inside: Names of the head's operators and inputs.
        needed: The nodes that the head reads, and those that the tail does.

    Raises:
        MecError: A state is read in one half and renewed in the other.
    """
    owner = {node: name for name, nodes in program.groups.items() for node in nodes}
    held = _held(program)
    sides: tuple[dict[str, str], dict[str, str]] = {}, {}
    for name, node in program.kept.items():
        readers = [name in held and held[name] in read for read in needed]
        side = readers[1] if node not in owner else owner[node] not in inside
        if readers[not side]:
            raise MecError(
                f"the state {name!r} is read on one side of this point and renewed on the other:"
                " choose another point"
            )
        sides[side][name] = node
    return sides


def that_split(graph: OperatorGraph, cuts: Iterable[Sequence[int]]) -> Iterator[Sequence[int]]:
    """Of some nested cuts those whose parts can be made.

    Args:
        graph: The DNN; of one made by hand all can.
        cuts: Of each the head before each link, inputs included: one for two halves.
    """
    program: Program | None = graph.program
    if program is None or not (program.ranges or program.state):
        yield from cuts
        return
    for cut in cuts:
        points = [PartitionPoint(graph, head) for head in cut]
        halves = all(_can(graph, check_halves, program, point) for point in points)
        if halves and all(_can(graph, check_middle, program, *p) for p in pairwise(points)):
            yield cut


def _can(graph: OperatorGraph, check: Callable[..., Any], program: Program, *points: Any) -> bool:
    """Whether a check passes, kept on the graph."""
    key = (check.__name__, *(point.head for point in points))
    if key not in graph.cache:
        try:
            check(program, *points)
            graph.cache[key] = True
        except MecError:
            graph.cache[key] = False
    return graph.cache[key]


def check_halves(program: Program, point: PartitionPoint) -> tuple[dict[str, str], dict[str, str]]:
    """Check that both halves can be made.

    Args:
        program: Of the whole DNN.
        point: Where it is cut.

    Returns:
        What :func:`sides_of_state` does.

    Raises:
        MecError: A half needs a size that nothing it takes tells, or a state of the other.
    """
    inside, sent = inside_of(point), sent_nodes(program, point)
    held = {node.name for node in _held(program).values()}
    reads = []
    for operators, taken, wanted in (
        (inside, {node.name for node in program.placeholders}, set(sent)),
        (set(program.groups) - inside, held | set(sent), {n.name for n in program.result_nodes}),
    ):
        own, needed = needed_nodes(program, operators, taken, wanted)
        told_sizes(program, taken, own, needed)
        reads.append(needed)
    return sides_of_state(program, inside, reads)


def check_middle(program: Program, before: PartitionPoint, after: PartitionPoint) -> None:
    """Check that the part between two cuts can be made.

    Args:
        program: Of the whole DNN.
        before: The cut that it takes tensors from.
        after: The cut that it gives tensors to.

    Raises:
        MecError: It needs a size that nothing it takes tells.
    """
    taken, given = sent_nodes(program, before), sent_nodes(program, after)
    operators = inside_of(after) - inside_of(before)
    told_sizes(program, taken, *needed_nodes(program, operators, taken, given))


def _held(program: Program) -> dict[str, fx.Node]:
    """The node of each input that is state."""
    pairs = zip(program.inputs, program.placeholders, strict=True)
    held = set(program.held)
    return {name: node for name, node in pairs if name in held}
