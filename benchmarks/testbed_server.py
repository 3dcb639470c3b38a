"""The MEC server under load: throughput at 1, 2 and 4 replicas, overhead over the bare tail call.

Each row starts ``rllib-mec server --model mobilenet_v2`` with a number of replicas and lets
connections send the same frame, made beforehand, as fast as answers come back. One connection
shows the latency, of which the bare tail call in this process takes its part; sixteen show the
throughput. Clients and server share the machine's cores. The last rows have Serve's own proxy in
front instead of HAProxy.

    python benchmarks/testbed_server.py [--replicas 1 2 4] [--seconds 10]

About 6 minutes on 2 cores. It writes ``results/testbed_server.md`` and ``.csv``.
"""

from __future__ import annotations

import argparse
import csv
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
MODEL = "mobilenet_v2"
CASES = ((0, "float32"), (3, "float32"), (3, "int8"), (5, "float32"))
"""Partition point and codec: the whole DNN, its second half in two codecs, its last layer."""
CONNECTIONS = 16
HAPROXY, PYTHON = "HAProxy", "Serve's"
_SWITCHES = {HAPROXY: {}, PYTHON: {"RAY_SERVE_ENABLE_HA_PROXY": "0"}}
_HEADINGS = (
    "front", "replicas", "point", "codec", "frame, KB", "bare tail, ms", "one client, p50 ms",
    "overhead, ms", "under load, 1/s", "its p50, ms", "its p95, ms", "refused share",
)  # fmt: skip
_NOT_ALONE = "**Other processes were running: an indication only.**"


def bare_tail_ms(model, point: int, tensors) -> float:
    """Median of the tail call in this process."""
    times = []
    for _ in range(50):
        start = time.perf_counter()
        model.tail(point, tensors)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


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
        for point, codec in CASES:
            tensors = model.head(point, task_input(model.input_shape, 0, 0))
            blobs = to_blobs(tensors, codec)
            frame = encode(Frame(INFER, bytes(16), model.fingerprint, point, codec, blobs))
            bare = bare_tail_ms(model, point, tensors)
            load(address, frame, CONNECTIONS, 1.0)
            alone, _ = load(address, frame, 1, seconds / 2)
            loaded, busy = load(address, frame, CONNECTIONS, seconds)
            one = statistics.median(alone)
            row = {
                "front": front,
                "replicas": replicas,
                "point": point,
                "codec": codec,
                "frame_kb": len(frame) / 1e3,
                "bare_tail_ms": bare,
                "one_p50_ms": one,
                "overhead_ms": one - bare,
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
    parser.add_argument("--seconds", type=float, default=10.0)
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


def _write(rows: list[dict], args: argparse.Namespace, load_before: float) -> None:
    from machine import describe_machine

    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "testbed_server.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    seconds = f"{args.seconds:g} s a case, {CONNECTIONS} connections"
    lines = [
        f"The MEC server with {MODEL}, {seconds}; one torch thread a replica, clients on the same"
        " cores. Command: `python benchmarks/testbed_server.py`. Machine:"
        f" {describe_machine()}, load average {load_before:.1f} before it began.",
        "",
        *([_NOT_ALONE, ""] if load_before > 0.5 else []),
        "| " + " | ".join(_HEADINGS) + " |",
        "|" + "---|" * len(_HEADINGS),
        *("| " + " | ".join(_short(value) for value in row.values()) + " |" for row in rows),
    ]
    text = "\n".join(lines) + "\n"
    (RESULTS / "testbed_server.md").write_text(text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
