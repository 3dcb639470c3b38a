"""What a device must hold to run the head of a DNN: its weights, and the tensors alive at once."""

from __future__ import annotations

import math

from rllib_mec.dnn.graph import OperatorGraph, bits_of


def head_memory_bytes(graph: OperatorGraph, head: int) -> int:
    """Bytes that running a head takes.

    Counted are the parameters and buffers of its operators, those shared by several once, and the
    most tensors that are alive together while the operators run one by one in topological order:
    the DNN's inputs, what an operator gives while what it reads is still there, what later
    operators of the head read, and all that is sent at its end. Floating-point elements take what
    the DNN computes with, whatever they are sent in. What is folded into an operator works in
    place. Not counted are the runtime and its workspaces.

    Args:
        graph: The DNN.
        head: Bit set of the nodes that run on the device, inputs included; the inputs alone take
            their own bytes.
    """
    nodes = graph.nodes
    weights = {name: size for i in bits_of(head) for name, size in nodes[i].weights}
    kept = set(graph.crossing(head)) or set(bits_of(graph.output_set))
    alive = {i: _bytes(graph, i) for i in bits_of(graph.input_set)}
    most = held = sum(alive.values())
    readers = {i: sum(head >> c & 1 for c in graph.child_ids[i]) for i in bits_of(head)}
    for i in bits_of(head & ~graph.input_set):
        alive[i] = _bytes(graph, i)
        held += alive[i]
        most = max(most, held)
        for parent in graph.parent_ids[i]:
            readers[parent] -= 1
        for j in (*graph.parent_ids[i], i):
            if not readers[j] and j not in kept:
                held -= alive.pop(j, 0)
    return sum(weights.values()) + most


def _bytes(graph: OperatorGraph, node: int) -> int:
    made = graph.nodes[node]
    return math.ceil(made.bits(made.float_bits) / 8)
