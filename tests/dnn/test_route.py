"""Cuts for given machines and links, against every nested cut there is."""

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_graphs import all_heads, ladder_of, operator_graphs, sent_elements, sparse_graph

from rllib_mec.dnn import LatencyProfile, Operator, OperatorGraph, best_route, partition_table
from rllib_mec.errors import MecError

MS = st.integers(1, 40)
RATES = st.sampled_from([1e-3, 0.01, 0.02, 0.1, 1.0])


def every_latency(graph, whole_ms, rates, model):
    """Latency of each nested cut, from the definitions; by their heads."""
    total = max(graph.total_macs, 1)

    def macs(nodes):
        return sum(node.macs for i, node in enumerate(graph.nodes) if nodes >> i & 1)

    found = {}
    for heads in itertools.product(sorted(all_heads(graph)), repeat=len(rates)):
        if any(a & ~b for a, b in itertools.pairwise(heads)):
            continue
        local = heads[0] == graph.full_set
        latency = whole_ms[0] * (1.0 if local else macs(heads[0]) / total)
        for ms, before, after in zip(
            whole_ms[1:], heads, (*heads[1:], graph.full_set), strict=True
        ):
            own = after & ~before
            latency += ms * (macs(own) / total if model == "share" else bool(own))
        latency += sum(
            sent_elements(graph, head) * 32 / (rate * 1e3)
            for head, rate in zip(heads, rates, strict=True)
        )
        found[heads] = latency
    return found


@pytest.mark.parametrize("model", ["constant", "share"])
@pytest.mark.parametrize(("links", "size"), [(1, 7), (2, 5), (3, 2)])
def test_no_nested_cut_is_faster(links, size, model):
    @given(
        operator_graphs(max_operators=size),
        st.lists(MS, min_size=links + 1, max_size=links + 1),
        st.lists(RATES, min_size=links, max_size=links),
    )
    @settings(max_examples=30, deadline=None)
    def check(graph, whole_ms, rates):
        assume(graph.total_macs)  # by which latencies are shared out
        route = best_route(graph, whole_ms, rates, server_model=model)
        every = every_latency(graph, whole_ms, rates, model)
        heads = tuple(point.head for point in route.points)
        assert route.latency_ms == pytest.approx(every[heads], rel=1e-12)
        assert route.latency_ms == pytest.approx(min(every.values()), rel=1e-12)
        assert sum(map(len, route.operators)) == len(graph)

    check()


def three_machines(**sizes):
    """A chain of three equal operators whose outputs have the sizes given."""
    nodes = [Operator("x", kind="input", elements=sizes.pop("x"))]
    for name, elements in sizes.items():
        nodes.append(Operator(name, (nodes[-1].name,), macs=100, elements=elements))
    return OperatorGraph(nodes)


def test_a_three_way_cut_by_hand():
    graph = three_machines(x=1000, a=100, b=10, c=1)
    route = best_route(graph, [30.0, 15.0, 3.0], [1.0, 0.1], server_model="share", feature_bits=10)
    # a locally (10 ms), 1000 bits at 1 Mbit/s (1 ms), b on the edge (5 ms), 100 bits at 0.1 Mbit/s
    # (1 ms), c in the cloud (1 ms): c on the edge would take 5 ms, b in the cloud 10 ms of link.
    assert route.operators == (("a",), ("b",), ("c",))
    assert route.work_ms == pytest.approx((10, 5, 1)) and route.link_ms == pytest.approx((1, 1))
    assert route.bits == (1000, 100) and route.latency_ms == pytest.approx(18)
    # Under Eq. 2 a server takes its whole latency: the edge only passes on what a gives.
    constant = best_route(graph, [30.0, 15.0, 3.0], [1.0, 0.1], feature_bits=10)
    assert constant.operators == (("a",), (), ("b", "c")) and constant.latency_ms == 10 + 1 + 10 + 3
    relayed = best_route(graph, [300.0, 150.0, 3.0], [10.0, 10.0], feature_bits=10)
    assert relayed.operators == ((), (), ("a", "b", "c")), "the edge only passes the input on"
    assert relayed.bits == (10_000, 10_000) and relayed.work_ms == (0, 0, 3)


def test_a_measured_profile_counts_for_each_operator():
    graph = three_machines(x=1000, a=100, b=10, c=1)
    slow_a = LatencyProfile("dnn", ("a", "b", "c"), *[(1.0, 20.0, 20.0)] * 3, 41.0, 1, 0, (), {})
    route = best_route(graph, [slow_a, 6.0], [1.0], server_model="share", feature_bits=10)
    assert route.operators == (("a",), ("b", "c"))
    assert route.work_ms == pytest.approx((1.0, 4.0))


