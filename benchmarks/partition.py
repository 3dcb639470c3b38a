"""The Pareto front of every cut of a DNN against one minimum cut: sizes and search times.

    python benchmarks/partition.py [--repeats 5]

For real DNNs and synthetic wide ones it prints operators, the front's points and the time to find
the whole front, beside the time that networkx takes for a single ``minimum_cut`` (preflow_push) on
the same graph, i.e. for one link speed. Times are CPU time of one thread. Both start from the
operator graph; building networkx's flow network is not counted. It writes
``results/partition.csv`` and ``results/partition.md``. About a minute on one core.
"""

from __future__ import annotations

import argparse
import csv
import math
import pathlib
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

import networkx as nx
from machine import describe_machine

from rllib_mec.dnn import Operator, OperatorGraph, model_graph, pareto_front

RESULTS = pathlib.Path(__file__).parent / "results"
DNNS = (
    "resnet50",
    "googlenet",
    "inception_v3",
    "densenet121",
    "mobilenet_v2",
    "efficientnet_b0",
    "vit_b_16",
    "swin_t",
)
FEATURE_BITS = 32
LINK_BIT_PER_MAC = 1e-3  # for the minimum cut: sending a bit costs as much as a thousand MACs


def main() -> int:
    """Time every graph, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="median over that many (default 5)")
    repeats = parser.parse_args().repeats
    rows = []
    for graph in graphs():
        row = measure(graph, repeats)
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    write(rows)
    return 0


def graphs() -> Iterator[OperatorGraph]:
    """The DNNs of the issue, then synthetic ones that grow."""
    for name in DNNS:
        yield model_graph(name)
    for cells in (5, 10, 20, 40):
        yield nasnet_like(cells)
    for stages in (1, 3, 6, 12):
        yield randomly_wired(stages)
    for stages in (1, 2, 5):
        yield parallel_branches(stages)


def measure(graph: OperatorGraph, repeats: int) -> dict[str, object]:
    """One row of the table."""
    bits = [node.bits(FEATURE_BITS) for node in graph.nodes]
    front = pareto_front(graph, bits)
    flow = flow_network(graph, bits)
    front_ms = median_ms(lambda: pareto_front(fresh(graph), bits), repeats, setup=graph)
    cut_ms = median_ms(
        lambda: nx.minimum_cut(flow, "device", "server", flow_func=nx.algorithms.flow.preflow_push),
        repeats,
    )
    start = time.process_time()
    share = pareto_front(fresh(graph), bits, server_model="share")
    share_ms = 1e3 * (time.process_time() - start)
    return {
        "dnn": graph.name,
        "operators": len(graph),
        "log10_cuts": "" if (count := count_cuts(graph)) is None else f"{math.log10(count):.1f}",
        "front": len(front.points),
        "epsilon": front.epsilon,
        "front_ms": f"{front_ms:.2f}",
        "min_cut_ms": f"{cut_ms:.2f}",
        "min_cut_over_front": f"{cut_ms / front_ms:.1f}",
        "share_front": len(share.points),
        "share_epsilon": f"{share.epsilon:.2g}",
        "share_ms": f"{share_ms:.1f}",
    }


def fresh(graph: OperatorGraph) -> OperatorGraph:
    """The same graph with nothing computed yet, so that no run profits from the one before."""
    return OperatorGraph(graph.nodes, graph.outputs, name=graph.name)


def median_ms(
    call: Callable[[], object], repeats: int, setup: OperatorGraph | None = None
) -> float:
    """Median CPU time of a call in ms, less what making a fresh graph takes."""
    times = []
    for _ in range(repeats):
        spare = 0.0
        if setup is not None:
            start = time.process_time()
            fresh(setup)
            spare = time.process_time() - start
        start = time.process_time()
        call()
        times.append(1e3 * (time.process_time() - start - spare))
    return statistics.median(times)


def flow_network(graph: OperatorGraph, bits: list[float]) -> nx.DiGraph:
    """The network whose minimum cut is the best cut for one link speed (server time free)."""
    flow = nx.DiGraph()
    for i, node in enumerate(graph.nodes):
        if graph.input_set >> i & 1:
            flow.add_edge("device", node.name)
        flow.add_edge(node.name, "server", capacity=node.macs)
        tensor = ("tensor", node.name)
        flow.add_edge(node.name, tensor, capacity=round(bits[i] / LINK_BIT_PER_MAC))
        for reader in node.children:
            flow.add_edge(tensor, reader)  # unlimited: a reader on the server needs the tensor
            flow.add_edge(reader, node.name)
        if node.name in graph.outputs:
            flow.add_edge(tensor, "server")
    return flow


def count_cuts(graph: OperatorGraph, limit: int = 2_000_000) -> int | None:
    """Number of ancestor-closed heads, found along the sweep; None: too wide to count."""
    from rllib_mec.dnn.sweep import sweep_order

    undecided = graph.full_set & ~graph.input_set
    counts = {0: 1}  # undecided operators that are forced to the server -> heads so far
    for node in sweep_order(graph):
        undecided &= ~(1 << node)
        reached: dict[int, int] = {}
        for forced, count in counts.items():
            if not forced >> node & 1:
                reached[forced] = reached.get(forced, 0) + count
                forced |= graph.descendants[node] & undecided
            else:
                forced &= ~(1 << node)
            reached[forced] = reached.get(forced, 0) + count
        counts = reached
        if len(counts) > limit // 100:
            return None
    return sum(counts.values())


def nasnet_like(cells: int, seed: int = 0) -> OperatorGraph:
    """NASNet-like: cells of five blocks, each joining two of all that is open, two cells back."""
    rng = random.Random(seed)
    nodes = [Operator("input", kind="input", elements=150_528)]
    before = last = "input"
    elements = 200_704
    for c in range(cells):
        if c and c % max(1, cells // 3) == 0:
            elements //= 2
        hidden, used = [before, last], set()
        for b in range(5):
            ends = []
            for side in range(2):
                source = rng.choice(hidden)
                used.add(source)
                name = f"cell{c}.block{b}.{side}"
                nodes.append(_conv(f"{name}.depthwise", (source,), elements // 6, rng, 4))
                nodes.append(_conv(name, (f"{name}.depthwise",), elements // 6, rng, 10))
                ends.append(name)
            hidden.append(f"cell{c}.block{b}.add")
            nodes.append(Operator(hidden[-1], tuple(ends), elements=elements // 6))
        loose = tuple(h for h in hidden[2:] if h not in used)
        before, last = last, f"cell{c}.concat"
        nodes.append(Operator(last, loose, elements=elements * len(loose) // 6))
    nodes.append(Operator("fc", (last,), macs=10**6, elements=1000))
    return OperatorGraph(nodes, ["fc"], name=f"nasnet-like, {cells} cells")


def randomly_wired(stages: int, size: int = 32, seed: int = 0) -> OperatorGraph:
    """RandWire: stages of Watts-Strogatz graphs, WS(4, 0.75), every node sum and two convs."""
    rng = random.Random(seed)
    nodes = [Operator("input", kind="input", elements=150_528)]
    last, elements = "input", 200_704
    for stage in range(stages):
        wiring = nx.connected_watts_strogatz_graph(size, 4, 0.75, seed=100 * seed + stage)
        edges = sorted((min(edge), max(edge)) for edge in wiring.edges)
        elements = max(1000, elements * 2 // 3)
        for v in range(size):
            parents = tuple(f"stage{stage}.{a}" for a, b in edges if b == v) or (last,)
            name = f"stage{stage}.{v}"
            if len(parents) > 1:
                nodes.append(Operator(f"{name}.sum", parents, elements=elements))
                parents = (f"{name}.sum",)
            nodes.append(_conv(f"{name}.depthwise", parents, elements, rng, 3))
            shrunk = round(elements * rng.uniform(0.25, 1.0))
            nodes.append(_conv(name, (f"{name}.depthwise",), shrunk, rng, 10))
        feeding = {a for a, _ in edges}
        sinks = tuple(f"stage{stage}.{v}" for v in range(size) if v not in feeding)
        last = f"stage{stage}.out"
        nodes.append(Operator(last, sinks, elements=elements))
    nodes.append(Operator("fc", (last,), macs=10**6, elements=1000))
    return OperatorGraph(nodes, ["fc"], name=f"randomly wired, {stages} x {size}")


def parallel_branches(stages: int, branches: int = 10, length: int = 20) -> OperatorGraph:
    """Stages of ten branches of twenty operators each: 21^10 cuts, 10^13.2, in every stage."""
    rng = random.Random(0)
    nodes = [Operator("input", kind="input", elements=150_528)]
    last = "input"
    for stage in range(stages):
        ends = []
        for b in range(branches):
            before = last
            for i in range(length):
                name = f"stage{stage}.branch{b}.{i}"
                nodes.append(_conv(name, (before,), rng.randint(1000, 20_000), rng, 10))
                before = name
            ends.append(before)
        last = f"stage{stage}.concat"
        nodes.append(Operator(last, tuple(ends), elements=100_000 // (stage + 1)))
    return OperatorGraph(nodes, name=f"parallel branches, {stages} x 10 x 20")


def _conv(
    name: str, parents: tuple[str, ...], elements: int, rng: random.Random, weight: int
) -> Operator:
    return Operator(name, parents, macs=rng.randint(10**5, 10**6) * weight, elements=elements)


def write(rows: list[dict[str, object]]) -> None:
    """Write the rows as CSV and as a Markdown table that says where it comes from."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "partition.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "networkx"))
    lines = [
        "# Pareto front against one minimum cut",
        "",
        f"`python {' '.join(['benchmarks/partition.py', *sys.argv[1:]])}`",
        "",
        f"{describe_machine()}; {versions}.",
        "Times are medians of CPU time in ms (the share model: one run).",
        "",
        "| DNN | operators | cuts | front | epsilon | front, ms | min-cut, ms | min-cut / front |"
        " share front | share epsilon | share, ms |",
        "|---|" + "--:|" * 10,
    ]
    for row in rows:
        values = dict(row)
        values["log10_cuts"] = f"10^{row['log10_cuts']}" if row["log10_cuts"] else "not counted"
        lines.append("| " + " | ".join(str(value) for value in values.values()) + " |")
    lines += ["", *growth(rows)]
    (RESULTS / "partition.md").write_text("\n".join(lines) + "\n")


def growth(rows: list[dict[str, object]]) -> list[str]:
    """The exponent with which the time grows, for each synthetic family."""
    lines = []
    for family in ("nasnet-like", "randomly wired", "parallel branches"):
        own = [row for row in rows if str(row["dnn"]).startswith(family)]
        points = [(math.log(float(str(r["operators"]))), r) for r in own]
        spans = points[-1][0] - points[0][0]
        exponents = [
            math.log(float(str(own[-1][key])) / float(str(own[0][key]))) / spans
            for key in ("front_ms", "min_cut_ms")
        ]
        lines.append(
            f"From {own[0]['operators']} to {own[-1]['operators']} operators ({family}) the front's"
            f" time grows like operators^{exponents[0]:.2f}, the minimum cut's like"
            f" operators^{exponents[1]:.2f}."
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
