"""A module in several parts, for a device, servers on the way, and a last one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import fx, nn

from rllib_mec.dnn.checks import Checks, by_name
from rllib_mec.dnn.dimensions import Ranges
from rllib_mec.dnn.halves import HalfGraph, take
from rllib_mec.dnn.points import PartitionPoint
from rllib_mec.dnn.program import Program, TensorSpec
from rllib_mec.dnn.route import Route
from rllib_mec.dnn.sides import check_hops, sent_nodes
from rllib_mec.dnn.splitting import (
    Head,
    Tail,
    _half,
    _program_of,
    split,
)
from rllib_mec.errors import MecError


class Middle(fx.GraphModule):
    """The part on a server on the way: takes tensors by name, returns those to send on by name.

    Attributes:
        tensors: Name and spec of each tensor taken.
        given: Name and spec of each tensor returned.
        ranges: The sizes that range in these.
    """

    tensors: dict[str, TensorSpec]
    given: dict[str, TensorSpec]
    ranges: Ranges
    state: None


def split_route(
    module: nn.Module, route: Route | Sequence[PartitionPoint]
) -> tuple[Head | Middle | Tail, ...]:
    """Cut a module in one part more than links: ``tail(middle(head(x)))`` is ``module(x)``.

    Bit for bit, as the two halves of :func:`rllib_mec.dnn.split` are; what a part does not need but
    one further on does it passes on. Where a machine has no operator its part does only that.

    Args:
        module: The DNN, in eval mode.
        route: From :func:`rllib_mec.dnn.best_route`, or its points: of one graph, each with all
            operators of the one before in its head.

    Returns:
        A head, a middle part for each server on the way, and a tail.

    Raises:
        MecError: As :func:`rllib_mec.dnn.split`, the points are not nested, or the DNN keeps state.
    """
    points = route.points if isinstance(route, Route) else route
    points = tuple(points) if isinstance(points, Sequence) else (points,)
    if not all(isinstance(point, PartitionPoint) for point in points):
        raise MecError("a route is a Route or a sequence of PartitionPoints, one for each link")
    if not points:
        raise MecError("a route needs at least one partition point")
    for i, (before, after) in enumerate(itertools.pairwise(points)):
        if before.graph is not after.graph or before.head & ~after.head:
            raise MecError(
                f"point {i + 1} of a route must have all operators of point {i} in its head"
            )
    head, _ = split(module, points[0])
    _, tail = split(module, points[-1])
    program = _program_of(module, points[0].graph)
    check_hops(program, len(points))
    return head, *(_middle(program, *pair) for pair in itertools.pairwise(points)), tail


def _middle(program: Program, before: PartitionPoint, after: PartitionPoint) -> Middle:
    """The part between two cuts."""
    taken, given = sent_nodes(program, before), sent_nodes(program, after)
    part = HalfGraph(program)
    tensors = part.graph.placeholder("tensors", type_expr=dict[str, torch.Tensor])
    for node in program.module.graph.nodes:
        if node.name in taken:
            part.take(node, part.graph.call_function(take, (tensors, taken[node.name])))
    part.run(set(after.head_operators) - set(before.head_operators), wanted=set(given))
    sent = part.pack({name: node for node, name in given.items()})
    middle = _half(Middle, part, sent, {}, f"{before.graph.name}_middle")
    middle.tensors = {name: program.specs[node] for node, name in taken.items()}
    middle.given = {name: program.specs[node] for node, name in given.items()}
    check = Checks(by_name, middle.tensors, None, program.shape_bound, program.ranges)
    middle.register_forward_pre_hook(check, with_kwargs=True)
    return middle
