"""Tabulate where a DNN can be cut, and find the best cut for a link.

rllib-mec partition resnet50
rllib-mec partition resnet50 --codec int8 --bandwidth-mbps 20 --device-slowdown 5 --plot cut.png
rllib-mec partition --model my_package.my_module:make_dnn --input 3,64,64 --method operator
rllib-mec partition resnet50 --measure resnet50.json        # time it on this machine
rllib-mec partition resnet50 --profile resnet50.json --device-slowdown 5 --bandwidth-mbps 20
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rllib_mec.cli.dnn_arguments import input_shape
from rllib_mec.dnn import CODECS, OperatorGraph, PartitionTable, Profile, partition_table
from rllib_mec.dnn.partition import METHODS, SERVER_MODELS
from rllib_mec.errors import MecError

_DEFAULT_SERVER_MS_PER_MAC = 8.603 / 4_089_184_256  # ResNet-50 in the paper (Table IV)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("dnn", nargs="?", help="a torchvision classification model")
    add("--model", metavar="PKG.MODULE:FACTORY", help="a DNN of your own: what returns the module")
    add("--input", metavar="C,H,W", help="input shape without the batch (default: the DNN's own)")
    add("--method", default="pareto", help=f"{', '.join(METHODS)} (default pareto)")
    add("--codec", default="float32", help=f"{', '.join(CODECS)} (default float32)")
    add("--server-model", default="constant", help=f"{', '.join(SERVER_MODELS)} (default constant)")
    add(
        "--server-latency-ms",
        type=float,
        help="the whole DNN on the server (default: the paper's, by MACs)",
    )
    add("--device-slowdown", type=float, default=5.0, help="device over server latency (default 5)")
    add("--bandwidth-mbps", type=float, help="the link, to find the best point for")
    add("--profile", metavar="FILE", help="measured server profile, used for the latencies")
    add("--measure", metavar="FILE", help="measure a profile on this machine and write it there")
    add("--json", action="store_true", help="print JSON")
    add("--plot", metavar="PNG", help="draw the operators with the cut, and the front")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, and what else was asked for.

    Returns:
        0.

    Raises:
        MecError: Something wrong with an argument.
    """
    for name in ("server_latency_ms", "device_slowdown", "bandwidth_mbps"):
        value = getattr(arguments, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            option = "--" + name.replace("_", "-")
            raise MecError(f"{option} must be a positive number, got {value}")
    for name in ("plot", "measure"):
        path = getattr(arguments, name)
        if path and not Path(path).absolute().parent.is_dir():
            raise MecError(f"--{name}: there is no folder {str(Path(path).parent)!r}")
    if arguments.profile and arguments.server_latency_ms:
        raise MecError("give --profile or --server-latency-ms, not both")
    graph = _graph(arguments)
    server: float | Profile = arguments.server_latency_ms or (
        _DEFAULT_SERVER_MS_PER_MAC * max(graph.total_macs, 1)
    )
    if arguments.measure:
        server = _measure(graph, arguments.measure)
    elif arguments.profile:
        server = Profile.load(arguments.profile)
    slowdown = arguments.device_slowdown
    table = partition_table(
        graph,
        arguments.method,
        codec=arguments.codec,
        device_latency_ms=server.scaled(slowdown)
        if isinstance(server, Profile)
        else server * slowdown,
        server_latency_ms=server,
        server_model=arguments.server_model,
    )
    best, latency_ms = _best(table, arguments.bandwidth_mbps)
    if arguments.json:
        print(json.dumps(_as_dict(table, arguments, latency_ms, best), indent=1))
    else:
        print(_as_text(table, arguments, latency_ms, best))
    if arguments.plot:
        from rllib_mec.viz.partition import draw

        # Without a link there is no best cut: show the one that halves the work.
        middle = int(np.argmin(np.abs(table.server_share - 0.5)))
        draw(table, middle if best is None else best, arguments.plot)
        print(f"wrote {arguments.plot}", file=sys.stderr)
    return 0


def _graph(arguments: argparse.Namespace) -> OperatorGraph:
    """The DNN to partition: with weights only if it is to be timed."""
    from rllib_mec.dnn import build_model, model_graph, trace
    from rllib_mec.dnn.models import INPUT_SHAPE, own_input

    if bool(arguments.dnn) == bool(arguments.model):
        raise MecError("give either a torchvision model's name or --model PKG.MODULE:FACTORY")
    if arguments.model and ":" not in arguments.model:
        raise MecError(f"--model must be PKG.MODULE:FACTORY, got {arguments.model!r}")
    name = arguments.dnn or arguments.model
    if arguments.input:
        shape = input_shape(arguments.input)
    else:
        shape = INPUT_SHAPE if arguments.model else own_input(name)
    if not arguments.measure:
        return model_graph(name, shape)
    import torch

    return trace(build_model(name), torch.randn(1, *shape), name=name)


def _measure(graph: OperatorGraph, path: str) -> Profile:
    from rllib_mec.dnn import profile

    measured = profile(graph)
    measured.save(path)
    print(
        f"measured {graph.name}: {measured.total_ms:.2f} ms over {len(graph)} operators,"
        f" {measured.whole_ms:.2f} ms as a whole; wrote {path}",
        file=sys.stderr,
    )
    return measured


def _best(table: PartitionTable, mbps: float | None) -> tuple[int | None, np.ndarray | None]:
    """The point of least latency on the link, for one device alone; and all latencies in ms."""
    if mbps is None:
        return None, None
    link_ms = table.bits / (mbps * 1e3)
    latency_ms = table.local_latency_ms + link_ms + table.server_latency_ms
    return int(np.argmin(latency_ms)), latency_ms


def _as_dict(
    table: PartitionTable,
    arguments: argparse.Namespace,
    latency_ms: np.ndarray | None,
    best: int | None,
) -> dict[str, Any]:
    points = [
        {
            "index": i,
            "operators": list(table.operators[i]),
            "bytes": float(table.bits[i]) / 8,
            "local_mmacs": float(table.local_mmacs[i]),
            "local_latency_ms": float(table.local_latency_ms[i]),
            "server_latency_ms": float(table.server_latency_ms[i]),
            "server_share": float(table.server_share[i]),
        }
        for i in range(len(table))
    ]
    if latency_ms is not None:
        for point, latency in zip(points, latency_ms, strict=True):
            point["latency_ms"] = float(latency)
    return {
        "dnn": table.dnn,
        "method": table.method,
        "codec": arguments.codec,
        "server_model": table.server_model,
        "epsilon": table.epsilon,
        "bandwidth_mbps": arguments.bandwidth_mbps,
        "best": best,
        "points": points,
    }


def _as_text(
    table: PartitionTable,
    arguments: argparse.Namespace,
    latency_ms: np.ndarray | None,
    best: int | None,
) -> str:
    exact = "exact" if table.epsilon == 0 else f"approximate, epsilon {table.epsilon:.3g}"
    lines = [
        f"{table.dnn}: {len(table)} partition points"
        f" ({table.method}, {exact}, {arguments.codec}, server {table.server_model})",
        "",
        f"{'index':>5}  {'KB sent':>9}  {'MMACs local':>11}  {'share left':>10}  {'local ms':>8}"
        f"{'' if latency_ms is None else '  total ms'}  operators at the cut",
    ]
    for i, operators in enumerate(table.operators):
        cut = ", ".join(operators) or "(full local)"
        total = "" if latency_ms is None else f"  {latency_ms[i]:8.2f}"
        mark = "  <- best" if i == best else ""
        lines.append(
            f"{i:>5}  {table.bits[i] / 8e3:9.1f}  {table.local_mmacs[i]:11.1f}"
            f"  {table.server_share[i]:10.1%}  {table.local_latency_ms[i]:8.2f}{total}  {cut}{mark}"
        )
    if best is not None and latency_ms is not None:
        lines += [
            "",
            f"best at {arguments.bandwidth_mbps:g} Mbit/s, one device: point {best},"
            f" {latency_ms[best]:.2f} ms (full local {latency_ms[-1]:.2f} ms,"
            f" send the input {latency_ms[0]:.2f} ms)",
        ]
    return "\n".join(lines)
