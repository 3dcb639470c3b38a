"""Tables of long and wide graphs: every method gives its answer, and what it sums stays right."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import all_heads, chain_of, ladder_of, operator_graphs

from rllib_mec.dnn import LatencyProfile, OperatorGraph, PartitionPoint, partition_table
from rllib_mec.dnn.memory import heads_memory_bytes
from rllib_mec.dnn.partition import METHODS
from rllib_mec.dnn.walk import exact, walk

LONG = 20_000


CASES = [*((method, "share") for method in METHODS), ("pareto", "constant")]


@pytest.mark.parametrize(("method", "model"), CASES)
def test_every_method_has_an_exact_table_of_a_chain_of_thousands(method, model):
    graph = chain_of(3000)
    table = partition_table(graph, method, server_model=model, feature_bits=8)
    assert table.epsilon == 0
    if method == "pareto" and model == "constant":
        assert len(table) < 50
    else:
        assert len(table) == {"layer": 1501}.get(method, 3001)
        assert table.elements[1:-1].tolist() == [
            graph[names[0]].elements for names in table.operators[1:-1]
        ]
    for index in (1, len(table) // 2, -1):
        point = table.points[index]
        assert table.bits[index] == 8 * point.elements
        assert table.local_mmacs[index] == point.macs / 1e6
        assert table.head_memory_bytes[index] == heads_memory_bytes(graph, [point.head])[0]


def test_a_chain_of_20_000_is_cut_at_every_operator_and_walked_once():
    graph = chain_of(LONG)
    table = partition_table(graph, server_model="share")
    assert len(table) == LONG + 1 and table.epsilon == 0
    stops = walk(graph, [point.head for point in table.points])
    assert sum(len(stop.joined) + len(stop.left) for stop in stops) == LONG + 1


def test_a_measured_chain_has_four_criteria():
    graph = chain_of(1500)
    names = tuple(operator.name for operator in graph.operators)
    device, server = ([(7 * i + k) % 11 + 0.1 for i in range(1500)] for k in (0, 5))
    made = [
        LatencyProfile("chain", names, tuple(t), tuple(t), tuple(t), sum(t), 1, 0, (), {})
        for t in (device, server)
    ]
    table = partition_table(
        graph, device_latency_ms=made[0], server_latency_ms=made[1], server_model="share"
    )
    assert len(table) == 1501 and table.epsilon == 0


@pytest.mark.parametrize("model", ["constant", "share"])
@pytest.mark.parametrize("rungs", ["none", "one", "both"])
def test_ladders_have_fronts_in_bounded_memory(rungs, model):
    graph = ladder_of(200, rungs)
    table = partition_table(graph, server_model=model)
    assert table.epsilon < 0.01
    assert table.epsilon == 0 or (model, rungs) in {("share", "none"), ("share", "one")}
    assert table.points[0].is_input and table.points[-1].is_full_local


@given(operator_graphs(), st.randoms())
@settings(max_examples=50, deadline=None)
def test_a_walk_tells_what_crosses_at_every_head(graph, random):
    heads = sorted(all_heads(graph))
    random.shuffle(heads)
    inside, seen = set(), set()
    for at, joined, left, crossing in walk(graph, heads):
        inside = (inside | set(joined)) - set(left)
        assert sum(1 << i for i in inside) == heads[at]
        point = PartitionPoint(graph, heads[at])
        assert sorted(crossing) == [graph.index[name] for name in point.operators]
        seen.add(at)
    assert seen == set(range(len(heads)))


@given(operator_graphs(), st.data())
@settings(max_examples=50, deadline=None)
def test_memory_is_that_of_running_the_head_operator_by_operator(graph, data):
    heads = sorted(all_heads(graph))
    shared = data.draw(st.lists(st.sampled_from("uvw"), min_size=len(graph), max_size=len(graph)))
    own = iter(shared)
    weighted = OperatorGraph(
        [
            dataclasses.replace(
                o,
                children=(),
                weights=((next(own), 7),) if o.parents else (),
                peak_bytes=9 * o.macs,
            )
            for o in graph.nodes
        ],
        graph.outputs,
    )
    assert heads_memory_bytes(weighted, heads) == [memory_by_hand(weighted, h) for h in heads]


def memory_by_hand(graph, head):
    """Run the head one operator after another, and drop what nobody needs any more."""
    inside = [i for i in range(len(graph.nodes)) if head >> i & 1]
    weights = {name: size for i in inside for name, size in graph.nodes[i].weights}
    kept = set(graph.crossing(head)) or {graph.index[name] for name in graph.outputs}
    alive = {i for i in inside if graph.nodes[i].kind == "input"}
    most = size_of(graph, alive)
    for i in inside:
        if graph.nodes[i].kind == "input":
            continue
        making = max(graph.nodes[i].peak_bytes, size_of(graph, {i}))
        most = max(most, size_of(graph, alive) + making)
        later = {p for j in inside if j > i for p in graph.parent_ids[j]}
        never_read = {j for j in alive if not graph.nodes[j].children}
        alive = {j for j in alive | {i} if j in later or j in kept or j in never_read}
    return sum(weights.values()) + most


def size_of(graph, nodes):
    return sum(4 * graph.nodes[i].elements for i in nodes)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30))
def test_exact_sums_are_what_fsum_says(values):
    counts, unit = exact(values)
    assert sum(counts) / unit == math.fsum(values)
