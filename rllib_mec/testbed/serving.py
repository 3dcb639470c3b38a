"""Starting the MEC server on this machine, or on a Ray cluster, and stopping it again."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rllib_mec.errors import MecError, one_line
from rllib_mec.testbed.client import ServerBusy, ServerClient, ServerLost, ServerRefused
from rllib_mec.testbed.haproxy import free_port, haproxy_front
from rllib_mec.testbed.options import ServerOptions

TAIL, SCHEDULER = "tail", "scheduler"
"""Names of the two Serve applications."""

_REQUEST_TIMEOUT_S = 30.0  # a request that is still not whole by then is dropped
_KEEP_ALIVE_S = 65
_ROUTES_S = 30.0


@dataclass(frozen=True)
class RunningServer:
    """A server that is ready.

    Attributes:
        host: Where it listens.
        port: Where it listens.
        metrics_port: Where Ray exports its metrics, in Prometheus' format, at ``/metrics``; None:
            where the cluster does.
        model: Name of its DNN.
        num_points: Partition points on offer.
        devices: How many devices it decides for; None: it has no scheduler.
    """

    host: str
    port: int
    metrics_port: int | None
    model: str
    num_points: int
    devices: int | None

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        return f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """One line for people."""
        decides = f", scheduler for {self.devices} devices" if self.devices else ""
        metrics = f", metrics at {self.host}:{self.metrics_port}" if self.metrics_port else ""
        return f"{self.model} at {self.address}, {self.num_points} points{decides}{metrics}"


@contextlib.contextmanager
def serving(
    options: ServerOptions,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ray_address: str | None = None,
    metrics_port: int | None = None,
    verbose: bool = False,
) -> Iterator[RunningServer]:
    """Run the MEC server while a block runs; Ray must not be running in this process.

    Args:
        options: What to serve.
        host: Address to listen on; ``0.0.0.0`` for all.
        port: Port to listen on; 0: a free one.
        ray_address: Cluster to run on; None: a Ray of our own on this machine.
        metrics_port: Where to export metrics; None: a free port.
        verbose: Show what Ray and the replicas log.

    Yields:
        The server, ready for requests.

    Raises:
        MecError: The port is in use, Ray cannot start, or the options are bad.
    """
    port = _checked_port(host, port)
    options = options.resolved()
    model = options.load_model()  # here, so that what is wrong with it is said before Ray starts
    metrics_port = None if ray_address else metrics_port or free_port(host)
    with contextlib.ExitStack() as stack:
        if ray_address is None:
            stack.enter_context(haproxy_front(host))
        try:
            from ray import serve
            from ray.serve.config import HTTPOptions
            from ray.serve.schema import LoggingConfig

            from rllib_mec.testbed.scheduler_server import bind_scheduler
            from rllib_mec.testbed.server import bind_tails
        except ImportError as error:
            raise MecError(f"{error}: pip install 'rllib_mec[testbed]'") from None
        level = logging.INFO if verbose else logging.ERROR
        logging.getLogger("ray.serve").setLevel(level)
        quiet = LoggingConfig(log_level=level, enable_access_log=False)
        http = HTTPOptions(
            host=host,
            port=port,
            request_timeout_s=_REQUEST_TIMEOUT_S + options.deadline_s,
            keep_alive_timeout_s=_KEEP_ALIVE_S,
        )
        applications = [(TAIL, "/", bind_tails(options))]
        if options.checkpoint:
            applications.append((SCHEDULER, "/schedule", bind_scheduler(options)))
        try:
            stack.enter_context(_ray(ray_address, options, metrics_port, level))
            serve.start(http_options=http, logging_config=quiet)
            for name, prefix, application in applications:
                serve.run(application, name=name, route_prefix=prefix, logging_config=quiet)
                if ray_address:  # a Ray of our own takes them with it
                    stack.callback(serve.delete, name, _blocking=False)
        except Exception as error:
            raise MecError(f"the server cannot start: {one_line(error)}") from None
        paths = ["/hello", "/schedule/health"] if options.checkpoint else ["/hello"]
        _wait_until_answered("127.0.0.1" if host == "0.0.0.0" else host, port, paths)
        yield RunningServer(host, port, metrics_port, model.name, model.num_points, options.devices)


@contextlib.contextmanager
def _ray(
    address: str | None, options: ServerOptions, metrics_port: int | None, level: int
) -> Iterator[None]:
    """Connect to a cluster, or run a Ray of our own."""
    import ray

    log = {"log_to_driver": level < logging.ERROR, "logging_level": level}
    try:
        if address:
            ray.init(address=address, **log)
        else:
            os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default is for batch jobs
            # A busy machine takes longer than the 5 s after which Serve gives its front up.
            os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
            ray.init(
                address="local",
                num_cpus=max(options.replicas * options.threads, os.cpu_count() or 1),
                include_dashboard=False,
                _metrics_export_port=metrics_port,
                **log,
            )
        yield
    finally:
        ray.shutdown()


def _wait_until_answered(host: str, port: int, paths: Sequence[str]) -> None:
    """Wait for the front to know the routes, which takes it a moment after they are deployed.

    Raises:
        MecError: It does not, as on a cluster whose Serve was started for another address.
    """
    client = ServerClient(f"{host}:{port}")
    give_up = time.monotonic() + _ROUTES_S
    for path in paths:
        while True:
            try:
                client.get_json(path, 1.0)
                break
            except (ServerLost, ServerBusy, ServerRefused) as error:
                if time.monotonic() > give_up:
                    raise MecError(f"Serve runs, but not at {host}:{port}: {error}") from None
                time.sleep(0.05)
    client.close()


def _checked_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        MecError: It is in use, or the host is not one of this machine.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return probe.getsockname()[1]
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MecError(f"cannot listen on {host}:{port}: {reason}") from None
