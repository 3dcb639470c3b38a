"""A half is called as its module is, and gives what that gives."""

import dataclasses
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from rllib_mec.dnn import codec, partition_table, split, trace
from rllib_mec.errors import MecError

WIRE = codec("float32")
IDS, X = torch.tensor([[3, 7, 1]]), torch.randn(2, 4)


class Bert(nn.Module):
    """The signature of transformers' BertModel, and its embeddings."""

    def __init__(self):
        super().__init__()
        self.words, self.types = nn.Embedding(10, 8), nn.Embedding(2, 8)
        self.query, self.out = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(
        self, input_ids, attention_mask=None, token_type_ids=None, head_mask=None, return_dict=True
    ):
        if attention_mask is None:
            attention_mask = torch.ones(input_ids.shape)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        x = self.words(input_ids) + self.types(token_type_ids)
        hidden = self.out(torch.relu(self.query(x))) * attention_mask[..., None]
        return ModelOutput(hidden, hidden[:, 0]) if return_dict else (hidden, hidden[:, 0])


@dataclasses.dataclass
class ModelOutput(OrderedDict):
    """As transformers has it: a mapping whose items are its fields."""

    last: Any = None
    pooled: Any = None
    attentions: Any = None

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass(frozen=True)
class Boxes:
    boxes: Any
    labels: Any
    names: tuple = ("cat", "dog")


class Gives(Net):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        x = self.a(x)
        return self.kind(x, self.b(x))


class Takes(Net):
    def forward(self, x, *more, scale, **others):
        return self.a(x["left"][0]) + self.b(more[1]) * scale + others["bias"]


class Decoder(nn.Transformer):
    def __init__(self):
        super().__init__(8, 2, 1, 1, 16, batch_first=True)


def same(a, b):
    pairs = zip(pytree.tree_leaves(a), pytree.tree_leaves(b), strict=True)
    return type(a) is type(b) and all(
        torch.equal(p, q) if isinstance(p, torch.Tensor) else same_box(p, q) for p, q in pairs
    )


def same_box(p, q):
    if isinstance(p, OrderedDict):
        return type(p) is type(q) and list(p) == list(q) and same([*p.values()], [*q.values()])
    return same(vars(p), vars(q)) if dataclasses.is_dataclass(p) else p == q


def check_every_point(module, *args, **kwargs):
    """Through the codec, called as the module is."""
    example = kwargs if kwargs and not args else args
    graph = trace(module.eval(), example)
    expected = module(*args, **kwargs)
    for point in partition_table(graph, "operator").points:
        head, tail = split(module, point)
        sent = head(*args, **kwargs)
        received = {n: WIRE.decode(WIRE.encode(t), t.shape, t.dtype) for n, t in sent.items()}
        assert same(tail(received), expected), point
    return graph


@pytest.mark.parametrize(
    "inputs",
    [
        {"input_ids": IDS, "token_type_ids": torch.ones_like(IDS)},
        {"token_type_ids": torch.ones_like(IDS), "input_ids": IDS, "return_dict": False},
        {"input_ids": IDS, "attention_mask": torch.tensor([[1.0, 1.0, 0.0]])},
        {"input_ids": IDS},
    ],
    ids=lambda inputs: " ".join(inputs),
)
def test_keywords_reach_the_parameters_that_they_name(inputs):
    graph = check_every_point(Bert(), **inputs)
    names = [name for name, value in inputs.items() if isinstance(value, torch.Tensor)]
    assert len(graph.inputs) == len(names)
    if len(names) > 1:
        assert {node.name for node in graph.inputs} == set(names)
    assert graph.inputs[0].raw_bits == 64  # token ids go as they are


