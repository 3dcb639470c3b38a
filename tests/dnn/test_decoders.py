"""Language models split for prefill and decode: each half keeps the cache of its own blocks."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rllib_mec.dnn import (
    PartitionPoint,
    codec,
    fresh_state,
    load_half,
    partition_table,
    save_half,
    split,
    trace,
)
from rllib_mec.errors import MecError

WIRE = codec("float32")
WIDTH, HEADS, WORDS, ROOM = 16, 2, 11, 8


@dataclass
class Output:
    """As transformers' CausalLMOutputWithPast."""

    logits: Any
    past_key_values: Any = None


class GrowingBlock(nn.Module):
    """As in GPT-2: the cache is what was there, and the new keys and values behind it."""

    def __init__(self):
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.out, self.up = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, past):
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.parts(x))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        length, total = q.shape[2], k.shape[2]
        mask = torch.ones(length, total, dtype=torch.bool).tril(total - length)
        mixed = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2)
        x = x + self.out(mixed.reshape(x.shape))
        return x + self.up(F.gelu(x)), (k, v)

    def parts(self, x):
        return self.qkv(self.norm(x)).chunk(3, -1)


class Gpt(nn.Module):
    def __init__(self, blocks=2):
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(ROOM, WIDTH)
        self.blocks = nn.ModuleList(GrowingBlock() for _ in range(blocks))
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.words.weight

    def forward(self, input_ids, past_key_values=None):
        start = 0 if past_key_values is None else past_key_values[0][0].shape[2]
        x = self.words(input_ids) + self.places(torch.arange(start, start + input_ids.shape[1]))
        new = []
        for i, block in enumerate(self.blocks):
            x, cache = block(x, None if past_key_values is None else past_key_values[i])
            new.append(cache)
        return Output(self.head(x), tuple(new))


