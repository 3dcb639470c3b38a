import json

import pytest
import torch
from torch import nn

from rllib_mec.dnn import (
    LatencyProfile,
    Operator,
    OperatorGraph,
    measure_latency,
    model_graph,
    trace,
)
from rllib_mec.errors import MecError


@pytest.fixture(scope="module")
def measured():
    module = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 8)).eval()
    graph = trace(module, torch.randn(4, 64), name="mlp")
    return graph, measure_latency(graph, runs=9, warmup=2)


def test_each_operator_gets_a_median_within_its_interval(measured):
    graph, made = measured
    assert made.operators == tuple(operator.name for operator in graph.operators)
    for low, median, high in zip(made.low_ms, made.latency_ms, made.high_ms, strict=True):
        assert 0 < low <= median <= high
    assert made.total_ms == pytest.approx(sum(made.latency_ms))
    assert made.whole_ms > 0
    assert (made.runs, made.warmup, made.input_shapes) == (9, 2, ((4, 64),))
    assert made.machine["torch"] == torch.__version__


def test_a_profile_survives_json(measured, tmp_path):
    _, made = measured
    made.save(tmp_path / "p.json")
    assert LatencyProfile.load(tmp_path / "p.json") == made


def test_scaling_a_profile_scales_every_time(measured):
    graph, made = measured
    assert made.scaled(5).total_ms == pytest.approx(5 * made.total_ms)
    assert made.scaled(2).for_graph(graph) == [2 * t for t in made.latency_ms]


def test_bad_input_is_one_clear_line(measured, tmp_path):
    graph, made = measured
    with pytest.raises(MecError, match="traced without weights"):
        measure_latency(model_graph("resnet18"))
    by_hand = OperatorGraph([Operator("x", kind="input"), Operator("a", ("x",))])
    with pytest.raises(MecError, match="made by hand"):
        measure_latency(by_hand)
    with pytest.raises(MecError, match="runs >= 1"):
        measure_latency(graph, runs=0)
    with pytest.raises(MecError, match="does not fit 'dnn'"):
        made.for_graph(by_hand)
    with pytest.raises(MecError, match="factor"):
        made.scaled(0)
    with pytest.raises(MecError, match="cannot read"):
        LatencyProfile.load(tmp_path / "none.json")
    made.save(tmp_path / "p.json")
    good = json.loads((tmp_path / "p.json").read_text())
    broken = ["nonsense", "[]", "{}", json.dumps({**good, "latency_ms": [1]})]
    broken += [json.dumps({**good, "latency_ms": [-1.0] * len(good["operators"])})]
    broken += [json.dumps({**good, "extra": 1})]
    for text in broken:
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(MecError, match="is not a profile") as caught:
            LatencyProfile.load(tmp_path / "p.json")
        assert "\n" not in str(caught.value)