def test_a_mask_behind_arguments_left_out_is_taken_as_the_mask():
    sequence = torch.randn(2, 3, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    model = Decoder().eval()
    given = {"src": sequence, "tgt": sequence, "tgt_mask": mask}
    point = partition_table(trace(model, given), "vertical").point(1)
    head, tail = split(model, point)
    # As PyTorch finds the mask to be causal, it takes another kernel in the whole.
    assert torch.allclose(tail(head(**given)), model(**given), atol=1e-5)
    other = {**given, "tgt_mask": torch.zeros(3, 3)}
    assert torch.equal(tail(head(**other)), model(**other))


class Wrapped(Net):
    """Without varargs before keywords there is no way to give both in one example."""

    def __init__(self):
        super().__init__()
        self.takes = Takes()

    def forward(self, x, first, second, bias, scale=2.0):
        return self.takes(x, first, second, scale=scale, bias=bias)


def test_lists_dicts_and_keyword_only_arguments_are_inputs():
    nested = {"left": [X, torch.randn(2, 4)]}
    graph = check_every_point(Wrapped(), nested, X, X, X)
    names = [node.name for node in graph.inputs]
    assert names == ["x.left.0", "x.left.1", "first", "second", "bias"]

    class KeywordOnly(Net):
        def forward(self, *, x, flip=False):
            return -self.a(x) if flip else self.b(x)

    for flip in (False, True):
        check_every_point(KeywordOnly(), x=X, flip=flip)

    class AnyKeywords(Net):
        def forward(self, **named):
            return self.a(named["p"]) + self.b(named["q"])

    graph = check_every_point(AnyKeywords(), p=X, q=X)
    assert [node.name for node in graph.inputs] == ["named.p", "named.q"]


@pytest.mark.parametrize(
    "kind",
    [
        Pair,
        Boxes,
        ModelOutput,
        lambda a, b: OrderedDict(b=b, a=a),
        lambda a, b: {"x": [a, (b, None, 3, "text")]},
        lambda a, b: (a.max(-1), b.shape),
    ],
    ids=["named tuple", "dataclass", "model output", "ordered", "nested", "of torch"],
)
def test_results_are_of_the_class_that_the_module_returns(kind):
    check_every_point(Gives(kind), X)


def test_one_tensor_given_for_two_arguments_is_two_inputs():
    class Both(Net):
        def forward(self, x, y):
            for _ in range(x.shape[0]):  # beyond torch.fx
                x = self.a(x)
            return x + self.b(y)

    module, y = Both().eval(), torch.randn(2, 4)
    head, tail = split(module, partition_table(trace(module, (X, X)), "vertical").point(0))
    assert torch.equal(tail(head(X, y)), module(X, y))


def test_a_call_that_was_not_traced_is_refused_in_one_line():
    model = Bert().eval()
    traced = {"input_ids": IDS, "token_type_ids": torch.ones_like(IDS)}
    head, tail = split(model, partition_table(trace(model, traced), "operator").point(1))
    sent = head(**traced)
    for call, message in (
        (lambda: head(), "'input_ids' is missing: expected input_ids, token_type_ids"),
        (lambda: head(IDS), "'token_type_ids' is missing"),
        (lambda: head(IDS, IDS, IDS), "'attention_mask' was traced as None, but is a tensor"),
        (lambda: head(*[IDS] * 9), r"the call does not fit Bert.forward\(.*too many"),
        (lambda: head(**traced, return_dict=False), "'return_dict' was traced as True, but is F"),
        (lambda: head(**traced, ids=IDS), "unexpected keyword argument 'ids'"),
        (lambda: head(input_ids="a", token_type_ids=IDS), "'input_ids' was traced as a tensor, b"),
        (lambda: head(IDS.float(), token_type_ids=IDS), "'input_ids' is of torch.float32"),
        (lambda: tail(sent["words"]), "a tail takes one mapping of tensors"),
        (lambda: tail(), "a tail takes one mapping of tensors"),
        (lambda: tail({**sent, "mask": IDS}), "unknown tensor 'mask'"),
        (lambda: tail(dict.fromkeys(sent)), "must be a tensor, but is a NoneType"),
        (lambda: tail({n: t.double() for n, t in sent.items()}), "of torch.float64, the DNN was"),
    ):
        with pytest.raises(MecError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


class Opaque:
    def __init__(self, *tensors):
        self.tensors = list(tensors)


def test_tensors_in_an_object_of_an_unknown_class_are_refused():
    with pytest.raises(MecError, match="the result of Gives is a Opaque, whose tensors"):
        trace(Gives(Opaque).eval(), X)
    with pytest.raises(MecError, match=r"an argument of Gives.forward\(x\) is a Opaque, whose"):
        trace(Gives(Pair).eval(), (Opaque(X),))


def test_autocast_inside_a_forward_is_kept():
    class Casts(Net):
        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                x = self.a(x)
            return self.b(x.float()), x

    graph = check_every_point(Casts(), X)
    assert torch.bfloat16 in {spec.dtype for spec in graph.program.specs.values()}


def test_hooks_and_a_forward_of_the_modules_own_are_part_of_it():
    plain = Gives(Pair).eval()
    hooked = Gives(Pair).eval()
    hooked.load_state_dict(plain.state_dict())
    hooked.register_forward_hook(lambda m, args, out: Pair(out.first + 1, out.second))
    hooked.register_forward_pre_hook(lambda m, args: (2 * args[0],))
    hooked.a.register_forward_hook(lambda m, args, out: -out)
    assert not torch.equal(hooked(X).first, plain(X).first)
    check_every_point(hooked, X)
    inner = plain.forward
    plain.forward = lambda x: inner(-x)
    check_every_point(plain, X)


def test_a_hook_that_only_looks_on_is_refused_where_the_halves_would_not_call_it():
    seen = []
    module = nn.Sequential(Gives(lambda a, b: a + b), nn.ReLU()).eval()
    handle = module[0].register_forward_hook(lambda m, args, out: seen.append(out))
    with pytest.raises(MecError, match="a forward hook of the submodule '0' only looks on"):
        trace(module, X)
    handle.remove()
    handle = module.register_forward_pre_hook(lambda m, args: seen.append(args))
    with pytest.raises(MecError, match="a forward hook of the module only looks on"):
        trace(module, X)
    handle.remove()
    module[1].register_forward_hook(lambda m, args, out: seen.append(out))  # the halves call it
    head, tail = split(module, partition_table(trace(module, X), "operator").point(1))
    seen.clear()
    assert torch.equal(tail(head(X)), seen[-1])


def test_old_weight_norm_is_computed_anew_in_the_halves():
    module = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    check_every_point(module, X)
    assert type(module[0].weight) is torch.Tensor  # not what tracing computed


def test_a_halfs_mode_is_its_own():
    class Drops(Net):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.b(self.drop(self.a(x)))

    module = Drops().eval()
    expected = module(X)
    head, tail = split(module, partition_table(trace(module, X), "operator").point(1))
    module.train()
    assert torch.equal(tail(head(X)), expected)
    module.eval()
    tail.train()
    assert torch.equal(module(X), expected)


def test_a_module_changed_since_it_was_traced_is_traced_again():
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).eval()
    point = partition_table(trace(module, X), "operator").point(1)
    for change in (
        lambda: setattr(module, "2", nn.Linear(4, 4).eval()),
        lambda: setattr(module, "1", nn.Sigmoid().eval()),
        lambda: setattr(module[2], "weight", nn.Parameter(torch.ones(4, 4))),
    ):
        change()
        head, tail = split(module, point)
        assert torch.equal(tail(head(X)), module(X))
    module[2] = nn.Identity().eval()
    with pytest.raises(MecError, match="whose operators are not those of this Sequential"):
        split(module, point)

    flagged = Bert().eval()
    point = partition_table(trace(flagged, (IDS,)), "operator").point(1)
    flagged.query.register_forward_hook(lambda m, args, out: -out)
    head, tail = split(flagged, point)
    assert same(tail(head(IDS)), flagged(IDS))
