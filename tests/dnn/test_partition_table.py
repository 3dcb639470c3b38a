import subprocess
import sys

import numpy as np
import pytest

from rllib_mec.dnn import LatencyProfile, Operator, OperatorGraph, partition_table
from rllib_mec.dnn.partition import METHODS
from rllib_mec.errors import MecError

# MMACs (Table IV's local energy over zeta), cuts between operators with the tensors that skip over
# them, and those that no other beats where a server takes L0 whatever the cut (Eq. 2).
PAPER_DNNS = {
    "resnet50": (4089.2, 83, 5),
    "googlenet": (1498.4, 491, 9),
    "mobilenet_v2": (300.8, 64, 7),
}


def chain(name="chain"):
    """Sends 100, 40, 60 or 0 elements for 0, 1, 3 or 4 MMACs on the device."""
    return OperatorGraph(
        [
            Operator("x", kind="input", elements=100, shapes=((1, 100),)),
            Operator("a", ("x",), macs=1_000_000, elements=40, shapes=((1, 40),)),
            Operator("b", ("a",), macs=2_000_000, elements=60, shapes=((1, 60),)),
            Operator("c", ("b",), macs=1_000_000, elements=10, shapes=((1, 10),)),
        ],
        name=name,
    )


def profile_of(graph, latency_ms):
    names = tuple(operator.name for operator in graph.operators)
    t = tuple(latency_ms)
    return LatencyProfile(graph.name, names, t, t, t, sum(t), 1, 0, ((1, 100),), {})


@pytest.mark.parametrize("dnn", PAPER_DNNS)
def test_the_papers_dnns_have_the_right_macs_and_counts(dnn):
    mmacs, heads, front = PAPER_DNNS[dnn]
    every = partition_table(dnn, "operator")
    assert round(float(every.local_mmacs[-1]), 1) == mmacs
    assert every.num_points == heads
    assert partition_table(dnn).num_points == front


@pytest.mark.parametrize("dnn", PAPER_DNNS)
@pytest.mark.parametrize("method", METHODS)
def test_a_table_goes_from_sending_the_input_to_full_local(dnn, method):
    table = partition_table(
        dnn, method, device_latency_ms=43.015, server_latency_ms=8.603, server_model="share"
    )
    assert table.operators[0] == ("input",)
    assert table.elements[0] == 3 * 224 * 224
    assert table.operators[-1] == ()
    assert table.bits[-1] == table.server_share[-1] == table.server_latency_ms[-1] == 0
    assert table.local_latency_ms[0] == 0
    assert table.local_latency_ms[-1] == 43.015, "full local must be exact"
    assert table.server_latency_ms[0] == 8.603
    assert table.server_share[0] == 1
    assert (np.diff(table.local_mmacs) >= 0).all()
    assert table.epsilon == 0


def test_the_numbers_of_a_chain_by_hand():
    table = partition_table(
        chain(), "operator", feature_bits=8, device_latency_ms=40, server_latency_ms=8
    )
    assert table.operators == (("x",), ("a",), ("b",), ())
    assert table.elements.tolist() == [100, 40, 60, 0]
    assert table.bits.tolist() == [800, 320, 480, 0]
    assert table.local_mmacs.tolist() == [0, 1, 3, 4]
    assert table.local_latency_ms.tolist() == [0, 10, 30, 40]
    assert table.server_latency_ms.tolist() == [8, 8, 8, 0], "Eq. 2: L_0 whatever the cut"
    assert table.server_share.tolist() == [1, 0.75, 0.25, 0]
    share = partition_table(chain(), "operator", server_latency_ms=8, server_model="share")
    assert share.server_latency_ms.tolist() == [8, 6, 2, 0]
    assert partition_table(chain()).operators == (("x",), ("a",), ())


def test_a_measured_profile_takes_the_place_of_macs():
    graph = chain()
    device, server = profile_of(graph, [5, 1, 4]), profile_of(graph, [2, 2, 1])
    table = partition_table(
        graph,
        "operator",
        device_latency_ms=device,
        server_latency_ms=server,
        server_model="share",
    )
    assert table.local_latency_ms.tolist() == [0, 5, 6, 10]
    assert table.server_latency_ms.tolist() == [5, 3, 1, 0]
    constant = partition_table(graph, "operator", server_latency_ms=server)
    assert constant.server_latency_ms.tolist() == [5, 5, 5, 0]


def test_bits_come_from_the_codec():
    int8 = partition_table(chain(), "operator", codec="int8")
    assert int8.bits.tolist() == [8 * 108, 8 * 48, 8 * 68, 0]
    int4 = partition_table(chain(), "operator", codec="int4")
    assert int4.bits.tolist() == [8 * 58, 8 * 28, 8 * 38, 0]


def test_token_ids_are_never_quantised():
    graph = OperatorGraph(
        [
            Operator("ids", kind="input", elements=16, raw_bits=64),
            Operator("embed", ("ids",), elements=64, macs=1),
        ]
    )
    for keywords in ({"codec": "int4"}, {"feature_bits": 8}):
        assert partition_table(graph, **keywords).bits.tolist() == [16 * 64, 0]


def test_arrays_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        partition_table(chain()).bits[0] = 1


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"dnn": "resnet5O"}, "did you mean 'resnet50'"),
        ({"method": "paretto"}, "did you mean 'pareto'"),
        ({"server_model": "constnat"}, "did you mean 'constant'"),
        ({"codec": "int7"}, "did you mean 'int"),
        ({"feature_bits": 0}, "feature_bits must be a positive number, got 0"),
        ({"feature_bits": float("nan")}, "feature_bits"),
        ({"device_latency_ms": -1.0}, "device_latency_ms must be a positive number of ms"),
        ({"server_latency_ms": "fast"}, "server_latency_ms"),
        ({"device_latency_ms": profile_of(chain("other"), [1, 2, 3])}, None),
    ],
)
def test_bad_input_is_one_clear_line(keywords, message):
    arguments = {"dnn": chain(), **keywords}
    if message is None:  # same operators: it fits whatever its name
        assert partition_table(**arguments).local_latency_ms[-1] == 6
        return
    with pytest.raises(MecError, match=message) as caught:
        partition_table(**arguments)
    assert "\n" not in str(caught.value)


def test_a_profile_of_another_dnn_is_refused():
    other = OperatorGraph(
        [Operator("x", kind="input"), Operator("z", ("x",), macs=1)], name="other"
    )
    with pytest.raises(MecError, match="'other' does not fit 'chain'"):
        partition_table(chain(), device_latency_ms=profile_of(other, [1]))


def test_a_point_out_of_range_is_an_error():
    table = partition_table(chain())
    assert table.point(2).is_full_local
    for index in (3, -1):
        with pytest.raises(MecError, match=f"point {index} is out of range.*0 to 2"):
            table.point(index)


def test_importing_the_package_imports_neither_torch_nor_torchvision():
    code = (
        "import sys, rllib_mec.dnn; "
        "sys.exit(bool({'torch', 'torchvision', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
