import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import all_heads, min_cut, operator_graphs, sent_elements

from rllib_mec.dnn import Operator, OperatorGraph, pareto_front
from rllib_mec.dnn.sweep import Criteria, sweep
from rllib_mec.errors import MecError


def criteria_of(graph, device_count, server_count, seed=0):
    rng = random.Random(seed)
    columns = [[node.macs for node in graph.nodes]]
    while len(columns) < device_count + server_count:
        columns.append([rng.randint(0, 4) * bool(node.parents) for node in graph.nodes])
    return Criteria(
        [node.elements for node in graph.nodes],
        tuple(columns[:device_count]),
        tuple(columns[device_count:]),
    )


def brute_force_costs(graph, criteria):
    costs = set()
    for head in all_heads(graph):
        cost = criteria.of(graph, head)
        assert cost[0] == sent_elements(graph, head)
        costs.add(cost)
    return costs


def dominated(cost, others):
    return any(o != cost and all(a <= b for a, b in zip(o, cost, strict=True)) for o in others)


@pytest.mark.parametrize(("device", "server"), [(1, 0), (1, 1), (2, 0), (2, 1)])
def test_the_front_is_exactly_the_non_dominated_costs(device, server):
    @given(operator_graphs())
    @settings(max_examples=120, deadline=None)
    def check(graph):
        criteria = criteria_of(graph, device, server)
        labels, epsilon = sweep(graph, criteria, max_labels=100_000)
        every = brute_force_costs(graph, criteria)
        assert epsilon == 0
        assert [criteria.of(graph, head) for _, head in labels] == [cost for cost, _ in labels]
        assert sorted(cost for cost, _ in labels) == sorted(
            cost for cost in every if not dominated(cost, every)
        )

    check()


@given(
    operator_graphs(max_operators=14, one_output=True),
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(0, 50),
)
@settings(max_examples=120, deadline=None)
def test_the_minimum_cut_lies_on_the_front_for_any_link_and_devices(graph, bit, device, server):
    macs = [node.macs for node in graph.nodes]
    criteria = Criteria([node.elements for node in graph.nodes], (macs,), (macs,))
    labels, _ = sweep(graph, criteria, 100_000)
    costs = [bit * c[0] + device * c[1] + server * c[2] for c, _ in labels]
    full_local = device * graph.total_macs
    assert min(costs) == min(full_local, min_cut(graph, bit, device, server))


@given(operator_graphs(max_operators=9), st.integers(16, 40), st.sampled_from([(1, 0), (1, 1)]))
@settings(max_examples=120, deadline=None)
def test_an_approximate_front_keeps_the_epsilon_it_reports(graph, room, shape):
    criteria = criteria_of(graph, *shape)
    try:
        labels, epsilon = sweep(graph, criteria, max_labels=room)
    except MecError as error:
        assert "too wide" in str(error)
        return
    totals = [sum(column) for column in (*criteria.device, *criteria.server)]
    for bits, *work in brute_force_costs(graph, criteria):
        assert any(
            c[0] <= (1 + epsilon) * bits + 1e-9
            and all(
                a <= b + epsilon * t + 1e-9 for a, b, t in zip(c[1:], work, totals, strict=True)
            )
            for c, _ in labels
        )


def fork_join(branches, length, stages):
    rng = random.Random(0)
    nodes = [Operator("x", kind="input", elements=10_000)]
    last = "x"
    for stage in range(stages):
        ends = []
        for b in range(branches):
            before = last
            for i in range(length):
                name = f"s{stage}.b{b}.{i}"
                nodes.append(
                    Operator(
                        name, (before,), macs=rng.randint(1, 10**6), elements=rng.randint(1, 10**4)
                    )
                )
                before = name
            ends.append(before)
        last = f"s{stage}.join"
        nodes.append(Operator(last, tuple(ends), elements=5000))
    return OperatorGraph(nodes)


def test_a_wide_graph_of_10_to_the_13_cuts_has_its_front_in_bounded_memory():
    graph = fork_join(branches=10, length=20, stages=5)  # 21^10 = 1.7e13 cuts in each stage
    assert len(graph) == 1005
    front = pareto_front(graph, [node.elements * 32 for node in graph.nodes])
    assert front.epsilon == 0
    assert front.points[-1].is_full_local
    # Linear costs are a hull of the front: every one of them must agree with a minimum cut.
    small = fork_join(branches=4, length=3, stages=2)
    labels, _ = sweep(small, criteria_of(small, 1, 0), 100_000)
    for bit, device in ((1, 1), (100, 1), (1000, 1), (10_000, 1)):
        best = min(bit * c[0] + device * c[1] for c, _ in labels)
        assert best == min(device * small.total_macs, min_cut(small, bit, device, 0))


def test_with_too_little_memory_the_front_is_approximate_and_says_so():
    graph = fork_join(branches=4, length=6, stages=2)
    bits = [node.elements * 32 for node in graph.nodes]
    exact = pareto_front(graph, bits, server_model="share", max_labels=1_000_000)
    rough = pareto_front(graph, bits, server_model="share", max_labels=400)
    assert exact.epsilon == 0 < rough.epsilon < 0.5
    assert len(rough.points) < len(exact.points)


def test_input_and_full_local_are_always_there():
    free = OperatorGraph(
        [
            Operator("x", kind="input", elements=9),
            Operator("pool", ("x",), elements=1),
            Operator("fc", ("pool",), macs=5, elements=1),
        ]
    )
    front = pareto_front(free, [9, 1, 1])
    assert front.points[0].is_input and front.points[-1].is_full_local
