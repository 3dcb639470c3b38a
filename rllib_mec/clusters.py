"""Connecting to a Ray cluster that runs; where there is none, one line says so at once.

``ray.init`` tries for minutes, and says of a token that is refused that it cannot connect.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from rllib_mec.errors import MecError, one_line

_NAMES = ("auto", "local")
_WAIT_S = 5.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4" + bytes(5)  # and empty settings
_HOW = "the head's `ray start --head` says its address, port 6379 by default"


def connect(address: str, **options: Any) -> None:
    """Call ``ray.init`` for a cluster, with the token of this machine if the cluster asks for one.

    Args:
        address: ``HOST:PORT`` of its head, ``auto``, ``local``, or one with a scheme (``ray://``).
        options: Others of ``ray.init``.

    Raises:
        MecError: It is no address, nobody listens there, it is no Ray, it refuses the token, or has
            another version of Ray.
    """
    import ray

    if address not in _NAMES and "://" not in address:
        _check_listens(address)
        _check_lets_in(address)
    try:
        with sigterm_kept():
            ray.init(address=address, **options)
    except Exception as error:
        raise MecError(f"no connection to the Ray cluster {address}: {one_line(error)}") from None


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Keep the handler of SIGTERM; that of ``ray.init`` prints a stack, and exits."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _check_listens(address: str) -> None:
    host, _, port = address.strip().rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise MecError(f"expected HOST:PORT of a Ray cluster, got {address!r}: {_HOW}")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _WAIT_S) as probe:
            if os.environ.get("RAY_USE_TLS", "0") in ("0", ""):
                probe.sendall(_PREFACE)
                if probe.recv(9)[3:4] != b"\4":  # the settings that every HTTP/2 begins with
                    raise MecError(f"what listens at {address} is no Ray cluster: {_HOW}")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MecError(f"no Ray cluster listens at {address}: {reason} ({_HOW})") from None


def _check_lets_in(address: str) -> None:
    from ray import _raylet
    from ray._private.authentication import authentication_token_setup as tokens
    from ray.exceptions import AuthenticationError, RpcError

    raylet: Any = _raylet
    while True:
        try:
            with _silent():
                raylet.GcsClient(address=address)
            return
        except AuthenticationError as error:
            loader = raylet.AuthenticationTokenLoader.instance()
            is_set = tokens.AUTH_MODE_ENV_VAR in os.environ
            if is_set or not loader.has_token(ignore_auth_mode=True):
                raise MecError(
                    f"the Ray cluster {address} asks for its token, which is in its head's"
                    f" ~/.ray/auth_token (RAY_AUTH_TOKEN here): {one_line(error)[:60]}"
                ) from None
            tokens._enable_token_auth()  # `ray start` does so by itself, `ray.init` does not
        except RpcError as error:
            raise MecError(
                f"what listens at {address} is no head of a Ray cluster: {one_line(error)} ({_HOW})"
            ) from None


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what Ray's C++ writes to stderr."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
