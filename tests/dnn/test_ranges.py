"""Sizes that range: one pair of halves for every batch, every sequence, a cache that grows."""

import pytest
import torch
from test_decoders import Gpt
from torch import nn
from torch.export import Dim

from rllib_mec.dnn import (
    codec,
    fresh_state,
    load_half,
    partition_table,
    resized,
    save_half,
    split,
    split_route,
    trace,
)
from rllib_mec.errors import MecError

LENGTH, PAST, BATCH = Dim("length", min=1, max=8), Dim("past", min=0, max=7), Dim("batch", max=4)
STATE = {"past_key_values": "past_key_values"}
CACHES = [f"past_key_values.{block}.{kind}" for block in range(2) for kind in range(2)]
WIRE = codec("float32")


def over_the_link(tensors):
    return {name: WIRE.decode(WIRE.encode(t), t.shape, t.dtype) for name, t in tensors.items()}


class Pooled(nn.Module):
    """Sizes that follow from others: halved by a stride, twice as long, times the batch."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv1d(3, 4, 3, stride=2, padding=1)
        self.out = nn.Linear(4, 5)

    def forward(self, x):
        y = torch.cat([x, x.flip(-1)], -1)
        y = torch.relu(self.down(y)).transpose(1, 2)
        flat = self.out(y.reshape(-1, 4))
        return flat.reshape(x.shape[0], -1, 5).softmax(-1), x.shape[0] * y.sum()


@pytest.fixture(scope="module")
def gpt():
    torch.manual_seed(0)
    model = Gpt().eval()
    caches = tuple((torch.randn(2, 2, 4, 8), torch.randn(2, 2, 4, 8)) for _ in range(2))
    example = {"input_ids": torch.zeros(2, 3, dtype=torch.long), "past_key_values": caches}
    dynamic = {"input_ids": {0: BATCH, 1: LENGTH}} | {n: {0: BATCH, 2: PAST} for n in CACHES}
    return model, trace(model, example, state=STATE, dynamic=dynamic)


def halves_of_all_points(model, graph):
    return [(p, split(model, p)) for p in partition_table(graph, "operator").points]


@torch.no_grad()
def test_one_pair_of_halves_decodes_with_a_cache_that_grows(gpt):
    model, graph = gpt
    count = 0
    for point, (head, tail) in halves_of_all_points(model, graph):
        for ids in (torch.randint(0, 11, (1, 4)), torch.randint(0, 11, (3, 1))):
            sizes = {"past": 0, "batch": len(ids)}
            mine, theirs, past = fresh_state(head, **sizes), fresh_state(tail, **sizes), None
            for _ in range(3):
                expected = model(ids, past)
                sent, mine = head(mine, ids)
                output, theirs = tail(theirs, over_the_link(sent))
                assert torch.equal(output.logits, expected.logits), point
                past, ids = expected.past_key_values, expected.logits[:, -1:].argmax(-1)
            caches = {**mine, **theirs}
            assert all(torch.equal(caches[n], past[int(n[-3])][int(n[-1])]) for n in CACHES)
        count += 1
    assert count > 30


@torch.no_grad()
def test_halves_in_files_take_every_size(gpt, tmp_path):
    model, graph = gpt
    (point,) = (
        p for p in partition_table(graph, "operator").points if p.operators == ("blocks.0.add_2",)
    )
    made = []
    for i, half in enumerate(split(model, point)):
        save_half(half, tmp_path / f"{i}.pt2")
        made.append(load_half(tmp_path / f"{i}.pt2"))
    head, tail = made
    for batch, length, past in ((1, 1, 5), (2, 4, 2), (4, 5, 3)):
        ids = torch.randint(0, 11, (batch, length))
        caches = [[torch.randn(batch, 2, past, 8) for _ in range(2)] for _ in range(2)]
        mine, theirs = (
            {f"past_key_values.{b}.{kind}": caches[b][kind] for kind in range(2)} for b in range(2)
        )
        sent, _ = head(mine, ids)
        output, _ = tail(theirs, sent)
        assert torch.equal(output["logits"], model(ids, caches).logits)


@torch.no_grad()
def test_sizes_that_follow_from_others(tmp_path):
    model, frames = Pooled().eval(), Dim("frames", min=2, max=50)
    graph = trace(model, torch.randn(2, 3, 9), dynamic={"x": {0: BATCH, 2: frames}})
    told = halves_of_all_points(model, graph)
    save_half(told[1][1][1], tmp_path / "tail.pt2")
    from_file = load_half(tmp_path / "tail.pt2")
    for shape in ((1, 3, 2), (2, 3, 9), (4, 3, 50), (3, 3, 7)):
        there = partition_table(resized(graph, batch=shape[0], frames=shape[2]), "operator")
        bits = {p.operators: bits for p, bits in zip(there.points, there.bits, strict=True)}
        x = torch.randn(shape)
        expected = model(x)
        # A reshape of a batch of one copies nothing in the module, and a product's last bit tells.
        exact = {"rtol": 0, "atol": 0 if shape[0] > 1 else 1e-6}
        for point, (head, tail) in told:
            sent = head(x)
            torch.testing.assert_close(tail(sent), expected, **exact)
            if not point.is_full_local:
                assert sum(8 * t.nbytes for t in sent.values()) == bits[point.operators]
        torch.testing.assert_close(from_file(told[1][1][0](x)), expected, **exact)
    alone = partition_table(resized(graph, batch=1), "operator").points[1]
    save_half(split(model, alone)[1], tmp_path / "tail.pt2")  # of a batch of one, and takes three
    x = torch.randn(3, 3, 7)
    given = load_half(tmp_path / "tail.pt2")(split(model, alone)[0](x))
    assert all(map(torch.equal, given, model(x)))
    route = split_route(model, [told[1][0], told[2][0]])
    x = torch.randn(3, 3, 21)
    assert all(map(torch.equal, route[2](route[1](route[0](x))), model(x)))


def test_a_resized_graph_is_what_a_trace_at_that_size_is(gpt):
    model, graph = gpt
    caches = tuple((torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8)) for _ in range(2))
    example = {"input_ids": torch.zeros(1, 5, dtype=torch.long), "past_key_values": caches}
    fixed = trace(model, example, state=STATE, dynamic={"input_ids": {1: LENGTH}})
    there = resized(graph, batch=1, length=5, past=3)
    for one, other in zip(there.nodes, fixed.nodes, strict=True):
        assert (one.name, one.macs, one.shapes, one.peak_bytes, one.weights) == (
            other.name, other.macs, other.shapes, other.peak_bytes, other.weights,
        )  # fmt: skip
    head, _ = split(model, partition_table(there).points[-1])
    assert head.inputs["input_ids"].shape == (1, 5)


@pytest.mark.parametrize(
    ("ids", "caches", "wrong"),
    [
        ((2, 9), (2, 2, 3, 8), "the size 'length' is 9, the DNN was traced for"),
        ((3, 2), (2, 2, 3, 8), r"has shape \(3, 2\), the DNN was traced for \(batch, length\)"),
        ((2, 2), (2, 2, 3, 4), r"\(batch, 2, past, 8\)"),
        ((2,), (2, 2, 3, 8), r"has shape \(2,\)"),
        ((2, 2), (2, 2, 8, 8), "the size 'past' is 8"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(gpt, ids, caches, wrong):
    head, _ = split(gpt[0], partition_table(gpt[1]).points[-1])
    with pytest.raises(MecError, match=wrong) as caught:
        head({name: torch.zeros(caches) for name in head.state}, torch.zeros(ids, dtype=torch.long))
    assert "\n" not in str(caught.value)


class Fixes(nn.Module):
    def forward(self, x):
        return torch.relu(x.view(2, 3, 4)) if x.shape[1] == 3 else x


class Returns(nn.Module):
    def forward(self, x):
        return x + 1, x.shape[0]


BATCHES = {"x": {0: BATCH}}


@pytest.mark.parametrize(
    ("module", "dynamic", "wrong"),
    [
        (Fixes(), {"x": {1: LENGTH}}, "the size 'length' cannot range: Fixes fixes it to 3"),
        (
            nn.AvgPool1d(2).eval(),
            {"input": {2: Dim("frames", max=9)}},
            r"the sizes cannot range so: Not all values of frames in .* \(frames // 2\) != 1",
        ),
        (Returns(), BATCHES, "the result of Returns holds a size that ranges"),
        (nn.ReLU(), {"x": {0: BATCH}}, "unknown tensor with a size that ranges: 'x'"),
        (Returns(), {"x": {3: BATCH}}, "which has no dimension 3"),
        (Returns(), {"x": {0: 5}}, "must be a torch.export.Dim"),
        (Returns(), {"x": {0: Dim("batch")}}, "needs a plain name, min and max"),
        (Returns(), {"x": {0: Dim("b", min=3, max=9)}}, "is 2 in the example, but must be from 3"),
        (Returns(), {"x": {0: LENGTH, 1: LENGTH}}, "is 2 and 3 in the same example"),
        (Returns(), {"x": {0: Dim("a", max=4), 1: Dim("a", max=5)}}, "has two ranges"),
    ],
)
def test_what_cannot_range_is_refused(module, dynamic, wrong):
    with pytest.raises(MecError, match=wrong) as caught:
        trace(module.eval(), torch.zeros(2, 3, 4), dynamic=dynamic)
    assert "\n" not in str(caught.value)


def test_a_graph_without_ranges_has_no_other_size(gpt):
    with pytest.raises(MecError, match="has no size that ranges: trace it with dynamic"):
        resized(trace(nn.Linear(3, 3).eval(), torch.zeros(1, 3)), batch=3)
    with pytest.raises(MecError, match="did you mean 'length'"):
        resized(gpt[1], lenght=3)
    with pytest.raises(MecError, match="the size 'past' must be from 0 to 7, but is 9"):
        resized(gpt[1], past=9)
