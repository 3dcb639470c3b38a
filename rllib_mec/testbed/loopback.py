"""A Ray of our own that no other machine can reach: all its processes stay on the loopback."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextlib.contextmanager
def ray_on_loopback() -> Iterator[None]:
    """Have the Ray that is started within the block do what it does by itself on macOS.

    It reads the switch when it is imported; if it was before, it listens on all addresses.
    """
    if "ray" in sys.modules or _SWITCH in os.environ:
        yield
        return
    os.environ[_SWITCH] = "0"
    try:
        yield
    finally:
        del os.environ[_SWITCH]


def is_on_loopback() -> bool:
    """Whether this process's Ray is one that stays on the loopback."""
    from ray._private import ray_constants

    return not ray_constants.ENABLE_RAY_CLUSTER


def keep_replica_on_loopback() -> None:
    """In a replica of such a Ray, before Serve opens its port for calls between deployments.

    Serve opens it on all addresses, and takes pickles there, which may hold any code, from whoever
    has Ray's own token.
    """
    from ray.serve._private import replica

    private: Any = replica
    if not is_on_loopback() or getattr(private.add_port_to_grpc_server, "is_ours", False):
        return
    add_port = private.add_port_to_grpc_server

    def _on_loopback(server: Any, address: str) -> int:
        return add_port(server, address.replace("[::]", "127.0.0.1"))

    _on_loopback.is_ours = True  # pyright: ignore[reportFunctionMemberAccess]
    private.add_port_to_grpc_server = _on_loopback
