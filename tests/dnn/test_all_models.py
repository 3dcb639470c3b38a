"""Every classification model in torchvision is traced and split, none is left out."""

import pytest
import torch

from rllib_mec.dnn import build_model, codec, model_names, partition_table, split, trace

pytestmark = pytest.mark.no_cover  # other tests run the same lines, on smaller DNNs

# One of each family runs with weights; what the family needs for its least input.
SMALL = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "inception_v3": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11_bn": 32,
    "vit_b_32": 224,
    "wide_resnet50_2": 32,
}


@pytest.mark.parametrize("name", model_names())
def test_every_model_is_traced_and_split(name):
    # As model_graph has it, but with the module kept, so that split need not trace another one.
    module, x = build_model(name, device="meta"), torch.empty(1, 3, 224, 224, device="meta")
    table = partition_table(trace(module, x, name=name), codec="int8")
    assert table.epsilon == 0
    with torch.no_grad(), torch.device("meta"):
        middle = len(table) // 2
        head, tail = split(module, table.point(middle))
        sent = head(x)
        assert tail(sent).shape == (1, 1000)
        assert sum(t.numel() for t in sent.values()) == table.elements[middle]
        coded = sum(codec("int8").num_bytes(t.numel()) for t in sent.values())
        assert table.bits[middle] == 8 * coded


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_one_of_each_family_is_bit_exact_at_a_sample_of_points(name):
    torch.manual_seed(0)
    x = torch.randn(1, 3, SMALL[name], SMALL[name])
    module = build_model(name)
    graph = trace(module, x, name=name)
    points = {p.head: p for m in ("pareto", "vertical") for p in partition_table(graph, m).points}
    sample = list(points.values())[:: max(1, len(points) // 3)]
    with torch.no_grad():
        expected = module(x)
        for point in sample:
            head, tail = split(module, point)
            assert torch.equal(tail(head(x)), expected), point
