"""What a device must hold to run the head of a DNN: its weights, and the tensors alive at once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from rllib_mec.dnn.graph import Operator, OperatorGraph, bits_of
from rllib_mec.dnn.walk import walk


def head_memory_bytes(graph: OperatorGraph, head: int) -> int:
    """Bytes that running a head takes.

    Counted are the parameters and buffers of its operators, those shared by several once, and the
    most tensors that are alive together while the operators run one by one in topological order:
    the DNN's inputs, what an operator gives while what it reads is still there, what later
    operators of the head read, and all that is sent at its end. Floating-point elements take what
    the DNN computes with, whatever they are sent in. What is folded into an operator works in
    place, on the largest tensor that it makes. Not counted are the runtime and its workspaces.

    Args:
        graph: The DNN.
        head: Bit set of the nodes that run on the device, inputs included; the inputs alone take
            their own bytes.
    """
    return heads_memory_bytes(graph, [head])[0]


def heads_memory_bytes(graph: OperatorGraph, heads: Sequence[int]) -> list[int]:
    """The same for many heads.

    Args:
        graph: The DNN.
        heads: Of each point.
    """
    size = [_bytes(node) for node in graph.nodes]
    more = [max(0, node.peak_bytes - own) for node, own in zip(graph.nodes, size, strict=True)]
    weights = [dict(node.weights) for node in graph.nodes]
    holders: Counter[str] = Counter()
    held = 0  # bytes of the weights
    inside: set[int] = set()
    outputs = {graph.index[name] for name in graph.outputs}
    # Of each position in the order of execution, the bytes alive; of each node, until where it is.
    alive = np.zeros(len(graph.nodes), dtype=np.int64)
    until: dict[int, int] = {}
    found = [0] * len(heads)

    is_input = set(bits_of(graph.input_set))
    for stop in walk(graph, heads):
        for node in stop.left:
            inside.discard(node)
            alive[node] -= more[node]
            for name, count in weights[node].items():
                holders[name] -= 1
                held -= 0 if holders[name] else count
        for node in stop.joined:
            inside.add(node)
            alive[node] += more[node]
            for name, count in weights[node].items():
                held += 0 if holders[name] else count
                holders[name] += 1
        changed = {*stop.left, *stop.joined}
        changed.update(*(graph.parent_ids[node] for node in tuple(changed)))
        for node in changed:
            start = 0 if node in is_input else node
            if node in until:
                alive[start : until.pop(node) + 1] -= size[node]
            if node in inside:
                readers = graph.child_ids[node]
                kept = node in outputs or not inside.issuperset(readers)
                kept = kept or (not readers and node in is_input)
                until[node] = len(alive) - 1 if kept else max(readers, default=node)
                alive[start : until[node] + 1] += size[node]
        found[stop.at] = held + int(alive.max())
    return found


def _bytes(node: Operator) -> int:
    return math.ceil(node.bits(node.float_bits) / 8)
