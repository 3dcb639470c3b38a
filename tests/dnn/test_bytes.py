"""A table's bytes are those that the codec sends, at every point of every model."""

import pytest
import torch
from test_tracing import TRACEABLE, Net, example
from torch import nn

from rllib_mec.dnn import CODECS, Operator, OperatorGraph, partition_table, split, trace
from rllib_mec.errors import MecError


class TopK(Net):
    def forward(self, x):
        values, at = self.a(x).topk(3)
        return self.b(torch.relu(x)).gather(1, at) + values


class Sorts(Net):
    def forward(self, x):
        values, at = torch.sort(self.a(x))
        return self.b(values), at


class OnlyWhere(Net):
    """Of what topk gives only the integers are read."""

    def forward(self, x):
        return self.b(x).gather(1, self.a(x).topk(2).indices)


class Unpools(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 1)

    def forward(self, x):
        x, at = nn.functional.max_pool2d(self.conv(x), 2, return_indices=True)
        return self.last(nn.functional.max_unpool2d(torch.relu(x) * 2, at, 2))


class Masks(Net):
    def forward(self, x):
        y = self.a(x)
        return torch.where(y > 0, self.b(y), y)


class Spectrum(Net):
    def forward(self, x):
        return self.b(torch.fft.ifft(torch.fft.fft(self.a(x)) * 2).real)


MODELS = {
    **TRACEABLE,
    **{key: [(2, 4)] for key in (TopK, Sorts, OnlyWhere, Masks, Spectrum)},
    Unpools: [(1, 1, 6, 6)],
}


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_a_point_costs_the_bytes_that_its_tensors_are_coded_in(kind):
    assert_bytes(kind().eval(), example(MODELS[kind]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", [TopK, Masks])
def test_floats_of_any_width_cost_what_the_codec_makes_of_them(kind, dtype):
    assert_bytes(kind().eval().to(dtype), (torch.randn(2, 4).to(dtype),))


def assert_bytes(module, inputs):
    graph = trace(module, inputs)
    points = partition_table(graph, "operator").points
    with torch.no_grad():
        sent = [split(module, p)[0](*inputs).values() for p in points if not p.is_full_local]
    for name, codec in CODECS.items():
        table = partition_table(graph, "operator", codec=name)
        assert table.points == points
        coded = [sum(len(codec.encode(t)) for t in tensors) for tensors in sent]
        assert table.bits.tolist() == [8 * n for n in coded] + [0], name


def test_the_bytes_of_topk_by_hand():
    module = nn.Sequential(nn.Linear(4, 40), Chosen(), nn.Linear(32, 1)).eval()
    graph = trace(module, torch.randn(1, 4))
    chosen = graph["1.topk"]
    assert chosen.raw_bits == (None, 64) and chosen.bits(8) == 32 * 8 + 32 * 64
    table = partition_table(graph, "operator", codec="float32")
    assert table.bits[2] == 8 * (32 * 4 + 32 * 8)


class Chosen(nn.Module):
    def forward(self, x):
        values, at = x.topk(32)
        return values + at


def test_a_float_takes_what_the_dnn_computes_with_while_the_head_runs():
    module = nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 5)).eval()
    for dtype, size in ((torch.float64, 8), (torch.float32, 4), (torch.bfloat16, 2)):
        graph = trace(module.to(dtype), torch.randn(1, 10).to(dtype))
        memory = partition_table(graph, "operator", codec="int4").head_memory_bytes
        assert memory.tolist() == [size * n for n in (10, 220 + 30, 220 + 105 + 30)]


@pytest.mark.parametrize(
    "odd",
    [
        {"elements": 7, "shapes": ((2, 3),)},
        {"elements": 6, "shapes": ((2, 3),), "raw_bits": (None, 64)},
    ],
)
def test_elements_and_types_that_are_not_those_of_the_shapes_are_refused(odd):
    with pytest.raises(MecError, match=r"'a' has \d elements and raw_bits .* not those of the sh"):
        OperatorGraph([Operator("x", kind="input"), Operator("a", ("x",), **odd)])
