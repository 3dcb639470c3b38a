import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from rllib_mec.dnn import partition_table, split, trace
from rllib_mec.errors import MecError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)


class Branching(Net):
    def forward(self, x):
        x = self.a(x)
        if x.sum() > 0:
            return x
        return -x


class Item(Net):
    def forward(self, x):
        return self.a(x) * x.max().item()


class Nonzero(Net):
    def forward(self, x):
        return self.a(x)[x[:, 0] > 0]


class ToNumpy(Net):
    def forward(self, x):
        return torch.from_numpy(self.a(x).detach().numpy())


class Constant(Net):
    def forward(self, x):
        return self.a.weight


class LoopsOverTheBatch(Net):
    """fx cannot trace this; torch.export can."""

    def forward(self, x):
        for i in range(x.shape[0]):
            x = self.a(x) + i
        return x


class WritesInPlace(Net):
    """b reads what relu_ overwrites: the order must survive the cut."""

    def forward(self, x):
        x = self.a(x)
        y = self.b(x)
        x.relu_()
        return x + y + torch.sigmoid(x)


class WritesASlice(Net):
    def forward(self, x):
        x = self.a(x)
        y = torch.zeros_like(x)
        y[:, 1:] = x[:, 1:]
        return self.b(y) + x


class ManyArguments(Net):
    def forward(self, *xs):
        return self.a(xs[0]) + self.b(xs[1])


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.e = nn.Linear(4, 8), nn.Linear(6, 8), nn.Embedding(10, 8)

    def forward(self, x, y, ids):
        u, v = self.a(x), self.b(y)
        return {"u": u, "sum": u + v + self.e(ids), "list": [v, 3]}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        out, (hidden, _) = self.a(x)
        return self.b(out), hidden


class ReturnsTheTuple(Recurrent):
    def forward(self, x):
        return self.a(x)


class TakesApart(Net):
    def forward(self, x):
        q, k = self.a(x).chunk(2, -1)
        top, at = self.b(x).max(-1)
        return torch.cat([q * 2, k * k + top[:, None]], 1), at


class ReturnsItsInput(Net):
    def forward(self, x):
        return self.b(self.a(x)), x


class BothInputsInto(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 8)

    def forward(self, x, memory):
        return x + self.out(self.attention(x, memory, memory, need_weights=False)[0])


X = (2, 4)
TRACEABLE = {
    LoopsOverTheBatch: [X],
    WritesInPlace: [X],
    WritesASlice: [X],
    ManyArguments: [X, X],
    Nested: [(2, 4), (2, 6), "ids"],
    Recurrent: [(1, 5, 4)],
    ReturnsTheTuple: [(1, 5, 4)],
    TakesApart: [X],
    ReturnsItsInput: [X],
    BothInputsInto: [(2, 3, 8), (2, 5, 8)],
}


def example(shapes):
    return tuple(torch.tensor([3, 7]) if s == "ids" else torch.randn(s) for s in shapes)


@pytest.mark.parametrize("kind", TRACEABLE, ids=lambda kind: kind.__name__)
def test_any_module_splits_bit_for_bit_at_every_point(kind):
    torch.manual_seed(0)
    module, inputs = kind().eval(), example(TRACEABLE[kind])
    table = partition_table(trace(module, inputs), "operator")
    assert table.num_points >= 2
    with torch.no_grad():
        for point in table.points:
            head, tail = split(module, point)
            before, after = module(*inputs), tail(head(*inputs))
            assert pytree.tree_structure(before) == pytree.tree_structure(after)
            for a, b in zip(pytree.tree_leaves(before), pytree.tree_leaves(after), strict=True):
                assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (Branching(), torch.randn(X), r"test_tracing.py:\d+ `if x.sum\(\) > 0:`: the control flow"),
        (Item(), torch.randn(X), "operator 'item' depends on the data"),
        (Nonzero(), torch.randn(X), "operator 'getitem' depends on the data"),
        (ToNumpy(), torch.randn(X), r"test_tracing.py:\d+ `return torch.from_numpy"),
        (Constant(), torch.randn(X), "nothing in 'Constant' depends on its input"),
        (LoopsOverTheBatch(), torch.randn(2, 5), "cannot trace LoopsOverTheBatch at"),
        (WritesInPlace(), torch.randn(2, 5), "operator 'a' cannot run on an input of this shape"),
        (WritesInPlace(), (torch.randn(X), torch.randn(X)), "does not fit WritesInPlace.forward"),
        (WritesInPlace(), 3, "no tensor"),
        ("resnet50", torch.randn(X), "expected a torch.nn.Module"),
    ],
)
def test_what_cannot_be_traced_names_what_is_at_fault(module, inputs, message):
    if isinstance(module, nn.Module):
        module.eval()
    with pytest.raises(MecError, match=message) as caught:
        trace(module, inputs)
    assert "\n" not in str(caught.value)


