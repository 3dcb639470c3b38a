"""Random operator graphs, and slow but obvious answers to compare with."""

from __future__ import annotations

import itertools
import random

import networkx as nx
from hypothesis import strategies as st

from rllib_mec.dnn import Operator, OperatorGraph


@st.composite
def operator_graphs(draw, max_operators: int = 8, max_inputs: int = 2, one_output: bool = False):
    """Any DAG of a few operators, each fed by at least one earlier node."""
    inputs = draw(st.integers(1, max_inputs))
    count = draw(st.integers(1, max_operators))
    nodes = [
        Operator(f"x{i}", kind="input", elements=draw(st.integers(1, 20))) for i in range(inputs)
    ]
    for i in range(count):
        names = [node.name for node in nodes]
        parents = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
        nodes.append(
            Operator(
                f"op{i}",
                tuple(parents),
                macs=draw(st.integers(0, 6)),
                elements=draw(st.integers(0, 12)),
            )
        )
    if one_output:
        loose = {n.name for n in nodes} - {p for n in nodes for p in n.parents}
        nodes.append(Operator("end", tuple(sorted(loose)), macs=1, elements=2))
    return OperatorGraph(nodes)


def chain_of(count: int, seed: int = 0) -> OperatorGraph:
    """Operators one after another, two to a layer, none with the MACs of nothing."""
    draw = random.Random(seed)
    nodes = [Operator("x", kind="input", elements=10_000)]
    for i in range(count):
        nodes.append(
            Operator(
                f"a{i}",
                (nodes[-1].name,),
                macs=draw.randint(1, 10**6),
                elements=draw.randint(1, 10**4),
                weights=((f"w{i}", draw.randint(1, 100)),),
                layer=f"layer{i // 2}",
            )
        )
    return OperatorGraph(nodes, name="chain")


def ladder_of(count: int, rungs: str, seed: int = 0) -> OperatorGraph:
    """Two rails of operators; with rungs from one to the other at each step, or both ways."""
    draw = random.Random(seed)
    nodes = [Operator("x", kind="input", elements=10_000)]
    left = right = "x"
    for i in range(count // 2):
        sizes = [
            {"macs": draw.randint(1, 10**6), "elements": draw.randint(1, 10**4)} for _ in range(2)
        ]
        above = (left, right) if rungs == "both" and i else (left,)
        nodes.append(Operator(f"a{i}", above, **sizes[0]))
        beside = () if rungs == "none" else (f"a{i}",)
        nodes.append(Operator(f"b{i}", (right, *beside), **sizes[1]))
        left, right = f"a{i}", f"b{i}"
    nodes.append(Operator("end", (left, right), macs=1, elements=3))
    return OperatorGraph(nodes, name="ladder")


def sparse_graph(count: int, seed: int = 0) -> OperatorGraph:
    """Operators that read one to three of all that came before: next to no structure."""
    draw = random.Random(seed)
    nodes = [Operator("x", kind="input", elements=1000)]
    for i in range(count):
        parents = dict.fromkeys(draw.choice(nodes).name for _ in range(draw.randint(1, 3)))
        macs, elements = draw.randint(1, 10**6), draw.randint(1, 10**4)
        nodes.append(Operator(f"o{i}", tuple(parents), macs=macs, elements=elements))
    return OperatorGraph(nodes, name="sparse")


def all_heads(graph: OperatorGraph) -> set[int]:
    """Every subset of the nodes that holds the inputs and each member's parents."""
    free = [i for i in range(len(graph.nodes)) if not graph.input_set >> i & 1]
    heads = set()
    for size in range(len(free) + 1):
        for chosen in itertools.combinations(free, size):
            head = graph.input_set | sum(1 << i for i in chosen)
            if all(head >> p & 1 for i in chosen for p in graph.parent_ids[i]):
                heads.add(head)
    return heads


def as_networkx(graph: OperatorGraph) -> nx.DiGraph:
    made = nx.DiGraph()
    made.add_nodes_from(node.name for node in graph.nodes)
    made.add_edges_from((p, node.name) for node in graph.nodes for p in node.parents)
    return made


def sent_elements(graph: OperatorGraph, head: int) -> int:
    """Elements sent, from the definition: producers inside with a reader or the result outside."""
    inside = {node.name for i, node in enumerate(graph.nodes) if head >> i & 1}
    if len(inside) == len(graph.nodes):
        return 0
    sent = {p for node in graph.nodes if node.name not in inside for p in node.parents} & inside
    sent |= set(graph.outputs) & inside
    return sum(graph[name].elements for name in sent)


def min_cut(graph: OperatorGraph, bit_cost: float, device_cost: float, server_cost: float) -> float:
    """The least cost of any cut but full local, by one networkx minimum cut.

    The cost is ``bit_cost`` for each element sent, ``device_cost`` for each MAC on the device and
    ``server_cost`` for each on the server.
    """
    flow = nx.DiGraph()
    for i, node in enumerate(graph.nodes):
        on_device = {"capacity": node.macs * server_cost} if not graph.input_set >> i & 1 else {}
        flow.add_edge("device", node.name, **on_device)
        flow.add_edge(node.name, "server", capacity=node.macs * device_cost)
        tensor = ("tensor", node.name)
        flow.add_edge(node.name, tensor, capacity=node.elements * bit_cost)
        for reader in node.children:
            flow.add_edge(tensor, reader)  # if a reader is on the server, so is the tensor
            flow.add_edge(reader, node.name)  # if a reader is on the device, so is what it reads
        if node.name in graph.outputs:
            flow.add_edge(tensor, "server")
    return nx.minimum_cut_value(flow, "device", "server")
