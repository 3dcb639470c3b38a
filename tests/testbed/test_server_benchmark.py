"""``benchmarks/testbed_server.py``: its tables, and that calls and requests take turns."""

import pathlib
import sys

import pytest
from fake_server import fake_server

from rllib_mec.testbed.frames import INFER, Frame, encode
from rllib_mec.testbed.split_model import task_input
from rllib_mec.testbed.tensors import to_blobs

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "testbed_server", raising=False)
    import testbed_server

    return testbed_server


def test_throughput_stands_by_replicas_and_the_overhead_by_request(benchmark):
    rows = [
        {
            "front": front,
            "replicas": replicas,
            "point": point,
            "tail": tail,
            "codec": codec,
            "frame_kb": 602.2,
            "bare_tail_ms": 20.0,
            "one_client_ms": 21.5,
            "overhead_ms": 1.4,
            "turns": 100,
            "throughput_per_s": 40.0 * replicas,
            "loaded_p50_ms": 390.4,
            "loaded_p95_ms": 551.0,
            "refused_share": 0.02 if replicas == 1 else 0.0,
        }
        for front, replicas in (("HAProxy", 1), ("HAProxy", 2), ("Serve's", 1))
        for point, codec, tail in benchmark.CASES
    ]
    text = benchmark.report(rows, 10.0, "a machine", 0.1)
    assert text.startswith("# The MEC server under load\n")
    assert "HAProxy, 1 replica | HAProxy, 2 replicas | Serve's, 1 replica |" in text
    whole = "| the whole DNN | float32 | 602 | 40 (390 / 551) | 80 (390 / 551) | 40 (390 / 551) |"
    assert whole in text
    assert "| HAProxy | 2 | its last layer | float32 | 20.00 | 21.50 | 1.40 |" in text
    assert "2.0% of the requests" in text and "an indication only" not in text
    assert "an indication only" in benchmark.report(rows, 10.0, "a machine", 3.0)


def test_calls_and_requests_take_turns(benchmark, tiny):
    called = []
    with fake_server(tiny) as server:
        blobs = to_blobs(tiny.head(1, task_input(tiny.input_shape, 0, 0)), "float32")
        frame = encode(Frame(INFER, bytes(16), tiny.fingerprint, 1, "float32", blobs))

        def bare():
            called.append(server.answered)

        here, there = benchmark.take_turns(server.address, frame, bare, 0.05)
    assert called == list(range(len(there)))  # before each request, and never twice
    assert len(here) == len(there) >= 1