def test_a_loop_over_the_batch_takes_no_other_batch():
    module = LoopsOverTheBatch().eval()
    head, tail = split(module, 1, torch.randn(X), method="operator")
    for half, given in ((head, torch.randn(3, 4)), (tail, {"a.linear": torch.randn(3, 4)})):
        with pytest.raises(MecError, match=r"shape \(3, 4\), the DNN was traced for \(2, 4\)$"):
            half(given)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda m: torch.jit.trace(m, torch.randn(X)), "the module is TorchScript"),
        (lambda m: nn.Sequential(torch.jit.script(m)), "its submodule '0' is TorchScript"),
        (
            lambda m: torch.export.export(m, (torch.randn(X),)),
            r"an ExportedProgram: pass the module",
        ),
        (lambda m: torch.compile(m), "the module is compiled"),
        (
            lambda m: torch.ao.quantization.quantize_dynamic(m, {nn.Linear}),
            r"its submodule '0' \(Linear\) is quantised",
        ),
        (lambda m: nn.Sequential(nn.LazyLinear(3)).eval(), "its submodule '0' has no weight yet"),
        (lambda m: nn.Module().eval(), "cannot trace Module"),
    ],
    ids=["traced", "scripted", "exported", "compiled", "quantised", "lazy", "no forward"],
)
def test_what_runs_only_as_a_whole_is_refused_in_one_line(made, message):
    plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    with pytest.raises(MecError, match=message) as caught:
        trace(made(plain), torch.randn(X))
    assert "\n" not in str(caught.value)


def test_a_module_in_training_mode_is_refused_for_its_batch_norm():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    module[1].train()
    with pytest.raises(MecError, match=r"'1' is in training mode.*call \.eval\(\)"):
        trace(module, torch.randn(X))


def test_flags_and_keyword_arguments_are_baked_in():
    class Flagged(Net):
        def forward(self, x, first=True, scale=2.0):
            return self.b(self.a(x) if first else x) * scale

    module = Flagged().eval()
    assert len(trace(module, torch.randn(X))) == 2
    assert len(trace(module, (torch.randn(X), False))) == 1
    assert len(trace(module, {"x": torch.randn(X), "scale": 3.0})) == 2


def test_macs_are_counted_by_hand_for_each_kind_of_layer():
    class Kinds(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 3, padding=1, groups=2)
            self.norm = nn.BatchNorm2d(8)
            self.rnn = nn.LSTM(64, 5)
            self.fc = nn.Linear(5, 3)

        def forward(self, x):
            x = torch.relu(self.norm(self.conv(x))).flatten(2)
            return self.fc(self.rnn(x)[0])

    graph = trace(Kinds().eval(), torch.randn(1, 4, 8, 8))
    macs = {operator.name: operator.macs for operator in graph.operators}
    assert macs == {
        "conv": 8 * 8 * 8 * 2 * 9,  # 8 outputs a pixel, each of 2 input channels and 3x3
        "rnn": 8 * 4 * 5 * (64 + 5),  # 8 steps, 4 gates of 5
        "fc": 8 * 5 * 3,
    }
    assert graph["conv"].elements == 8 * 8 * 8  # after norm, relu and flatten
