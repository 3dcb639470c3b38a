"""The MEC server under load: throughput at 1, 2 and 4 replicas, overhead over the bare tail call.

Each row starts ``rllib-mec server --model mobilenet_v2`` with a number of replicas and lets
connections send the same frame, made beforehand, as fast as answers come back. Sixteen show the
throughput. One shows the overhead: it takes turns with the bare tail call in this process, so that
whatever else the machine does meets both, and the median of the differences counts. Clients and
server share the machine's cores. The last rows have Serve's own proxy in front instead of HAProxy.

    python benchmarks/testbed_server.py [--replicas 1 2 4] [--seconds 10]

About 7 minutes on 2 idle cores; on a busy machine the numbers mean little. It writes
``results/testbed_server.md`` and ``.csv``.
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
MODEL = "mobilenet_v2"
CASES = (
    (0, "float32", "the whole DNN"),
    (3, "float32", "its second half"),
    (3, "int8", "its second half"),
    (5, "float32", "its last layer"),
)
"""Partition point, codec, and what is the tail."""
CONNECTIONS = 16
HAPROXY, PYTHON = "HAProxy", "Serve's"
_SWITCHES = {HAPROXY: {}, PYTHON: {"RAY_SERVE_ENABLE_HA_PROXY": "0"}}
_WARM_UP_S = 1.0
_NOT_ALONE = "**Other processes were running: an indication only.**"


def take_turns(
    address: str, frame: bytes, bare: Callable[[], object], seconds: float
) -> tuple[list[float], list[float]]:
    """Latencies in ms of a call here and of a request to the server, in turn."""
    from rllib_mec.testbed.client import FRAME_TYPE, ServerClient

    connection = ServerClient(address)

    def request() -> None:
        connection.request("POST", "/infer", frame, FRAME_TYPE, 60.0, 2**20)

    took: tuple[list[float], list[float]] = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not took[0]:
        for own, call in zip(took, (bare, request), strict=True):
            start = time.perf_counter()
            call()
            own.append(1e3 * (time.perf_counter() - start))
    connection.close()
    return took


def load(address: str, frame: bytes, connections: int, seconds: float) -> tuple[list[float], int]:
    """Latencies in ms of the frames answered, and how often the server was busy."""
    from rllib_mec.testbed.client import FRAME_TYPE, ServerBusy, ServerClient

    latencies: list[float] = []
    busy: list[None] = []
    end = time.perf_counter() + seconds

    def client() -> None:
        connection = ServerClient(address)
        while time.perf_counter() < end:
            start = time.perf_counter()
            try:
                connection.request("POST", "/infer", frame, FRAME_TYPE, 60.0, 2**20)
                latencies.append(1e3 * (time.perf_counter() - start))
            except ServerBusy:
                busy.append(None)
                time.sleep(0.01)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, len(busy)


def start_server(replicas: int, front: str) -> tuple[subprocess.Popen, str]:
    """A server process and its address, when it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    main = "import sys; from rllib_mec.cli.mec import main; sys.exit(main())"
    options = ["--port", str(port), "--replicas", str(replicas), "--model", MODEL]
    process = subprocess.Popen(
        [sys.executable, "-c", main, "server", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", **_SWITCHES[front]},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if "ready" not in process.stdout.readline():
        raise SystemExit("the server did not start")
    return process, f"127.0.0.1:{port}"


def measure(replicas: int, front: str, seconds: float) -> list[dict]:
    """All cases at one number of replicas."""
    from rllib_mec.testbed.device import load_from
    from rllib_mec.testbed.frames import INFER, Frame, encode
    from rllib_mec.testbed.split_model import task_input
    from rllib_mec.testbed.tensors import to_blobs

    process, address = start_server(replicas, front)
    rows = []
    try:
        model, _ = load_from(address, timeout_s=60.0)
        model.warm_up()
        for point, codec, tail in CASES:
            tensors = model.head(point, task_input(model.input_shape, 0, 0))
            blobs = to_blobs(tensors, codec)
            frame = encode(Frame(INFER, bytes(16), model.fingerprint, point, codec, blobs))
            bare = functools.partial(model.tail, point, tensors)
            load(address, frame, CONNECTIONS, _WARM_UP_S)  # all replicas
            take_turns(address, frame, bare, _WARM_UP_S)
            here, there = take_turns(address, frame, bare, seconds)
            loaded, busy = load(address, frame, CONNECTIONS, seconds)
            row = {
                "front": front,
                "replicas": replicas,
                "point": point,
                "tail": tail,
                "codec": codec,
                "frame_kb": len(frame) / 1e3,
                "bare_tail_ms": statistics.median(here),
                "one_client_ms": statistics.median(there),
                "overhead_ms": statistics.median(b - a for a, b in zip(here, there, strict=True)),
                "turns": len(here),
                "throughput_per_s": len(loaded) / seconds,
                "loaded_p50_ms": statistics.median(loaded),
                "loaded_p95_ms": statistics.quantiles(loaded, n=20)[-1],
                "refused_share": busy / (busy + len(loaded)),
            }
            rows.append(row)
            print(", ".join(f"{k} {_short(v)}" for k, v in row.items()), flush=True)
    finally:
        process.terminate()
        process.wait()
    return rows


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Measure, write the results; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="where to write")
    args = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    rows = []
    runs = [(replicas, HAPROXY) for replicas in args.replicas] + [(args.replicas[0], PYTHON)]
    for i, (replicas, front) in enumerate(runs):
        print(f"[{i + 1}/{len(runs)}] {replicas} replicas behind {front}", flush=True)
        rows += measure(replicas, front, args.seconds)
    _write(rows, args, load_before)
    return 0


def report(rows: list[dict], seconds: float, machine: str, load_before: float) -> str:
    """The Markdown page."""
    command = " ".join(["python", "benchmarks/testbed_server.py", *sys.argv[1:]])
    columns = list(dict.fromkeys((row["front"], row["replicas"]) for row in rows))
    names = [f"{front}, {replicas} replica{'s'[: replicas > 1]}" for front, replicas in columns]
    lines = [
        "# The MEC server under load",
        "",
        f"`{command}`",
        "",
        f"{machine}, load average {load_before:.1f} before it began. {MODEL}, one torch thread a"
        f" replica, clients on the same cores, {seconds:g} s a measurement.",
        "",
        *([_NOT_ALONE, ""] if load_before > 0.5 else []),
        f"Throughput with {CONNECTIONS} connections, answers a second (latency p50 / p95 in ms);"
        f" at most {max(row['refused_share'] for row in rows):.1%} of the requests found the queue"
        " full:",
        "",
        f"| the server runs | codec | frame, KB | {' | '.join(names)} |",
        "|---|---|--:|" + "--:|" * len(columns),
    ]
    for point, codec, tail in CASES:
        own = {
            (row["front"], row["replicas"]): row
            for row in rows
            if (row["point"], row["codec"]) == (point, codec)
        }
        cells = [
            f"{row['throughput_per_s']:.0f}"
            f" ({row['loaded_p50_ms']:.0f} / {row['loaded_p95_ms']:.0f})"
            for row in (own[column] for column in columns)
        ]
        size = f"{own[columns[0]]['frame_kb']:.0f}"
        lines.append(f"| {tail} | {codec} | {size} | {' | '.join(cells)} |")
    lines += [
        "",
        "One connection: the overhead of a request over the bare tail call, medians in ms:",
        "",
        "| front | replicas | the server runs | codec | bare tail | request | overhead |",
        "|---|--:|---|---|--:|--:|--:|",
        *(
            f"| {row['front']} | {row['replicas']} | {row['tail']} | {row['codec']} |"
            f" {row['bare_tail_ms']:.2f} | {row['one_client_ms']:.2f} | {row['overhead_ms']:.2f} |"
            for row in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def _write(rows: list[dict], args: argparse.Namespace, load_before: float) -> None:
    from machine import describe_machine

    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "testbed_server.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = report(rows, args.seconds, describe_machine(), load_before)
    (args.out / "testbed_server.md").write_text(text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