@pytest.mark.parametrize("model", ["constant", "share"])
def test_with_one_link_it_is_the_best_point_of_the_table(model):
    graph = ladder_of(60, "one")
    for rate in (0.1, 1.0, 10.0, 100.0):
        latencies = {"device_latency_ms": 43.0, "server_latency_ms": 8.6, "server_model": model}
        table = partition_table(graph, "operator", codec="int8", **latencies)
        total = table.local_latency_ms + table.bits / (rate * 1e3) + table.server_latency_ms
        route = best_route(graph, [43.0, 8.6], [rate], codec="int8", server_model=model)
        assert route.latency_ms == pytest.approx(total.min(), rel=1e-12)


def test_a_graph_too_wide_for_a_front_is_cut_for_the_link():
    graph = sparse_graph(100)
    keywords = {"server_model": "share", "device_latency_ms": 50.0, "server_latency_ms": 10.0}
    with pytest.raises(MecError, match=r"too wide .* give bandwidth_mbps"):
        partition_table(graph, **keywords)
    table = partition_table(graph, **keywords, bandwidth_mbps=100.0)
    assert table.method == "min-cut" and table.epsilon == 0
    assert table.points[0].is_input and table.points[-1].is_full_local
    best = best_route(graph, [50.0, 10.0], [100.0], server_model="share")
    total = table.local_latency_ms + table.bits / 1e5 + table.server_latency_ms
    assert total.min() == pytest.approx(best.latency_ms)
    assert best.points[0] in table.points
    other = partition_table(graph, "vertical", **keywords)
    slower = other.local_latency_ms + other.bits / 1e5 + other.server_latency_ms
    assert slower.min() >= total.min() * (1 - 1e-12)


def test_an_approximate_front_has_the_best_cut_for_the_link_too():
    graph = sparse_graph(30)
    keywords = {"server_model": "share", "device_latency_ms": 50.0, "server_latency_ms": 10.0}
    rough = partition_table(graph, **keywords)
    assert rough.epsilon > 0
    for rate in (3.0, 30.0):
        table = partition_table(graph, **keywords, bandwidth_mbps=rate)
        total = table.local_latency_ms + table.bits / (rate * 1e3) + table.server_latency_ms
        best = best_route(graph, [50.0, 10.0], [rate], server_model="share")
        assert total.min() == pytest.approx(best.latency_ms)


@pytest.mark.parametrize(
    ("latencies", "rates", "message"),
    [
        ([1.0], [], "one for each link between 1 machines"),
        ([1.0, 2.0], [], "bandwidths_mbps must be one for each link between 2 machines"),
        ([1.0, 0.0], [1.0], r"latencies_ms\[1\] must be a positive number of ms"),
        ([1.0, 2.0], [float("nan")], r"bandwidths_mbps\[0\] must be a positive number, got nan"),
        ([1.0, 2.0, 3.0], [1.0, True], r"bandwidths_mbps\[1\] must be a positive number, got True"),
    ],
)
def test_bad_input_is_one_clear_line(latencies, rates, message):
    with pytest.raises(MecError, match=message):
        best_route(three_machines(x=1, a=1), latencies, rates)
    if len(latencies) == 2 and rates and rates[0] != 1.0:
        with pytest.raises(MecError, match="bandwidth_mbps must be a positive number"):
            partition_table(three_machines(x=1, a=1), bandwidth_mbps=rates[0])


@pytest.mark.parametrize("model", ["constant", "share"])
def test_a_dnn_without_macs_has_the_best_cut_in_its_table_and_on_its_route(model):
    nodes = [Operator("x", kind="input", elements=100)]
    for name, elements in {"a": 300, "b": 10, "c": 50, "d": 20}.items():
        nodes.append(Operator(name, (nodes[-1].name,), elements=elements))
    graph = OperatorGraph(nodes)
    every = partition_table(
        graph, "operator", device_latency_ms=40, server_latency_ms=4, server_model=model
    )
    assert every.local_latency_ms == pytest.approx([0, 10, 20, 30, 40])
    expected = every.local_latency_ms + every.bits / 100 + every.server_latency_ms
    front = partition_table(
        graph, device_latency_ms=40, server_latency_ms=4, server_model=model, device_memory_mb=1
    )
    found = front.local_latency_ms + front.bits / 100 + front.server_latency_ms
    route = best_route(graph, [40.0, 4.0], [0.1], server_model=model)
    assert found.min() == expected.min() == pytest.approx(route.latency_ms)
