"""Tables and routes hold only points that split makes halves of: sizes and state tell which."""

import itertools

import pytest
import torch
from test_ranges import BATCH, Pooled
from torch import nn
from torch.export import Dim

from rllib_mec.dnn import best_route, partition_table, resized, split, split_route, trace
from rllib_mec.dnn.partition import METHODS
from rllib_mec.dnn.points import operator_points
from rllib_mec.errors import MecError


class ReadsItsOldState(nn.Module):
    """What it had before is read behind the operator that renews it, which gives the least."""

    def __init__(self):
        super().__init__()
        self.down, self.up, self.out = nn.Linear(64, 2), nn.Linear(2, 64), nn.Linear(66, 64)

    def forward(self, x, past):
        new = past + self.down(x)
        return self.out(torch.cat([self.up(new), past], -1)), new


class Narrow(nn.Module):
    """The least is sent behind a flat layer, which does not tell the batch."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(64, 2), nn.Linear(2, 64)

    def forward(self, x):
        flat = self.down(x.reshape(-1, 64))
        return self.up(flat).reshape(x.shape[0], -1, 64).softmax(-1)


def reads_its_old_state():
    model = ReadsItsOldState().eval()
    return model, trace(model, (torch.zeros(1, 64), torch.zeros(1, 2)), state={"past": "1"})


def narrow():
    model = Narrow().eval()
    frames = Dim("frames", min=2, max=50)
    return model, trace(model, torch.zeros(2, 3, 64), dynamic={"x": {0: BATCH, 1: frames}})


def pooled():
    model, frames = Pooled().eval(), Dim("frames", min=2, max=50)
    return model, trace(model, torch.randn(2, 3, 9), dynamic={"x": {0: BATCH, 2: frames}})


def splits(model, point):
    try:
        split(model, point)
    except MecError as error:
        assert "choose another point" in str(error)
        return False
    return True


@pytest.mark.parametrize("make", [reads_its_old_state, narrow, pooled])
def test_every_point_of_every_table_splits_and_none_that_does_is_missing(make):
    model, graph = make()
    good = {p.head: p for p in operator_points(graph) if splits(model, p)}
    assert len(good) < len(operator_points(graph))
    for method, server_model in itertools.product(METHODS, ("constant", "share")):
        table = partition_table(graph, method, server_model=server_model)
        assert {p.head for p in table.points} <= good.keys()
        if method == "operator":
            assert {p.head for p in table.points} == good.keys()
            everything = table
        if method != "pareto":
            continue
        front = costs(table)
        for cost in costs(partition_table(graph, "operator", server_model=server_model)):
            assert any(all(a <= b for a, b in zip(f, cost, strict=True)) for f in front)
    if graph.program.ranges:
        there = partition_table(resized(graph, batch=3), "operator")
        assert [p.head for p in there.points] == [p.head for p in everything.points]


def costs(table):
    columns = table.bits, table.local_mmacs, table.server_latency_ms.round(9)
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("make", [reads_its_old_state, narrow])
def test_a_route_and_a_table_for_a_link_have_the_best_cut_that_splits(make):
    model, graph = make()
    for machines, rate in ([1.0, 0.01], 0.02), ([1.0, 0.5], 1.0), ([1.0, 0.9], 1e-3):
        route = best_route(graph, machines, [rate], server_model="share")
        assert splits(model, route.points[0])
        table = partition_table(
            graph,
            "operator",
            device_latency_ms=machines[0],
            server_latency_ms=machines[1],
            server_model="share",
        )
        latency_ms = table.local_latency_ms + table.bits / (rate * 1e3) + table.server_latency_ms
        assert route.latency_ms == pytest.approx(latency_ms.min())


def test_a_route_of_three_machines_has_parts():
    model, graph = narrow()
    x = torch.randn(2, 5, 64)
    used = set()
    for middle_ms, cloud_ms, rate in itertools.product((0.01, 1), (1e-3, 1), (0.1, 1e3)):
        machines, links = [3.0, middle_ms, cloud_ms], [rate, rate]
        route = best_route(graph, machines, links, server_model="share")
        head, middle, tail = split_route(model, route)
        torch.testing.assert_close(tail(middle(head(x))), model(x))
        used.add(tuple(len(names) > 0 for names in route.operators))
    assert len(used) > 2


def test_a_state_is_refused_over_two_links_when_a_route_is_asked_for():
    _, graph = reads_its_old_state()
    with pytest.raises(MecError, match="runs in two halves only: give one link, use split"):
        best_route(graph, [3.0, 1.0, 0.1], [1.0, 1.0])
