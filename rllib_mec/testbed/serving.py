"""Starting the MEC server on this machine, or on a Ray cluster, and stopping it again."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rllib_mec.clusters import sigterm_kept
from rllib_mec.errors import MecError, one_line
from rllib_mec.testbed.access import Access, check_certificate, check_token, own_front, read_token
from rllib_mec.testbed.client import ServerBusy, ServerClient, ServerLost, ServerRefused
from rllib_mec.testbed.cluster import check_address, cluster
from rllib_mec.testbed.folders import own_folder
from rllib_mec.testbed.haproxy import LOOPBACK, Front, can_use_haproxy, free_port, haproxy_front
from rllib_mec.testbed.loopback import ray_on_loopback
from rllib_mec.testbed.options import ROW, ServerOptions
from rllib_mec.testbed.rows import SharedRows
from rllib_mec.testbed.running import SCHEDULER, TAIL, RunningServer, applications, finish
from rllib_mec.testbed.sources import Sources

_REQUEST_TIMEOUT_S = 60.0  # twice what a body may take
_KEEP_ALIVE_S = 65
_ROUTES_S = 30.0
_ERROR_LINE = re.compile(r"^\s*(?:[\w.]+\.)?(\w*(?:Error|Exception)): (.*)$", re.MULTILINE)


@contextlib.contextmanager
def serving(
    options: ServerOptions,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    certificate: str | None = None,
    key: str | None = None,
    ray_address: str | None = None,
    metrics_host: str = LOOPBACK,
    metrics_port: int | None = None,
    verbose: bool = False,
    note: Callable[[str], None] = lambda line: None,
) -> Iterator[RunningServer]:
    """Run the MEC server while a block runs; Ray must not be running in this process.

    Args:
        options: What to serve.
        host: Address to listen on; ``0.0.0.0`` for all.
        port: Port to listen on; 0: a free one.
        certificate: PEM file of a certificate, for TLS; None: plain HTTP.
        key: PEM file of its private key.
        ray_address: Cluster to run on; None: a Ray of our own on this machine.
        metrics_host: Address to export metrics at.
        metrics_port: Where to export metrics; None: a free port.
        verbose: Show what Ray and the replicas log.
        note: Told, in one line, why starting takes long.

    Yields:
        The server, ready for requests.

    Raises:
        MecError: The port is in use, Ray cannot start, the token or the certificate is missing or
            none, or the options are bad.
    """
    if ray_address is not None:
        check_address(ray_address)
    token = read_token(options.token_file)
    check_token(token, host)
    if (certificate is None) != (key is None):
        raise MecError("TLS needs a certificate and its key: give both")
    if certificate and key:
        check_certificate(certificate, key)
    port = _checked_port(host, port)
    with contextlib.ExitStack() as stack:
        if ray_address is None:
            stack.enter_context(ray_on_loopback())
        resolved = options.resolved()
        # Here, so that what is wrong with it is said before Ray starts.
        model = resolved.load_model()
        if options.csv:
            SharedRows(options.csv, ROW)
        uses_haproxy = ray_address is None and can_use_haproxy()
        front = _front(host, port, certificate, key, ray_address, metrics_host, metrics_port)
        if front.metrics and not uses_haproxy:
            raise MecError(f"metrics at {metrics_host} need HAProxy, which is not used here")
        folder = stack.enter_context(own_folder())
        if uses_haproxy:
            stack.enter_context(haproxy_front(front, folder))
        sources = Sources(folder / "versions", resolved)
        sources.add(1, model)
        level = logging.INFO if verbose else logging.ERROR
        try:
            log = {"log_to_driver": level < logging.ERROR, "logging_level": level}
            if ray_address is None:
                stack.enter_context(_own_ray(resolved, front.metrics_port, folder, log))
            else:
                stack.enter_context(cluster(ray_address, resolved, note, **log))
            _deploy(resolved, sources.folder, front, uses_haproxy, level)
        except ImportError as error:
            raise MecError(f"{error}: pip install 'rllib_mec[testbed]'") from None
        except MecError:
            raise
        except Exception as error:
            raise MecError(f"the server cannot start: {_cause(error)}") from None
        stack.callback(finish, resolved)
        _wait_until_answered(resolved, front)
        yield RunningServer(
            options, resolved, front, sources, model.name, model.num_points, token is not None
        )


def _front(
    host: str,
    port: int,
    certificate: str | None,
    key: str | None,
    ray_address: str | None,
    metrics_host: str,
    metrics_port: int | None,
) -> Front:
    if ray_address is not None:
        return Front(host, port, certificate, key)
    if metrics_host == LOOPBACK:
        own = metrics_port or free_port(LOOPBACK)
        return Front(host, port, certificate, key, metrics_port=own)
    elsewhere = metrics_host, _checked_port(metrics_host, metrics_port or 0)
    return Front(host, port, certificate, key, elsewhere, free_port(LOOPBACK))


@contextlib.contextmanager
def _own_ray(
    options: ServerOptions, metrics_port: int | None, folder: Path, log: dict[str, Any]
) -> Iterator[None]:
    """Run a Ray of our own, on the loopback interface."""
    import ray

    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default is for batch jobs
    # A busy machine takes longer than the 5 s after which Serve gives its front up.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    try:
        with sigterm_kept():
            ray.init(
                address="local",
                num_cpus=max(options.replicas * options.threads, os.cpu_count() or 1),
                include_dashboard=False,
                _metrics_export_port=metrics_port,
                _temp_dir=str(folder / "ray"),  # which Ray opens to everybody
                **log,
            )
        yield
    finally:
        ray.shutdown()


def _deploy(
    options: ServerOptions, sources: Path | None, front: Front, uses_haproxy: bool, level: int
) -> None:
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    from rllib_mec.testbed.scheduler_server import bind_scheduler
    from rllib_mec.testbed.server import bind_tails

    logging.getLogger("ray.serve").setLevel(level)
    quiet = LoggingConfig(log_level=level, enable_access_log=False)
    http = HTTPOptions(
        host=LOOPBACK if uses_haproxy else front.host,
        port=front.port,
        request_timeout_s=_REQUEST_TIMEOUT_S + options.deadline_s,
        keep_alive_timeout_s=_KEEP_ALIVE_S,
        ssl_keyfile=None if uses_haproxy else front.key,
        ssl_certfile=None if uses_haproxy else front.certificate,
    )
    serve.start(http_options=http, logging_config=quiet)
    served = [(TAIL, "/", bind_tails(options, sources))]
    if options.checkpoint:
        served.append((SCHEDULER, "/schedule", bind_scheduler(options, sources)))
    for name, prefix, application in served:
        serve.run(application, name=name, route_prefix=prefix, logging_config=quiet)


def _wait_until_answered(options: ServerOptions, front: Front) -> None:
    """Wait for the front to know the routes, which takes it a moment after they are deployed.

    Raises:
        MecError: It does not, as on a cluster whose Serve was started for another address.
    """
    host = LOOPBACK if front.host == "0.0.0.0" else front.host
    client = ServerClient(f"{host}:{front.port}", access=Access(tls=own_front(front.certificate)))
    give_up = time.monotonic() + _ROUTES_S
    for path in ("", "/schedule")[: len(applications(options))]:
        while True:
            try:
                client.get_json(f"{path}/v2/health/ready", 1.0)
                break
            except (ServerLost, ServerBusy, ServerRefused) as error:
                if time.monotonic() > give_up:
                    where = f"{host}:{front.port}"
                    raise MecError(f"Serve runs, but not at {where}: {error}") from None
                time.sleep(0.05)
    client.close()


def _cause(error: Exception) -> str:
    """The last error that Serve's messages name; they are whole traces of a replica's."""
    text = str(error)
    with contextlib.suppress(Exception):  # it may not run at all
        import ray
        from ray import serve

        statuses = serve.status().applications if ray.is_initialized() else {}  # else it starts one
        for application in [statuses[name] for name in (TAIL, SCHEDULER) if name in statuses]:
            text += "".join(f"\n{each.message}" for each in application.deployments.values())
    found = _ERROR_LINE.findall(text)
    if not found:
        return one_line(error)
    name, text = found[-1]
    return one_line(text if name == "MecError" else f"{name}: {text}")


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
