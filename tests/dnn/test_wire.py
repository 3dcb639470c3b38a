"""Every cut holds when its tensors have gone over a link or its halves through a file."""

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from rllib_mec.dnn import codec, load_half, partition_table, save_half, split, trace
from rllib_mec.errors import MecError

WIRE = codec("float32")


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)


class Heads(Two):
    """Attention by hand: its last view relies on the strides that the transpose gives."""

    def forward(self, x):
        q = self.a(x).view(*x.shape[:2], 2, 4).transpose(1, 2)
        scores = (q @ q.transpose(-1, -2)).softmax(-1)
        mixed = (scores @ q).permute(2, 0, 1, 3)
        return self.b(mixed.reshape(x.shape[1], x.shape[0], 8)).transpose(0, 1)


class ViewsATransposed(Two):
    def forward(self, x):
        x = self.a(x).permute(1, 0, 2)
        y = torch.exp(x)
        return self.b(y.permute(1, 0, 2).view(-1, 8)) + x.permute(1, 0, 2).view(-1, 8)


class WritesThroughAView(Two):
    """What relu_ does to the view must be seen in x, on whichever side each of them is."""

    def forward(self, x):
        x = self.a(x)
        view = x.transpose(0, 1)
        written = view.relu_()
        return self.b(written.transpose(0, 1) + x), x


class AddsInPlace(Two):
    def forward(self, x):
        y, z = self.a(x), self.b(x)
        y += z
        return self.b(y)


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = self.a(x)
        y = self.b(x) + x
        return y.permute(0, 2, 3, 1).view(-1, 8)


def layouts(tensor):
    """The same elements: as decoded, with their dimensions reversed in memory, and with gaps."""
    reverse = tuple(range(tensor.dim()))[::-1]
    yield WIRE.decode(WIRE.encode(tensor), tuple(tensor.shape), tensor.dtype)
    yield tensor.permute(reverse).contiguous().permute(reverse)
    yield torch.stack([tensor, tensor], -1)[..., 0]


X = torch.randn(2, 9, 8)
MODULES = {
    "encoder layer": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), X),
    "sequence first": (nn.TransformerEncoderLayer(8, 2, 16), X),
    "heads": (Heads(), X),
    "views": (ViewsATransposed(), X),
    "writes through a view": (WritesThroughAView(), X),
    "adds in place": (AddsInPlace(), X),
    "lstm": (nn.LSTM(8, 4, 2, batch_first=True, bidirectional=True), X),
    "channels last": (
        ChannelsLast().to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        torch.randn(2, 4, 6, 5).to(memory_format=torch.channels_last),
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_tail_takes_its_tensors_in_any_strides_and_leaves_them_as_they_are(name):
    module, x = MODULES[name]
    table = partition_table(trace(module.eval(), x), "operator")
    # With gradients, as without them PyTorch fuses a whole encoder layer into one kernel.
    expected = pytree.tree_leaves(module(x))
    for point in table.points:
        head, tail = split(module, point)
        sent = head(x)
        for laid in zip(*map(layouts, sent.values()), strict=True):
            received = dict(zip(sent, laid, strict=True))
            for _ in range(2):  # again, as after a lost reply
                got = pytree.tree_leaves(tail(received))
                assert all(map(torch.equal, got, expected)), point


@pytest.mark.parametrize("name", ["heads", "views", "adds in place"])
def test_a_half_in_a_file_takes_any_strides_at_every_point(name, tmp_path):
    module, x = MODULES[name]
    table = partition_table(trace(module.eval(), x), "operator")
    with torch.no_grad():
        expected = module(x)
        for point in table.points:
            halves = []
            for half in split(module, point):
                save_half(half, tmp_path / "half.pt2")
                halves.append(load_half(tmp_path / "half.pt2"))
            for given in layouts(x):
                sent = halves[0](given)
                for laid in zip(*map(layouts, sent.values()), strict=True):
                    assert torch.equal(halves[1](dict(zip(sent, laid, strict=True))), expected)


def test_memory_beyond_a_tensor_is_refused_as_it_is_not_sent():
    class ReadsBeside(Two):
        def forward(self, x):
            return self.b(self.a(x)[:, ::3].as_strided((2, 8), (1, 1)))

    with pytest.raises(MecError, match="'as_strided' reads memory beyond its tensor"):
        trace(ReadsBeside().eval(), X)


class Repeats(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        return self.b(self.a(x)[:1].expand(5, 16))


def test_what_an_expand_repeats_is_laid_out_row_by_row():
    torch.manual_seed(0)
    module, x = Repeats().eval(), torch.randn(2, 16)
    table = partition_table(trace(module, x), "operator")
    assert ("expand",) in table.operators
    for index in range(len(table)):
        head, tail = split(module, table.point(index))
        assert all(spec.order == () for spec in head.tensors.values())
        assert torch.equal(tail(head(x)), module(x))
