import pytest
import torch

from rllib_mec.dnn import build_model, measure_latency, trace
from rllib_mec.errors import MecError
from rllib_mec.network.scenario import Scenario


def test_a_scenario_takes_measured_latencies_in_place_of_mac_shares(tmp_path):
    graph = trace(build_model("mobilenet_v2"), torch.rand(1, 3, 224, 224))
    measured = measure_latency(graph, runs=1, warmup=0)
    path = tmp_path / "device.json"
    measured.save(path)
    by_macs = Scenario(dnn="mobilenet_v2").table
    table = Scenario(dnn="mobilenet_v2", device_profile=str(path)).table
    assert table.local_latency_ms[-1] == pytest.approx(measured.total_ms)
    assert table.server_latency_ms[0] == by_macs.server_latency_ms[0]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("profile.json", r"must be an absolute path.*did you mean '/"),
        ("/nowhere/profile.json", "no such file '/nowhere/profile.json'"),
        (3, "must be a text, but is 3"),
    ],
)
def test_a_bad_profile_path_is_named(path, message):
    with pytest.raises(MecError, match=message):
        Scenario(device_profile=path)
