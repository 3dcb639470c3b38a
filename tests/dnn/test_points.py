import networkx as nx
import pytest
from hypothesis import given, settings
from random_graphs import all_heads, as_networkx, operator_graphs, sent_elements

from rllib_mec.dnn import Operator, OperatorGraph, PartitionPoint
from rllib_mec.dnn.points import algorithm_1, layer_points, operator_points, vertical_points
from rllib_mec.errors import MecError


def heads(points):
    found = [point.head for point in points]
    assert len(found) == len(set(found)), "a point appears twice"
    return set(found)


@given(operator_graphs())
@settings(max_examples=150, deadline=None)
def test_operator_points_are_all_ancestor_closed_heads(graph):
    assert heads(operator_points(graph)) == all_heads(graph)


@given(operator_graphs())
@settings(max_examples=150, deadline=None)
def test_algorithm_1_is_all_maximal_sets_of_parallel_operators(graph):
    plain = as_networkx(graph)
    plain.remove_nodes_from([node.name for node in graph.inputs])
    parallel = [frozenset(chain) for chain in nx.antichains(plain)]
    maximal = [c for c in parallel if not any(c < other for other in parallel)]
    expected = {graph.input_set} | {graph.closure(chain) for chain in maximal}
    assert heads(algorithm_1(graph)) == expected


@given(operator_graphs())
@settings(max_examples=100, deadline=None)
def test_every_cut_blocks_every_path_and_sends_each_tensor_once(graph):
    for point in operator_points(graph):
        assert point.elements == sent_elements(graph, point.head)
        assert len(set(point.operators)) == len(point.operators)
        if point.is_full_local:
            assert point.operators == ()
            continue
        blocked = as_networkx(graph)
        blocked.remove_nodes_from(point.operators)
        for name in {n.name for n in graph.inputs} & set(blocked):
            assert not nx.descendants(blocked, name) & set(point.tail_operators)


@given(operator_graphs())
@settings(max_examples=100, deadline=None)
def test_other_granularities_choose_among_the_operator_points(graph):
    every = all_heads(graph)
    vertical = heads(vertical_points(graph))
    assert vertical <= every
    assert heads(layer_points(graph)) == every  # by hand, each operator is its own layer
    assert {graph.input_set, graph.full_set} <= vertical
    one_tensor = {h for h in every if len(PartitionPoint(graph, h).operators) == 1}
    assert vertical == one_tensor | {graph.input_set, graph.full_set}


def test_layers_stay_whole_and_those_that_depend_on_each_other_merge():
    x = Operator("x", kind="input")
    graph = OperatorGraph(
        [
            x,
            Operator("a", ("x",), layer="one"),
            Operator("b", ("a",), layer="two"),
            Operator("c", ("b",), layer="one"),
            Operator("d", ("c",), layer="three"),
        ]
    )
    assert {p.head_operators for p in layer_points(graph)} == {
        (),
        ("a", "b", "c"),
        ("a", "b", "c", "d"),
    }


def test_more_points_than_can_be_listed_is_an_error_that_says_what_to_do():
    x = Operator("x", kind="input")
    wide = OperatorGraph([x, *(Operator(f"a{i}", ("x",)) for i in range(40))])
    for search in (operator_points, layer_points):
        with pytest.raises(MecError, match="method 'pareto'"):
            search(wide, limit=1000)
