import pickle

import pytest

from rllib_mec.dnn import Operator, OperatorGraph
from rllib_mec.errors import MecError


def diamond(**fields):
    return OperatorGraph(
        [
            Operator("x", kind="input", elements=8),
            Operator("a", ("x",), macs=3, elements=4),
            Operator("left", ("a",), macs=5, elements=2),
            Operator("right", ("a",), macs=7, elements=6),
            Operator("join", ("left", "right"), elements=1),
        ],
        **fields,
    )


def test_every_operator_knows_its_parents_and_children():
    graph = diamond()
    assert graph["a"].children == ("left", "right")
    assert graph["join"].parents == ("left", "right")
    assert graph.outputs == ("join",)
    assert graph.total_macs == 15
    assert len(graph) == 4


def test_a_tensor_with_two_readers_crosses_once_and_a_skip_crosses_too():
    graph = diamond()
    names = [node.name for node in graph.nodes]
    assert [names[i] for i in graph.crossing(graph.closure(["a"]))] == ["a"]
    assert [names[i] for i in graph.crossing(graph.closure(["left"]))] == ["a", "left"]
    assert graph.crossing(graph.full_set) == ()


def test_operators_may_come_in_any_order():
    shuffled = OperatorGraph(list(reversed(diamond().nodes)))
    assert shuffled.nodes[0].name == "x"
    assert shuffled.index["a"] < shuffled.index["left"] < shuffled.index["join"]


def test_a_pickled_graph_is_the_same_without_its_program():
    graph = diamond(program="something heavy")
    copy = pickle.loads(pickle.dumps(graph))
    assert copy.nodes == graph.nodes
    assert copy.program is None


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        ([Operator("x", kind="input"), Operator("a", ("b",)), Operator("b", ("a",))], "cycle"),
        ([Operator("x", kind="input"), Operator("a", ("a",))], "cycle"),
        (
            [Operator("x", kind="input"), Operator("conv1", ("x",)), Operator("b", ("conv",))],
            "conv1",
        ),
        ([Operator("x", kind="input"), Operator("a", ("x",)), Operator("a", ("x",))], "unique"),
        ([Operator("x", kind="input")], "no operator"),
        ([Operator("a")], "no input"),
        ([Operator("x", kind="input"), Operator("a", ("x",), macs=-1)], "negative"),
        ([Operator("x", ("a",), kind="input"), Operator("a", ("x",))], "parents"),
    ],
)
def test_a_graph_that_is_none_is_one_clear_line(operators, message):
    with pytest.raises(MecError, match=message) as caught:
        OperatorGraph(operators)
    assert "\n" not in str(caught.value)


def test_an_unknown_operator_or_output_gets_the_nearest_name():
    with pytest.raises(MecError, match="did you mean 'left'"):
        diamond()["lefft"]
    with pytest.raises(MecError, match="did you mean 'join'"):
        diamond(outputs=["joim"])


def test_measured_latencies_must_be_one_per_operator():
    assert [o.latency_ms for o in diamond().with_latencies([1, 2, 3, 4]).operators] == [1, 2, 3, 4]
    with pytest.raises(MecError, match="3 latencies for 4"):
        diamond().with_latencies([1, 2, 3])
