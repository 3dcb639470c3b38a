"""Tabulate where a DNN can be cut, and find the best cut for a link.

rllib-mec partition resnet50
rllib-mec partition resnet50 --codec int8 --bandwidth-mbps 20 --device-slowdown 5 --plot cut.png
rllib-mec partition --model my_package.my_module:make_dnn --input 3,64,64 --method operator
rllib-mec partition --model my_package.my_module:make_llm --input input_ids=int64[1,16]
rllib-mec partition --model my_package.my_module:make_llm --input "ids=int64[1,length:2..512]"
rllib-mec partition resnet50 --measure resnet50.json        # time it on this machine
rllib-mec partition resnet50 --profile resnet50.json --device-slowdown 5 --bandwidth-mbps 20
rllib-mec partition resnet50 --device-memory-mb 50          # only cuts that the device can hold
rllib-mec partition resnet50 --bandwidth-mbps 50 --cloud-latency-ms 2 --cloud-bandwidth-mbps 200
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from rllib_mec.cli.command import (
    NEW_FILE,
    OK,
    PICTURE,
    POSITIVE,
    SHAPE,
    EachByItself,
    command,
    option,
)
from rllib_mec.dnn import (
    CODECS,
    LatencyProfile,
    OperatorGraph,
    PartitionTable,
    Route,
    best_route,
    partition_table,
)
from rllib_mec.dnn.inputs import HELP, Inputs, parse_inputs, traced_with
from rllib_mec.dnn.partition import METHODS
from rllib_mec.dnn.work import SERVER_MODELS
from rllib_mec.errors import MecError
from rllib_mec.experiments.messages import as_table

SIZES_SHOWN = 6
"""How many values of a size that ranges the best cut is told for."""

MACHINES = ("device", "server", "cloud")

_DEFAULT_SERVER_MS_PER_MAC = 8.603 / 4_089_184_256  # ResNet-50 in the paper (Table IV)


@command(help=__doc__)
@click.argument("dnn", required=False)
@option("--model", metavar="PKG.MODULE:FACTORY", help="a DNN of your own: what returns the module")
@option(
    "--input", "given", cls=EachByItself, multiple=True, metavar="C,H,W",
    help=f"without the batch (default: the DNN's own); or, once for each argument, {HELP}",
)  # fmt: skip
@option("--method", default="pareto", help=", ".join(METHODS))
@option("--codec", default="float32", help=", ".join(CODECS))
@option("--server-model", default="constant", help=", ".join(SERVER_MODELS))
@option(
    "--server-latency-ms", type=POSITIVE,
    help="the whole DNN on the server (default: the paper's, by MACs)",
)  # fmt: skip
@option("--device-slowdown", type=POSITIVE, default=5.0, help="device over server latency")
@option("--bandwidth-mbps", type=POSITIVE, help="the link, to find the best point for")
@option("--device-memory-mb", type=POSITIVE, help="what the device can hold of the DNN")
@option("--cloud-latency-ms", type=POSITIVE, help="the whole DNN in a cloud behind the server")
@option("--cloud-bandwidth-mbps", type=POSITIVE, help="the link from the server to the cloud")
@option("--profile", metavar="FILE", help="measured server profile, used for the latencies")
@option("--measure", type=NEW_FILE, help="measure a profile on this machine and write it there")
@option("--json", "as_json", is_flag=True, help="print JSON")
@option("--plot", type=PICTURE, help="draw the operators with the cut, and the front")
def partition(
    dnn: str | None,
    model: str | None,
    given: tuple[str, ...],
    method: str,
    codec: str,
    server_model: str,
    server_latency_ms: float | None,
    device_slowdown: float,
    bandwidth_mbps: float | None,
    device_memory_mb: float | None,
    cloud_latency_ms: float | None,
    cloud_bandwidth_mbps: float | None,
    profile: str | None,
    measure: str | None,
    as_json: bool,
    plot: str | None,
) -> int:
    """Print the table, and what else was asked for."""
    latencies = {
        "--profile": profile,
        "--measure": measure,
        "--server-latency-ms": server_latency_ms,
    }
    if len(both := [flag for flag, value in latencies.items() if value]) > 1:
        raise MecError(f"give {both[0]} or {both[1]}, not both: each says what the server takes")
    links = _links(bandwidth_mbps, cloud_latency_ms, cloud_bandwidth_mbps, device_memory_mb)
    graph = _graph(dnn, model, given, timed=measure is not None)
    ranges = graph.program.ranges.limits
    if ranges and (profile or measure):
        raise MecError(f"a profile is of one size: give {next(iter(ranges))!r} a number in --input")
    server: float | LatencyProfile = server_latency_ms or (
        _DEFAULT_SERVER_MS_PER_MAC * max(graph.total_macs, 1)
    )
    if measure:
        server = _measure(graph, measure)
    elif profile:
        server = LatencyProfile.load(profile)

    table_at = functools.partial(
        _table_at,
        server,
        device_slowdown,
        graph.total_macs,
        method=method,
        codec=codec,
        server_model=server_model,
        bandwidth_mbps=bandwidth_mbps,
        device_memory_mb=device_memory_mb,
    )
    table = table_at(graph)
    route = None
    if cloud_latency_ms is not None:
        machines = [_slower(server, device_slowdown), server, cloud_latency_ms]
        route = best_route(graph, machines, links, codec=codec, server_model=server_model)
    best = latency_ms = None
    sizes: list[dict[str, Any]] = []
    if bandwidth_mbps is not None:  # the point of least latency for one device alone
        latency_ms = _latency(table, bandwidth_mbps)
        best = int(np.argmin(latency_ms))
        sizes = _by_size(graph, table_at, bandwidth_mbps)
    if as_json:
        found = {
            "dnn": table.dnn,
            "method": table.method,
            "codec": codec,
            "server_model": table.server_model,
            "epsilon": table.epsilon,
            "bandwidth_mbps": bandwidth_mbps,
            "device_memory_mb": device_memory_mb,
            "best": best,
            "points": _points(table, latency_ms),
            **({"sizes": dict(ranges), "best_by_size": sizes} if ranges else {}),
            **({"three_way": _parts(route)} if route else {}),
        }
        print(json.dumps(found, indent=1))
    else:
        print(_as_text(table, codec, latency_ms, best))
    if best is not None and latency_ms is not None and not as_json:
        local = f"full local {latency_ms[-1]:.2f} ms, " if table.points[-1].is_full_local else ""
        print(
            f"\nbest at {bandwidth_mbps:g} Mbit/s, one device: point {best},"
            f" {latency_ms[best]:.2f} ms ({local}send the input {latency_ms[0]:.2f} ms)"
        )
    if sizes and not as_json:
        print(_sizes_as_text(sizes, list(ranges)))
    if route and not as_json:
        print(_route_as_text(route))
    if plot:
        from rllib_mec.viz.partition import draw

        # Without a link there is no best cut: show the one that halves the work.
        middle = int(np.argmin(np.abs(table.server_share - 0.5)))
        draw(table, middle if best is None else best, plot)
        print(f"wrote {plot}", file=sys.stderr)
    return OK


def _links(
    bandwidth: float | None,
    cloud_latency: float | None,
    cloud_bandwidth: float | None,
    memory: float | None,
) -> list[float]:
    """The links that were given.

    Raises:
        MecError: A cloud lacks its latency or one of the links to it, or is to be combined with
            what only a single cut obeys.
    """
    cloud = {"--cloud-latency-ms": cloud_latency, "--cloud-bandwidth-mbps": cloud_bandwidth}
    given = [flag for flag, value in cloud.items() if value is not None]
    if given:
        for flag, value in {"--bandwidth-mbps": bandwidth, **cloud}.items():
            if value is None:
                raise MecError(f"{given[0]} needs {flag} too: a cloud is reached over two links")
        if memory is not None:
            raise MecError(f"--device-memory-mb is not allowed with {given[0]}")
    return [rate for rate in (bandwidth, cloud_bandwidth) if rate is not None]


def _graph(
    dnn: str | None, factory: str | None, given: tuple[str, ...], *, timed: bool
) -> OperatorGraph:
    """The DNN to partition: with weights only if it is to be timed."""
    from rllib_mec.dnn import build_model, model_graph, trace
    from rllib_mec.dnn.models import INPUT_SHAPE, own_input

    if bool(dnn) == bool(factory):
        raise MecError("give either a torchvision model's name or --model PKG.MODULE:FACTORY")
    if factory and not all(factory.partition(":")):
        raise MecError(f"--model must be PKG.MODULE:FACTORY, got {factory!r}")
    name = str(dnn or factory)
    own = _input(given) or (INPUT_SHAPE if factory else own_input(name))
    if timed:
        return trace(build_model(name), **traced_with(own), name=name)
    return model_graph(name, own)


def _input(given: tuple[str, ...]) -> tuple[int, ...] | Inputs | None:
    if len(given) == 1 and "=" not in given[0]:
        return SHAPE.convert(given[0], None, None)
    return parse_inputs("--input", given) if given else None


def _table_at(
    server: float | LatencyProfile, slowdown: float, macs: int, at: OperatorGraph, **options: Any
) -> PartitionTable:
    """The table at some sizes, where a latency is that of so many MACs."""
    if not isinstance(server, LatencyProfile):
        server *= max(at.total_macs, 1) / max(macs, 1)
    device = _slower(server, slowdown)
    return partition_table(at, device_latency_ms=device, server_latency_ms=server, **options)


def _slower(server: float | LatencyProfile, times: float) -> float | LatencyProfile:
    return server.scaled(times) if isinstance(server, LatencyProfile) else server * times


def _latency(table: PartitionTable, bandwidth_mbps: float) -> np.ndarray:
    link_ms = table.bits / (bandwidth_mbps * 1e3)
    return table.local_latency_ms + link_ms + table.server_latency_ms


def _by_size(
    graph: OperatorGraph,
    table_at: Callable[[OperatorGraph], PartitionTable],
    bandwidth_mbps: float,
) -> list[dict[str, Any]]:
    """The best cut at several values of each size that ranges, the others at their largest."""
    from rllib_mec.dnn import resized

    largest, shown = graph.program.ranges.given, []
    for name, (low, high) in graph.program.ranges.limits.items():
        values = np.geomspace(max(low, 1), high, SIZES_SHOWN).round().astype(int)
        shown += [{**largest, name: size} for size in np.unique(values).tolist()]
    found = []
    for sizes in [sizes for i, sizes in enumerate(shown) if sizes not in shown[:i]]:
        table = table_at(resized(graph, **sizes))
        latency_ms = _latency(table, bandwidth_mbps)
        best = int(np.argmin(latency_ms))
        found.append(
            {
                **sizes,
                "operators": list(table.operators[best]),
                "bytes": float(table.bits[best]) / 8,
                "latency_ms": float(latency_ms[best]),
            }
        )
    return found


def _sizes_as_text(sizes: list[dict[str, Any]], names: list[str]) -> str:
    cuts = "operators at the cut"
    rows = [
        [
            *(str(row[name]) for name in names),
            f"{row['bytes'] / 1e3:.1f}",
            f"{row['latency_ms']:.2f}",
            ", ".join(row["operators"]) or "(full local)",
        ]
        for row in sizes
    ]
    header = [*names, "KB sent", "total ms", cuts]
    return f"\nbest at other sizes\n\n{as_table(header, rows, left=[cuts])}"


def _measure(graph: OperatorGraph, path: str) -> LatencyProfile:
    from rllib_mec.dnn import measure_latency

    measured = measure_latency(graph)
    measured.save(path)
    print(
        f"measured {graph.name}: {measured.total_ms:.2f} ms over {len(graph)} operators,"
        f" {measured.whole_ms:.2f} ms as a whole; wrote {path}",
        file=sys.stderr,
    )
    return measured


def _points(table: PartitionTable, latency_ms: np.ndarray | None) -> list[dict[str, Any]]:
    return [
        {
            "index": i,
            "operators": list(table.operators[i]),
            "bytes": float(table.bits[i]) / 8,
            "memory_bytes": int(table.head_memory_bytes[i]),
            "local_mmacs": float(table.local_mmacs[i]),
            "local_latency_ms": float(table.local_latency_ms[i]),
            "server_latency_ms": float(table.server_latency_ms[i]),
            "server_share": float(table.server_share[i]),
            **({} if latency_ms is None else {"latency_ms": float(latency_ms[i])}),
        }
        for i in range(len(table))
    ]


def _parts(route: Route) -> dict[str, Any]:
    """A three-way cut for JSON."""
    machines = zip(MACHINES, route.operators, route.work_ms, strict=True)
    links = zip(route.points, route.bits, route.link_ms, strict=True)
    return {
        "latency_ms": route.latency_ms,
        "machines": [
            {"name": name, "operators": list(operators), "latency_ms": ms}
            for name, operators, ms in machines
        ],
        "links": [
            {"operators": list(point.operators), "bytes": bits / 8, "latency_ms": ms}
            for point, bits, ms in links
        ],
    }


def _route_as_text(route: Route) -> str:
    header, cuts = ["", "operators", "ms", "KB sent on", "ms on the link"], "operators at the cut"
    rows = []
    for i, (name, operators) in enumerate(zip(MACHINES, route.operators, strict=True)):
        row = [name, str(len(operators)), f"{route.work_ms[i]:.2f}"]
        if i < len(route.points) and route.points[i].operators:
            row += [f"{route.bits[i] / 8e3:.1f}", f"{route.link_ms[i]:.2f}"]
            rows.append([*row, ", ".join(route.points[i].operators)])
        else:
            rows.append([*row, "", "", ""])
    return (
        f"\nbest of all three-way cuts, one device: {route.latency_ms:.2f} ms\n\n"
        f"{as_table([*header, cuts], rows, left=['', cuts])}"
    )


def _as_text(
    table: PartitionTable, codec: str, latency_ms: np.ndarray | None, best: int | None
) -> str:
    exact = "exact" if table.epsilon == 0 else f"approximate, epsilon {table.epsilon:.3g}"
    header = ["index", "KB sent", "MB held", "MMACs local", "share left", "local ms"]
    header += [] if latency_ms is None else ["total ms"]
    rows = []
    for i, operators in enumerate(table.operators):
        row = [str(i), f"{table.bits[i] / 8e3:.1f}", f"{table.head_memory_bytes[i] / 1e6:.2f}"]
        row += [f"{table.local_mmacs[i]:.1f}", f"{table.server_share[i]:.1%}"]
        row += [f"{table.local_latency_ms[i]:.2f}"]
        row += [] if latency_ms is None else [f"{latency_ms[i]:.2f}"]
        cut = ", ".join(operators) or "(full local)"
        rows.append([*row, f"{cut}  <- best" if i == best else cut])
    cuts = "operators at the cut"
    return (
        f"{table.dnn}: {len(table)} partition points"
        f" ({table.method}, {exact}, {codec}, server {table.server_model})\n\n"
        f"{as_table([*header, cuts], rows, left=[cuts])}"
    )
