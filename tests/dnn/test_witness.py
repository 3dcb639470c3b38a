"""What torch.fx does not see, and would get wrong: decisions, aliases, numbers drawn anew."""

import random

import numpy
import pytest
import torch
from torch import nn

from rllib_mec.dnn import partition_table, split, trace
from rllib_mec.errors import MecError

X = torch.linspace(-1, 1, 8).reshape(2, 4)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("n", torch.zeros(4))


class AsksForTheClass(Net):
    def forward(self, x):
        return self.a(x) if isinstance(x, torch.Tensor) else self.b(x)


class AsksTorch(Net):
    def forward(self, x):
        return self.a(x) if torch.is_tensor(x) else self.b(x)


class AsksForAnAttribute(Net):
    def forward(self, x):
        return self.b(x) if hasattr(x, "logits") else self.a(x)


class AsksForASize(Net):
    def forward(self, x):
        return self.a(x) if isinstance(x.shape[0], int) else self.b(x)


class AsksABufferAndTheClass(Net):
    def forward(self, x):
        if bool(self.n.sum() == 0) and isinstance(x, torch.Tensor):
            return self.a(x)
        return self.b(x)


class KeepsAnAlias(Net):
    def forward(self, x):
        y = self.a(x)
        z = y
        y += 1
        return self.b(y) * z


class GivesAllStates(Net):
    def forward(self, x):
        y = self.a(x)
        states = [y, y[:, :2]]
        y *= 2
        return [*states, self.b(y)]


class AssignsData(Net):
    def forward(self, x):
        y = self.a(x)
        y.data = y.data * 2
        return self.b(y)


class FillsATable(Net):
    def forward(self, x):
        table = torch.zeros(2, 4)
        table[:, :2] = self.a(x)[:, :2]
        return self.b(table)


class Augments(Net):
    def forward(self, x):
        x = self.a(x)
        x += 1
        x -= self.b(x)
        x /= 2
        return self.b(x)


@pytest.mark.parametrize(
    "kind",
    [
        AsksForTheClass,
        AsksTorch,
        AsksForAnAttribute,
        AsksForASize,
        KeepsAnAlias,
        GivesAllStates,
        FillsATable,
        Augments,
    ],
)
def test_halves_do_what_the_module_does_and_not_what_a_stand_in_is_taken_for(kind):
    torch.manual_seed(0)
    module = kind().eval()
    table = partition_table(trace(module, X), "operator")
    for index in range(len(table)):
        head, tail = split(module, table.point(index))
        for x in (X, X.flip(0) * 3):
            result, expected = tail(head(x.clone())), module(x.clone())
            several = isinstance(expected, list)
            for given, wanted in zip(
                result if several else [result], expected if several else [expected], strict=True
            ):
                assert torch.equal(given, wanted)


def test_augmented_assignments_keep_the_names_and_any_batch():
    graph = trace(Augments().eval(), X)
    assert not graph.program.shape_bound
    assert [operator.name for operator in graph.operators] == ["a", "b", "sub", "b_2"]


class DrawsNoise(Net):
    def forward(self, x):
        noise = torch.rand(2, 4)
        return self.a(x) + noise, self.b(x) * noise


class DrawsAWay(Net):
    def forward(self, x):
        return self.a(x) * random.random()


CALLS = [0]


class Counts(Net):
    def forward(self, x):
        CALLS[0] += 1
        return self.a(x) * CALLS[0]


def test_noise_is_drawn_in_each_call_and_is_the_same_on_both_sides():
    module = DrawsNoise().eval()
    table = partition_table(trace(module, X), "operator")
    for index in range(len(table)):
        head, tail = split(module, table.point(index))
        draws = []
        for _ in range(2):
            first, second = tail(head(X))
            noise = first - module.a(X)
            assert torch.allclose(second, module.b(X) * noise, atol=1e-6)
            draws.append(noise)
        assert not torch.allclose(*draws)


@pytest.mark.parametrize("kind", [DrawsAWay, Counts])
def test_what_differs_from_call_to_call_is_refused(kind):
    with pytest.raises(MecError, match="something else in each call"):
        trace(kind().eval(), X)


class WritesItsInput(Net):
    def forward(self, x):
        x += 1
        return self.a(x)


class WritesItsBuffer(Net):
    def forward(self, x):
        y = self.n
        y += x[0]
        return self.a(y)


class ReplacesData(Net):
    def forward(self, x):
        self.n.data = self.n.data + 1
        return self.a(x) * self.n


@pytest.mark.parametrize("kind", [WritesItsInput, WritesItsBuffer, ReplacesData])
def test_what_is_written_by_other_ways_is_refused_and_undone(kind):
    module, x = kind().eval(), X.clone()
    with pytest.raises(MecError, match="the forward writes to"):
        trace(module, x)
    assert torch.equal(module.n, torch.zeros(4))
    assert torch.equal(x, X)


