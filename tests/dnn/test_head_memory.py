"""What a device must hold to run a head, computed by hand."""

import json

import numpy as np
import torch
from torch import nn

from rllib_mec.cli.mec import main
from rllib_mec.dnn import Operator, OperatorGraph, build_model, model_graph, partition_table, trace
from rllib_mec.dnn.memory import head_memory_bytes


class Branches(nn.Module):
    """Two branches of which one is wide, and a linear layer that both share."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(10, 100)
        self.back = nn.Linear(100, 10)
        self.shared = nn.Linear(10, 10)

    def forward(self, x):
        wide = self.back(torch.relu(self.wide(x)))
        return self.shared(self.shared(x) + wide)


def test_weights_and_living_tensors_are_counted_at_every_point():
    graph = trace(Branches().eval(), torch.rand(1, 10))
    assert [o.name for o in graph.operators] == ["wide", "back", "shared", "add", "shared_2"]
    wide, back, shared = 100 * 11, 10 * 101, 10 * 11
    floats = {
        (): 10,
        ("wide",): wide + 10 + 100,  # the input is sent too: the other branch reads it
        ("shared",): shared + 10 + 10,
        ("wide", "back"): wide + back + 10 + 100 + 10,
        ("wide", "back", "shared"): wide + back + shared + 120,
        # shared by two operators, its weights lie there once
        ("wide", "back", "shared", "add", "shared_2"): wide + back + shared + 120,
    }
    for names, count in floats.items():
        head = graph.input_set | sum(1 << graph.index[name] for name in names)
        assert head_memory_bytes(graph, head) == 4 * count, names


def test_a_tensor_is_held_until_its_last_reader_has_run():
    chain = [
        Operator("x", kind="input", elements=100, raw_bits=8),
        Operator("a", ("x",), elements=50, weights=(("w", 40),)),
        Operator("b", ("a",), elements=1),
        Operator("c", ("b", "a"), elements=30),
        Operator("d", ("c",), elements=2),
    ]
    graph = OperatorGraph(chain)
    # x 100 bytes; a 200; b 4 beside a; c 120 beside a and b; d 8 beside c.
    expected = [100, 40 + 300, 40 + 300, 40 + 324, 40 + 324]
    heads = [(1 << i + 1) - 1 for i in range(5)]
    assert [head_memory_bytes(graph, head) for head in heads] == expected


def test_the_largest_tensor_that_an_operator_makes_counts_though_it_is_pooled_at_once():
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(8), nn.Flatten())
    graph = trace(module.eval(), torch.rand(1, 1, 16, 16))
    (conv,) = graph.operators
    assert conv.elements == 4 * 2 * 2 and conv.peak_bytes == 4 * 4 * 16 * 16
    assert head_memory_bytes(graph, graph.full_set) == 4 * (4 * 9 + 4) + 4 * (1 + 4) * 16 * 16


def test_the_whole_of_resnet50_takes_its_weights_and_a_few_feature_maps():
    table = partition_table("resnet50", "vertical")
    model = build_model("resnet50", device="meta")
    weights = 4 * sum(p.numel() for p in model.parameters())
    assert weights == 4 * 25_557_032
    statistics = sum(b.numel() * b.element_size() for b in model.buffers())
    feature_map = 4 * 256 * 56 * 56  # of the first block; its input, a sum and a branch beside it
    assert table.head_memory_bytes[-1] == weights + statistics + 3 * feature_map
    assert table.head_memory_bytes[0] == 4 * 3 * 224 * 224
    assert (np.diff(table.head_memory_bytes) >= 0).all()
    # Heads that are no part of an inference are in no operator.
    aux = sum(o.name.startswith("aux") for o in model_graph("googlenet").operators)
    assert not aux


def test_the_export_finds_the_same_weights():
    class OnlyExport(nn.Module):  # a loop over a size is beyond torch.fx
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

        def forward(self, x):
            for _ in range(x.shape[0]):
                x = self.inner(x)
            return x

    module = OnlyExport().eval()
    graph = trace(module, (torch.rand(1, 3, 8, 8),))
    read = {name: size for o in graph.operators for name, size in o.weights}
    counted = [t for n, t in module.state_dict().items() if "num_batches" not in n]
    assert sum(read.values()) == sum(t.numel() * t.element_size() for t in counted)


def test_the_command_shows_the_memory_of_every_point(capsys):
    assert main("partition mobilenet_v2 --json".split()) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    table = partition_table("mobilenet_v2")
    assert [point["memory_bytes"] for point in points] == table.head_memory_bytes.tolist()
    assert main(["partition", "mobilenet_v2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "MB held" in lines[2] and " 20.18 " in lines[-1]
