"""Tracing changes nothing in the user's module, and refuses what halves cannot remember."""

import copy

import pytest
import torch
from torch import nn

from rllib_mec.dnn import partition_table, split, trace
from rllib_mec.errors import MecError

X = torch.ones(1, 4)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.register_buffer("n", torch.zeros(1))
        self.register_buffer("k", torch.zeros(0, 4))
        self.calls, self.last, self.seen, self.store = 0, None, [], {}
        self.memory = torch.zeros(1, 4)


class CountsInABuffer(Net):
    def forward(self, x):
        self.n += 1
        return self.a(x) * self.n


class CountsInAView(Net):
    def forward(self, x):
        self.n[0].add_(1)
        return self.a(x) * self.n


class Appends(Net):
    def forward(self, x):
        self.k = torch.cat([self.k, self.a(x)])
        return self.k.sum(0)


class CountsCalls(Net):
    def forward(self, x):
        self.calls += 1
        return self.a(x) * self.calls


class KeepsTheLast(Net):
    def forward(self, x):
        self.last = self.a(x)
        return self.last + 1


class KeepsAList(Net):
    def forward(self, x):
        self.seen.append(self.a(x))
        return sum(self.seen)


class WritesToMemory(Net):
    def forward(self, x):
        self.memory.copy_(self.a(x))
        return self.memory + x


class WritesAParameter(Net):
    def forward(self, x):
        with torch.no_grad():
            self.a.weight.mul_(0.5)
        return self.a(x)


class WritesData(Net):
    def forward(self, x):
        self.a.weight.data.mul_(0.5)
        return self.a(x)


class OnlyExported(Net):
    """Its loop over a size keeps torch.fx out."""

    def forward(self, x):
        for _ in range(x.shape[0]):
            x = self.a(x)
        self.n.add_(x.sum())
        return x + self.n


class ExportedAppends(OnlyExported):
    def forward(self, x):
        for _ in range(x.shape[0]):
            x = self.a(x)
        self.last = x
        return x + 1


class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.deep = nn.Sequential(nn.Linear(4, 4), CountsCalls())

    def forward(self, x):
        return self.deep(x)


class WritesToItsInput(Net):
    def forward(self, x):
        x.mul_(2)
        return self.a(x)


def everything(module):
    return {
        f"{path}.{name}": copy.deepcopy(value)
        for path, m in module.named_modules()
        for name, value in {**vars(m), **m._parameters, **m._buffers}.items()
        if not name.startswith("_")
    }


def unchanged(before, module):
    after = everything(module)
    assert before.keys() == after.keys()
    for name, value in before.items():
        same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
        assert type(value) is type(after[name]) and same(value, after[name]), name


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (CountsInABuffer, "writes to 'n' of the module"),
        (CountsInAView, "writes to 'n' of the module"),
        (Appends, "writes to 'k' of the module"),
        (CountsCalls, "writes to 'calls'"),
        (KeepsTheLast, "writes to 'last'"),
        (KeepsAList, r"writes to 'len\(seen\)'"),
        (WritesToMemory, "writes to 'memory'"),
        (WritesAParameter, "writes to 'a.weight'"),
        (WritesData, "writes to 'a.weight'"),
        (OnlyExported, "writes to 'n' of the module"),
        (ExportedAppends, "writes to 'last'"),
        (Inside, "writes to 'deep.1.calls'"),
        (WritesToItsInput, "writes to its input 'x'"),
    ],
)
def test_what_a_forward_leaves_behind_is_refused_and_not_left_behind(kind, what):
    module = kind().eval()
    before, x = everything(module), X.clone()
    with pytest.raises(MecError, match=what) as caught:
        trace(module, x)
    assert "\n" not in str(caught.value)
    unchanged(before, module)
    assert torch.equal(x, X)


class FillsACache(Net):
    """What it keeps depends on its weights and on sizes alone, as LeViT's attention biases do."""

    def forward(self, x):
        if "bias" not in self.store:
            self.store["bias"] = self.a.weight.sum(0)
            self.last = torch.arange(4.0)
        return self.a(x) + self.store["bias"] + self.last


def test_a_cache_of_what_does_not_depend_on_the_input_is_no_state():
    module = FillsACache().eval()
    before = everything(module)
    graph = trace(module, X)
    unchanged(before, module)
    for point in partition_table(graph, "operator").points:
        head, tail = split(module, point)
        assert torch.equal(tail(head(X)), FillsACache.forward(copy.deepcopy(module), X))


def test_what_cannot_be_copied_is_shared():
    import threading

    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    module.lock = threading.Lock()
    module.parts = [module[0].weight * 2]  # no leaf: torch refuses to copy it
    head, tail = split(module, 1, X)
    assert torch.equal(tail(head(X)), module(X))
