"""Modules in three parts give what the whole gives, over the wire and from files."""

import itertools

import pytest
import torch
from test_tracing import TRACEABLE, example
from torch import nn
from torch.utils import _pytree as pytree

from rllib_mec.dnn import (
    Head,
    Middle,
    Tail,
    best_route,
    codec,
    load_half,
    partition_table,
    save_half,
    split_route,
    trace,
)
from rllib_mec.errors import MecError


class Skips(nn.Module):
    """Its first branch is read by all three parts, and a result is done before the end."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))

    def forward(self, x):
        a = torch.relu(self.a(x))
        b = self.b(a)
        return self.d(self.c(b) + a), b.mean()


def wired(tensors):
    """The tensors as they arrive, coded exactly."""
    wire = codec("float32")
    return {
        name: wire.decode(wire.encode(t), tuple(t.shape), t.dtype) for name, t in tensors.items()
    }


def assert_whole(module, inputs, points):
    head, *middles, tail = split_route(module, points)
    sent = head(*inputs)
    for point, middle in zip(points[1:], middles, strict=True):
        sent = middle(wired(sent))
        assert tuple(sent) == tuple(middle.given)
        if not point.is_full_local:
            assert sum(t.numel() for t in sent.values()) == point.elements
    before, after = module(*inputs), tail(wired(sent))
    assert pytree.tree_structure(before) == pytree.tree_structure(after)
    for a, b in zip(pytree.tree_leaves(before), pytree.tree_leaves(after), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


CASES = {**TRACEABLE, Skips: [(1, 3, 8, 8)]}


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_three_parts_are_the_whole_at_every_pair_of_points(kind):
    torch.manual_seed(0)
    module, inputs = kind().eval(), example(CASES[kind])
    points = partition_table(trace(module, inputs), "operator").points
    nested = [
        pair
        for pair in itertools.combinations_with_replacement(points, 2)
        if not pair[0].head & ~pair[1].head
    ]
    assert len(nested) >= 2
    with torch.no_grad():
        for pair in nested[:: len(nested) // 10 + 1]:
            assert_whole(module, inputs, pair)


def test_a_route_gives_its_parts_and_four_machines_four():
    torch.manual_seed(0)
    module, inputs = Skips().eval(), (torch.randn(1, 3, 8, 8),)
    graph = trace(module, inputs)
    route = best_route(graph, [60.0, 20.0, 1.0], [0.5, 0.2], codec="int8", server_model="share")
    parts = split_route(module, route)
    for part, kind in zip(parts, (Head, Middle, Tail), strict=True):
        assert isinstance(part, kind)
    points = partition_table(graph, "operator").points
    with torch.no_grad():
        assert_whole(module, inputs, route.points)
        assert_whole(module, inputs, points[1:4])
        assert_whole(module, inputs, points[2:3])


def test_each_part_has_only_its_own_parameters():
    module = Skips().eval()
    points = partition_table(trace(module, torch.randn(1, 3, 8, 8)), "vertical").points
    after_a = next(p for p in points if p.operators == ("a",))
    every = partition_table(after_a.graph, "operator").points
    after_b = next(p for p in every if p.head_operators == ("a", "b"))
    parts = split_route(module, [after_a, after_b])
    names = [{n.split(".")[0] for n, _ in part.named_parameters()} for part in parts]
    assert names == [{"a"}, {"b"}, {"c", "d"}]


def test_parts_run_from_files(tmp_path):
    torch.manual_seed(0)
    module, x = Skips().eval(), torch.randn(1, 3, 8, 8)
    every = partition_table(trace(module, x), "operator").points
    points = [next(p for p in every if p.head_operators == own) for own in (("a",), ("a", "b"))]
    parts = split_route(module, points)
    files = [tmp_path / name for name in ("head.pt2", "middle.onnx", "tail.pt2")]
    for part, file in zip(parts, files, strict=True):
        save_half(part, file)
    head, middle, tail = map(load_half, files)
    with torch.no_grad():
        results = pytree.tree_leaves(tail(wired(middle(wired(head(x))))))
        for a, b in zip(module(x), results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_points_that_are_not_nested_are_refused():
    module = Skips().eval()
    points = partition_table(trace(module, torch.randn(1, 3, 8, 8)), "operator").points
    with pytest.raises(MecError, match="point 1 of a route must have all operators of point 0"):
        split_route(module, [points[2], points[1]])
    other = partition_table(trace(module, torch.randn(1, 3, 8, 8)), "operator").points
    with pytest.raises(MecError, match="point 1 of a route"):
        split_route(module, [points[1], other[2]])
    with pytest.raises(MecError, match="at least one partition point"):
        split_route(module, [])
    with pytest.raises(MecError, match="missing"):
        split_route(module, points[1:3])[1]({})