class RoomyBlock(GrowingBlock):
    """As Llama's with a static cache: room for all, written at the positions; rotary, grouped."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, WIDTH + WIDTH)
        self.norm = nn.RMSNorm(WIDTH)
        self.gate = nn.Linear(WIDTH, WIDTH)

    def parts(self, x):
        return self.qkv(self.norm(x)).split([WIDTH, WIDTH // 2, WIDTH // 2], -1)

    def forward(self, x, cache, position):
        size = WIDTH // HEADS
        q, k, v = self.parts(x)
        q, k, v = (t.unflatten(-1, (-1, size)).transpose(1, 2) for t in (q, k, v))
        angle = position[:, None] * 10.0 ** -torch.arange(size // 2)
        q, k = (self.turned(t, angle.cos(), angle.sin()) for t in (q, k))
        k, v = cache["k"].index_copy(2, position, k), cache["v"].index_copy(2, position, v)
        mask = torch.arange(ROOM) <= position[:, None]
        mixed = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.up(F.silu(self.gate(x)) * x), {"k": k, "v": v}

    @staticmethod
    def turned(t, cos, sin):
        a, b = t.chunk(2, -1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Llama(nn.Module):
    def __init__(self, blocks=2):
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS)
        self.blocks = nn.ModuleList(RoomyBlock() for _ in range(blocks))

    def forward(self, input_ids, cache, position):
        x, new = self.words(input_ids), []
        for block, own in zip(self.blocks, cache, strict=True):
            x, own = block(x, own, position)
            new.append(own)
        return self.head(x), new


def empty_cache(blocks=2):
    shape = 1, 1, ROOM, WIDTH // HEADS
    return [{"k": torch.zeros(shape), "v": torch.zeros(shape)} for _ in range(blocks)]


def after_a_block(graph):
    names = [node.name for node in graph.operators if node.name.startswith("blocks.0.")]
    return PartitionPoint(graph, graph.closure(names))


def over_the_link(sent):
    return {n: WIRE.decode(WIRE.encode(t), t.shape, t.dtype) for n, t in sent.items()}


PROMPT = torch.tensor([[3, 1, 4, 1]])


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    model, state, where = Llama().eval(), {"cache": "1"}, torch.arange(4)
    prefill = trace(model, (PROMPT, empty_cache(), where), state=state)
    return model, prefill, trace(model, (PROMPT[:, :1], empty_cache(), where[:1]), state=state)


def test_a_static_cache_stays_with_its_blocks_token_by_token(llama):
    model, prefill, decode = llama
    assert [n.name for n in prefill.nodes] == [n.name for n in decode.nodes]
    assert {node.name for node in decode.inputs} == {"input_ids", "position"}
    assert set(decode.outputs) == {"head"}
    points = {p.head for m in ("pareto", "layer") for p in partition_table(decode, m).points}
    assert len(points) >= 5
    for point in points:
        halves = [split(model, PartitionPoint(graph, point)) for graph in (prefill, decode)]
        heads, tails = zip(*halves, strict=True)
        mine, theirs = fresh_state(heads[0]), fresh_state(tails[0])
        assert mine.keys() | theirs.keys() == {f"cache.{i}.{k}" for i in (0, 1) for k in "kv"}
        assert not mine.keys() & theirs.keys()
        whole, ids, position = empty_cache(), PROMPT, torch.arange(4)
        with torch.no_grad():
            for step in range(4):
                head, tail = heads[step > 0], tails[step > 0]
                expected, whole = model(ids, whole, position)
                sent, mine = head(mine, ids, position=position)
                (logits, none), theirs = tail(theirs, over_the_link(sent))
                assert none is None and torch.equal(logits, expected), point
                assert not any("cache" in name for name in sent)
                ids, position = logits[:, -1:].argmax(-1), position[-1:] + 1


def test_a_growing_cache_is_taken_over_from_prefill_to_decode():
    torch.manual_seed(0)
    model, state = Gpt().eval(), {"past_key_values": "past_key_values"}
    with torch.no_grad():
        expected = model(PROMPT)
        prefill = trace(model, {"input_ids": PROMPT}, state=state)
        head, tail = split(model, after_a_block(prefill))
        assert head.state == {} and tail.state == {}  # there is no past yet
        sent, mine = head({}, PROMPT)
        output, theirs = tail({}, over_the_link(sent))
        assert isinstance(output, Output) and output.past_key_values is None
        assert torch.equal(output.logits, expected.logits)
        assert set(mine) == {"past_key_values.0.0", "past_key_values.0.1"}
        for _ in range(2):
            ids = output.logits[:, -1:].argmax(-1)
            example = {"input_ids": ids, "past_key_values": expected.past_key_values}
            decode = trace(model, example, state=state)
            head, tail = split(model, after_a_block(decode))
            expected = model(ids, expected.past_key_values)
            sent, mine = head(mine, input_ids=ids)
            assert sum(t.nbytes for t in sent.values()) == 4 * WIDTH
            output, theirs = tail(theirs, over_the_link(sent))
            assert torch.equal(output.logits, expected.logits)
        assert torch.equal(mine["past_key_values.0.0"], expected.past_key_values[0][0])
        assert torch.equal(theirs["past_key_values.1.1"], expected.past_key_values[1][1])


def test_halves_with_state_run_from_files(llama, tmp_path):
    model, _, graph = llama
    halves = split(model, after_a_block(graph))
    for half in halves:
        save_half(half, tmp_path / f"{type(half).__name__}.pt2")
        with pytest.raises(MecError, match="keeps state must be saved as"):
            save_half(half, tmp_path / "half.onnx")
    head, tail = (load_half(tmp_path / f"{type(half).__name__}.pt2") for half in halves)
    mine, theirs = map(fresh_state, halves)
    whole = empty_cache()
    with torch.no_grad():
        for position in range(3):
            ids, place = PROMPT[:, position : position + 1], torch.tensor([position])
            expected, whole = model(ids, whole, place)
            sent, mine = head(mine, ids, place)
            (logits, _), theirs = tail(theirs, over_the_link(sent))
            assert torch.equal(logits, expected)


def test_the_memory_of_a_half_counts_its_cache(llama):
    graph = llama[1]
    cache = {n: size for node in graph.nodes for n, size in node.weights if "cache" in n}
    assert cache == {f"cache.{i}.{k}": 4 * ROOM * WIDTH // HEADS for i in (0, 1) for k in "kv"}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x, h, more=None):
        h = {"h": torch.tanh(self.a(x) + self.b(h["h"]))}
        return self.out(h["h"]), h


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"g": "1"}, "unknown argument that is state: 'g'"),
        ({"h": "2"}, r"the state 'h.h' has no new value in the result, which has 0, 1.h$"),
        ({"h": "1.h"}, "the state 'h.h' has no new value"),
        ({"more": "2"}, "unknown result that is the new more: '2': choose from 0, 1.h"),
    ],
)
def test_state_that_does_not_come_back_is_refused(state, message):
    with pytest.raises(MecError, match=message):
        trace(Recurrent().eval(), (torch.randn(1, 4), {"h": torch.zeros(1, 4)}), state=state)


def test_a_state_that_a_cut_would_leave_behind_is_refused_there():
    module, x, h = Recurrent().eval(), torch.randn(1, 4), {"h": torch.zeros(1, 4)}
    table = partition_table(trace(module, (x, h), state={"h": "1"}), "operator")
    said = 0
    for point in table.points:
        try:
            head, tail = split(module, point)
        except MecError as error:
            said += "read on one side of this point" in str(error)
            continue
        mine, theirs = fresh_state(head), fresh_state(tail)
        expected, whole = module(x, h)
        sent, mine = head(mine, x)
        (result, _), theirs = tail(theirs, over_the_link(sent))
        assert torch.equal(result, expected)
        assert torch.equal({**mine, **theirs}["h.h"], whole["h"])
    assert said < len(table) - 1


def test_a_half_says_what_state_it_takes(llama):
    model, graph, _ = llama
    head, tail = split(model, after_a_block(graph))
    mine = fresh_state(head)
    sent, _ = head(mine, PROMPT, position=torch.arange(4))
    for call, message in (
        (lambda: head(PROMPT, position=torch.arange(4)), "takes its state first.*cache.0.k, cache"),
        (lambda: head({}, PROMPT, position=torch.arange(4)), "'cache.0.k' is missing"),
        (lambda: tail(sent), "'cache.1.k' is missing"),
        (lambda: tail(fresh_state(tail)), "a tail takes one mapping"),
        (lambda: head(mine, PROMPT, empty_cache(), torch.arange(4)), "'cache' "),
    ):
        with pytest.raises(MecError, match=message):
            call()
