"""Run the MEC server: tails of a DNN, and the scheduler of a trained policy, on Ray Serve.

rllib-mec server --model mobilenet_v2 --port 8600 --host 0.0.0.0
rllib-mec server --checkpoint ~/ray_results/emh-ppo --replicas 2          # decides, too
rllib-mec server --model my_package.my_module:make_dnn --input 3,64,64 --weights dnn.pt
"""

from __future__ import annotations

import argparse
import signal
import threading

from rllib_mec.cli.dnn_arguments import add_weights, input_shape
from rllib_mec.testbed.options import ServerOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    default = ServerOptions(model="")
    add = parser.add_argument
    add("--model", help="a torchvision model, or PKG.MODULE:FACTORY (default: the checkpoint's)")
    add("--input", default="3,224,224", metavar="C,H,W", help="input shape without the batch")
    add_weights(parser)
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all")
    add("--port", type=int, default=8600, help="port to listen on; 0: any (default 8600)")
    add("--method", default=default.method, help="partition points on offer (default pareto)")
    add("--codec", default=default.codec, help="what their sizes are counted in (default float32)")
    add("--server-model", default=default.server_model, help="constant or share (default constant)")
    add("--replicas", type=int, default=1, help="processes that run tails (default 1)")
    add("--max-batch", type=int, default=default.max_batch, help="requests of a point run together")
    add(
        "--batch-float32",
        action="store_true",
        help="batch float32 requests too: faster, but the last bits of results change",
    )
    add("--max-queue", type=int, default=default.max_queue, help="requests that may wait")
    add("--threads", type=int, default=1, help="threads of a replica; devices alike (default 1)")
    add("--checkpoint", metavar="DIR", help="a trained policy, to schedule with")
    add("--devices", type=int, help="N that the checkpoint must have")
    add("--deadline-ms", type=float, default=2000.0, help="how long devices wait for an absent one")
    add("--ray-address", metavar="ADDRESS", help="a Ray cluster to run on")
    add("--metrics-port", type=int, help="where to export Prometheus metrics (default: any)")
    add("--verbose", action="store_true", help="show what Ray and the replicas log")


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes.

    Returns:
        0.

    Raises:
        MecError: Something wrong with an argument, or a port in use.
    """
    options = ServerOptions(
        model=arguments.model,
        input_shape=input_shape(arguments.input),
        seed=arguments.seed,
        weights=arguments.weights,
        method=arguments.method,
        codec=arguments.codec,
        server_model=arguments.server_model,
        replicas=arguments.replicas,
        max_batch=arguments.max_batch,
        batch_float32=arguments.batch_float32,
        max_queue=arguments.max_queue,
        threads=arguments.threads,
        checkpoint=arguments.checkpoint,
        devices=arguments.devices,
        deadline_s=arguments.deadline_ms / 1e3,
    )
    from rllib_mec.testbed.serving import serving

    try:
        with serving(
            options,
            host=arguments.host,
            port=arguments.port,
            ray_address=arguments.ray_address,
            metrics_port=arguments.metrics_port,
            verbose=arguments.verbose,
        ) as server:
            stop = threading.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
            print(f"rllib-mec server: ready: {server}", flush=True)
            stop.wait()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)  # a second one does not wait
    except KeyboardInterrupt:  # while it was starting
        pass
    return 0
