import pytest
import torch
from torch import nn

from rllib_mec.dnn import build_model, partition_table, split, trace
from rllib_mec.errors import MecError


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return build_model("resnet18")


def calibrated(module, x):
    """Give batch norms statistics of real data, so that a wrong one shows."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
    with torch.no_grad():
        module(x)
    return module.eval()


@pytest.mark.slow
@pytest.mark.no_cover  # other tests run the same lines, on smaller DNNs
@pytest.mark.parametrize(("dnn", "every"), [("resnet50", 1), ("googlenet", 4), ("mobilenet_v2", 1)])
def test_the_points_of_the_papers_dnns_are_bit_exact(dnn, every):
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    module = calibrated(build_model(dnn), torch.randn(4, 3, 64, 64))
    table = partition_table(trace(module, x), "operator")
    with torch.no_grad():
        expected = module(x)
        for point in table.points[::every]:
            head, tail = split(module, point)
            sent = head(x)
            assert torch.equal(tail(sent), expected), point
            if not point.is_full_local:
                assert tuple(sent) == point.operators
                assert sum(t.numel() for t in sent.values()) == point.elements


def test_a_point_of_a_table_without_weights_splits_a_real_module(resnet):
    x = torch.randn(1, 3, 224, 224)
    point = partition_table("resnet18", "vertical").point(3)
    head, tail = split(resnet, point)
    with torch.no_grad():
        assert torch.equal(tail(head(x)), resnet(x))
    assert [tuple(t.shape) for t in head(x).values()] == [s.shape for s in head.tensors.values()]


def test_parameters_are_shared_and_each_is_in_the_half_that_needs_it(resnet):
    table = partition_table(trace(resnet, torch.randn(1, 3, 64, 64)), "vertical")
    head, tail = split(resnet, table.point(3))
    own = dict(resnet.named_parameters())
    halves = [dict(half.named_parameters()) for half in (head, tail)]
    assert halves[0].keys() | halves[1].keys() == own.keys()
    assert not halves[0].keys() & halves[1].keys()
    for half in halves:
        for name, parameter in half.items():
            assert parameter is own[name]


def test_full_local_sends_nothing_and_the_input_runs_nothing(resnet):
    x = torch.randn(1, 3, 64, 64)
    table = partition_table(trace(resnet, x), "pareto")
    head, tail = split(resnet, table.point(0))
    assert list(head(x)) == ["input"] and head(x)["input"] is x
    assert not list(head.parameters())
    head, tail = split(resnet, table.point(len(table) - 1))
    assert not list(tail.parameters())
    with torch.no_grad():
        assert torch.equal(tail(head(x)), resnet(x))


def test_an_index_counts_in_the_modules_own_table(resnet):
    x = torch.randn(1, 3, 64, 64)
    head, tail = split(resnet, 2, x, method="vertical")
    with torch.no_grad():
        assert torch.equal(tail(head(x)), resnet(x))


def test_sizes_baked_into_the_program_fix_the_batch():
    module = build_model("shufflenet_v2_x0_5")
    point = partition_table(trace(module, torch.randn(1, 3, 64, 64)), "vertical").point(2)
    head, _ = split(module, point)
    with pytest.raises(MecError, match=r"'x' has shape \(2, 3, 64, 64\).*\(1, 3, 64, 64\)$"):
        head(torch.randn(2, 3, 64, 64))


def test_bad_input_is_one_clear_line(resnet):
    x = torch.randn(1, 3, 64, 64)
    table = partition_table(trace(resnet, x), "vertical")
    with pytest.raises(MecError, match="point 99 is out of range"):
        split(resnet, 99, x)
    with pytest.raises(MecError, match="needs example_input"):
        split(resnet, 1)
    with pytest.raises(MecError, match="expected a PartitionPoint"):
        split(resnet, "layer1")  # type: ignore[arg-type]
    with pytest.raises(MecError, match="'resnet50', whose operators are not those"):
        split(resnet, partition_table("resnet50").point(1))
    head, tail = split(resnet, table.point(2))
    with pytest.raises(MecError, match=r"\(1, 3, 32, 32\).*traced for \(1, 3, 64, 64\)"):
        head(torch.randn(1, 3, 32, 32))
    with pytest.raises(MecError, match="missing"):
        tail({"conv": x})
    training = build_model("resnet18").train()
    with pytest.raises(MecError, match=r"in training mode, .*: call \.eval"):
        split(training, table.point(1))
