"""Tables of what a device can hold: all points fit, and none of those that do is missed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import all_heads, chain_of, operator_graphs, sparse_graph

from rllib_mec.dnn import partition_table
from rllib_mec.dnn.memory import heads_memory_bytes
from rllib_mec.dnn.partition import METHODS
from rllib_mec.errors import MecError


@pytest.mark.parametrize("model", ["constant", "share"])
def test_the_front_is_that_of_all_cuts_that_fit(model):
    @given(operator_graphs(), st.integers(0, 200))
    @settings(max_examples=60, deadline=None)
    def check(graph, more):
        (least,) = heads_memory_bytes(graph, [graph.input_set])
        limit = least + 4 * more
        table = partition_table(graph, server_model=model, device_memory_mb=limit / 1e6)
        assert table.epsilon == 0 and (table.head_memory_bytes <= limit).all()
        heads = sorted(all_heads(graph))
        needed = heads_memory_bytes(graph, heads)
        fitting = {head for head, size in zip(heads, needed, strict=True) if size <= limit}
        every = partition_table(graph, "operator", server_model=model)
        costs = [every.bits, every.local_mmacs]
        costs += [-every.local_mmacs] if model == "share" else []
        mine = [table.bits, table.local_mmacs]
        mine += [-table.local_mmacs] if model == "share" else []
        for at, point in enumerate(every.points):
            if point.head in fitting:
                better = [m <= c[at] for m, c in zip(mine, costs, strict=True)]
                assert np.all(better, axis=0).any()
        assert {point.head for point in table.points} <= fitting
        assert table.points[0].is_input
        assert table.points[-1].is_full_local == (graph.full_set in fitting)

    check()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_its_points_that_fit(method):
    graph = chain_of(60)
    free = partition_table(graph, method)
    limit = int(np.median(free.head_memory_bytes))
    table = partition_table(graph, method, device_memory_mb=limit / 1e6)
    assert (table.head_memory_bytes <= limit).all() and len(table) < len(free)
    if method != "pareto":
        kept = [p for p, size in zip(free.points, free.head_memory_bytes, strict=True)
                if size <= limit]  # fmt: skip
        assert list(table.points) == kept
    with pytest.raises(MecError, match="no full local point: the device cannot hold the whole"):
        _ = table.full_local
    roomy = partition_table(graph, method, device_memory_mb=1e3)
    assert roomy.points == free.points and roomy.full_local == len(free) - 1


@pytest.mark.parametrize(
    ("graph", "given", "message"),
    [
        (chain_of(3), 0.03, r"device_memory_mb must be at least 0.04 to hold the input of 'chain'"),
        (chain_of(3), 0, "device_memory_mb must be a positive number, got 0"),
        (chain_of(3), float("nan"), "device_memory_mb must be a positive number, got nan"),
        (sparse_graph(60), 1.0, "'sparse' has too many cuts .* use method 'vertical' or 'layer'"),
    ],
)
def test_bad_input_is_one_clear_line(graph, given, message):
    with pytest.raises(MecError, match=message):
        partition_table(graph, device_memory_mb=given)


def test_what_a_point_needs_is_enough_for_it():
    graph = chain_of(60)
    for size in partition_table(graph, "operator").head_memory_bytes.tolist():
        fitting = partition_table(graph, "operator", device_memory_mb=size / 1e6)
        assert fitting.head_memory_bytes.max() == size