class TellsItsBatch(Net):
    def forward(self, x):
        return self.a(x), x.shape[0], x.size()


def test_a_size_in_the_result_fixes_the_batch():
    module = TellsItsBatch().eval()
    head, tail = split(module, partition_table(trace(module, X)).point(1))
    assert tail(head(X))[1:] == (2, torch.Size([2, 4]))
    with pytest.raises(MecError, match="traced for"):
        head(X[:1])


class UnrollsACell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.LSTMCell(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        state = None
        for _ in range(3):
            state = self.cell(x, state)
        return self.out(state[0]), state


def test_a_cell_hands_its_state_on_as_it_is():
    module = UnrollsACell().eval()
    table = partition_table(trace(module, X), "operator")
    assert [len(operators) for operators in table.operators] == [1, 2, 2, 1, 0]
    for index in range(len(table)):
        head, tail = split(module, table.point(index))
        result, (hidden, cell) = tail(head(X))
        expected, state = module(X)
        assert torch.equal(result, expected)
        assert torch.equal(hidden, state[0])
        assert torch.equal(cell, state[1])


class MakesSparse(Net):
    def forward(self, x):
        return self.a(x).to_sparse()


@pytest.mark.parametrize(
    ("module", "x"), [(MakesSparse(), X), (MakesSparse(), X.to_sparse())], ids=["result", "input"]
)
def test_sparse_tensors_are_refused_in_one_line(module, x):
    with pytest.raises(MecError, match="sparse"):
        trace(module.eval(), x)


class Branches(Net):
    def forward(self, x):
        return torch.cond(self.a(x).sum() > 0, lambda y: y * 2, lambda y: y - 1, (self.b(x),))


def test_a_branch_of_torch_cond_stays_one():
    module = Branches().eval()
    table = partition_table(trace(module, X), "operator")
    for index in range(len(table)):
        head, tail = split(module, table.point(index))
        for x in (X, -5 * X, 5 * X):
            assert torch.equal(tail(head(x)), module(x))


def test_a_decision_by_a_buffer_and_by_the_class_is_not_mistaken():
    module = AsksABufferAndTheClass().eval()
    with pytest.raises(MecError, match="control flow depends on the data"):
        trace(module, X)


class DrawsItsOwn(Net):
    def forward(self, x):
        return self.a(x) + torch.rand(4, generator=torch.Generator().manual_seed(0))


def test_a_generator_of_its_own_is_refused():
    with pytest.raises(MecError, match=r"draws from a torch\.Generator"):
        trace(DrawsItsOwn().eval(), X)


class AsksForTheVeryClass(Net):
    def forward(self, x):
        return self.a(x) if type(x) is torch.Tensor else self.b(x)


class AsksFx(Net):
    def forward(self, x):
        return self.b(x) if torch.fx._symbolic_trace.is_fx_tracing() else self.a(x)


class AsksTheCompiler(Net):
    def forward(self, x):
        is_watched = torch.compiler.is_compiling() or torch.fx._symbolic_trace.is_fx_tracing()
        return self.b(x) if is_watched else self.a(x)


class AsksTheExport(Net):
    def forward(self, x):
        if x.sum().item() > 1e9 and not torch.compiler.is_exporting():
            return self.a(x)
        return self.b(x) if torch.compiler.is_exporting() else self.a(x)


class AsksWhetherItIsFake(Net):
    def forward(self, x):
        return self.a(x) if "Fake" not in type(x).__name__ and hasattr(x, "numpy") else self.b(x)


class AsksNumpy(Net):
    def forward(self, x):
        return self.a(x) * float(numpy.random.rand())


class SetsTheSeed(Net):
    def forward(self, x):
        torch.manual_seed(0)
        return self.b(self.a(x) + torch.randn_like(x))


class SetsTheSeedForAWhile(Net):
    def forward(self, x):
        x = self.a(x)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            x = x + torch.randn_like(x)
        return self.b(x)


@pytest.mark.parametrize(
    "kind",
    [
        AsksForTheVeryClass,
        AsksFx,
        AsksTheCompiler,
        AsksTheExport,
        AsksWhetherItIsFake,
        AsksNumpy,
        SetsTheSeed,
        SetsTheSeedForAWhile,
    ],
)
def test_halves_do_what_the_module_does_or_it_is_refused(kind):
    torch.manual_seed(0)
    module, before = kind().eval(), torch.get_rng_state()
    try:
        graph = trace(module, X)
    except MecError as error:
        assert kind.__name__ in str(error) or "data of a tensor" in str(error)
    else:
        for point in partition_table(graph, "operator").points:
            head, tail = split(module, point)
            assert torch.equal(tail(head(X)), module(X))
    assert kind.__name__[:4] == "Sets" or torch.equal(torch.get_rng_state(), before)
