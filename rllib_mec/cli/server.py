"""Run the MEC server: tails of a DNN, and the scheduler of a trained policy, on Ray Serve.

rllib-mec server --model mobilenet_v2 --port 8600                         # this machine's own
rllib-mec server --model mobilenet_v2 --host 0.0.0.0 --token-file token   # --tls-cert, --tls-key
rllib-mec server --checkpoint ~/ray_results/emh-ppo --replicas 2          # decides, too
rllib-mec server --checkpoint ~/ray_results/emh-ppo --search 32 --search-ms 20
rllib-mec server --model my_package.my_module:make_dnn --input 3,64,64 --weights dnn.pt

SIGHUP (kill -HUP) loads weights and checkpoint again, while requests go on; SIGTERM and Ctrl-C
finish the requests at hand.
"""

from __future__ import annotations

import queue
import signal
from typing import TYPE_CHECKING, Any

from rllib_mec.cli.command import NATURAL, NEW_FILE, OK, SHAPE, command, ended_in_order, option
from rllib_mec.cli.dnn_arguments import weight_options
from rllib_mec.errors import MecError
from rllib_mec.experiments.messages import error, note
from rllib_mec.testbed.options import ServerOptions

if TYPE_CHECKING:
    from rllib_mec.testbed.running import RunningServer

_DEFAULT = ServerOptions(model="")


@command(help=__doc__)
@option("--model", help="a torchvision model, or PKG.MODULE:FACTORY (default: the checkpoint's)")
@option("--input", "input_shape", type=SHAPE, default="3,224,224", help="without the batch")
@weight_options
@option("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all")
@option("--port", type=int, default=8600, help="port to listen on; 0: any")
@option(
    "--token-file",
    metavar="FILE",
    help="holds what devices must know (default: $RLLIB_MEC_TOKEN; only 127.0.0.1 needs none)",
)
@option("--tls-cert", metavar="FILE", help="PEM certificate, for TLS")
@option("--tls-key", metavar="FILE", help="its private key")
@option("--method", default=_DEFAULT.method, help="partition points on offer")
@option("--codec", default=_DEFAULT.codec, help="what their sizes are counted in")
@option("--server-model", default=_DEFAULT.server_model, help="constant or share")
@option("--replicas", type=int, default=1, help="processes that run tails")
@option("--max-batch", type=int, default=_DEFAULT.max_batch, help="requests of a point at once")
@option(
    "--batch-float32", is_flag=True,
    help="batch float32 requests too: faster, but the last bits of results change",
)  # fmt: skip
@option("--max-queue", type=int, default=_DEFAULT.max_queue, help="requests that may wait")
@option("--threads", type=int, default=1, help="threads of a replica; devices alike")
@option("--checkpoint", metavar="DIR", help="a trained policy, to schedule with")
@option("--devices", type=int, help="N that the checkpoint must have")
@option("--deadline-ms", type=float, default=2000.0, help="how long devices wait for an absent one")
@option("--search", type=NATURAL, default=0, metavar="K", help="other decisions to try by a window")
@option("--search-ms", type=float, help="stop trying after so long")
@option("--ray-address", metavar="ADDRESS", help="a Ray cluster to run on")
@option(
    "--lease-s", type=float, default=_DEFAULT.lease_s, help="silence after which a place is free"
)
@option("--csv", type=NEW_FILE, help="add a row for each task that was finished here")
@option("--metrics-host", default="127.0.0.1", help="where to export Prometheus metrics")
@option("--metrics-port", type=int, help="and at which port (default: any)")
@option("--verbose", is_flag=True, help="show what Ray and the replicas log")
def server(
    host: str,
    port: int,
    deadline_ms: float,
    tls_cert: str | None,
    tls_key: str | None,
    ray_address: str | None,
    metrics_host: str,
    metrics_port: int | None,
    verbose: bool,
    **options: Any,
) -> int:
    """Serve until a signal comes."""
    checked = ServerOptions(**options, deadline_s=deadline_ms / 1e3)
    from rllib_mec.testbed.serving import serving

    try:
        with (
            ended_in_order(),
            serving(
                checked,
                host=host,
                port=port,
                certificate=tls_cert,
                key=tls_key,
                ray_address=ray_address,
                metrics_host=metrics_host,
                metrics_port=metrics_port,
                verbose=verbose,
                note=note,
            ) as running,
        ):
            signals: queue.SimpleQueue[int] = queue.SimpleQueue()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda number, _: signals.put(number))
            print(f"rllib-mec server: ready: {running}", flush=True)
            while signals.get() == signal.SIGHUP:
                _reload(running)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)  # a second one does not wait
    except KeyboardInterrupt:  # while it was starting
        pass
    return OK


def _reload(running: RunningServer) -> None:
    try:
        running.reload()
    except MecError as problem:
        error(f"nothing was loaded, version {running.version} goes on: {problem}")
    else:
        note(f"version {running.version} is served")
