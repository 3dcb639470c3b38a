"""HTTP to a MEC server with the standard library alone: hello, frames, and the scheduler's JSON."""

from __future__ import annotations

import http.client
import json
import math
import socket
import ssl
import time
from typing import Any, cast

from rllib_mec.errors import MecError, one_line
from rllib_mec.testbed.access import Access
from rllib_mec.testbed.frames import ERROR, FrameError, decode
from rllib_mec.testbed.hello import Hello
from rllib_mec.testbed.link import Link, LinkSocket

FRAME_TYPE, JSON_TYPE = "application/vnd.rllib-mec.frame", "application/json"
_MAX_JSON_BYTES = 2**20
BUSY = {503: "the server's queue is full", 429: "the server has enough of this device's requests"}
"""HTTP statuses of a server that may be asked again."""


class ServerLost(Exception):
    """The server cannot be reached, does not answer in time, or answers what is no answer."""


class ServerBusy(Exception):
    """The server's queue is full; it may be asked again.

    Args:
        message: What it said.
        retry_after_s: When, if it said so.
    """

    def __init__(self, message: str, retry_after_s: float | None = None):
        """Keep both."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServerRefused(Exception):
    """The server understood and said no.

    Args:
        status: The HTTP status.
        message: The server's reason.
    """

    def __init__(self, status: int, message: str):
        """Keep both."""
        super().__init__(message)
        self.status = status


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``.

    Args:
        address: As a user gives it; IPv6 in brackets.

    Raises:
        MecError: It is none.
    """
    host, colon, port = address.strip().rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise MecError(f"expected HOST:PORT, got {address!r}")
    return host.strip("[]"), int(port)


class ServerClient:
    """A kept-alive connection to one server; not for use by several threads at once.

    Args:
        address: ``HOST:PORT``.
        link: What requests go through.
        access: How to show itself to the server.

    Raises:
        MecError: The address is none.
    """

    def __init__(self, address: str, link: Link | None = None, access: Access | None = None):
        """Connect at the first request."""
        self.address, self._access = address, access or Access()
        self._host, self._port = parse_address(address)
        self._link = link or Link()
        self._connection: _Connection | None = None

    def hello(self, timeout_s: float) -> Hello:
        """Ask what the server serves.

        Args:
            timeout_s: Give up after so long.

        Raises:
            ServerLost: As :meth:`request`.
            ServerBusy: As :meth:`request`.
            ServerRefused: As :meth:`request`.
        """
        try:
            return Hello.from_json(self.get_json("/hello", timeout_s))
        except MecError as error:
            raise ServerLost(str(error)) from None

    def get_json(self, path: str, timeout_s: float) -> Any:
        """GET a JSON document; raises what :meth:`request` does.

        Args:
            path: Path of the URL.
            timeout_s: Give up after so long.
        """
        return _parsed(self.request("GET", path, b"", JSON_TYPE, timeout_s, _MAX_JSON_BYTES))

    def post_json(self, path: str, values: Any, timeout_s: float) -> Any:
        """POST JSON and return the reply's; raises what :meth:`request` does.

        Args:
            path: Path of the URL.
            values: What JSON can hold.
            timeout_s: Give up after so long.
        """
        body = json.dumps(values).encode()
        return _parsed(self.request("POST", path, body, JSON_TYPE, timeout_s, _MAX_JSON_BYTES))

    def request(
        self,
        method: str,
        path: str,
        body: bytes,
        content_type: str,
        timeout_s: float,
        max_bytes: int,
    ) -> bytes:
        """Send one request and return the body of its reply.

        Args:
            method: GET or POST.
            path: Of the route.
            body: What to send.
            content_type: Of the body.
            timeout_s: For all of it: connecting, sending over the link, and the whole reply.
            max_bytes: Longest reply to take.

        Raises:
            ServerLost: No such reply within the time.
            ServerBusy: The server's queue is full.
            ServerRefused: The server said no.
        """
        deadline = time.monotonic() + timeout_s
        reused = self._connection is not None
        try:
            try:
                status, headers, reply = self._exchange(
                    method, path, body, content_type, deadline, max_bytes
                )
            except (http.client.RemoteDisconnected, ConnectionError):
                if not reused:
                    raise
                # The server closes idle connections; asking again is safe for every route.
                self.close()
                status, headers, reply = self._exchange(
                    method, path, body, content_type, deadline, max_bytes
                )
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise ServerLost(_reason(error)) from None
        except BaseException:
            self.close()  # Ctrl-C in the middle of a reply: the next request needs another
            raise
        if status in BUSY:
            raise ServerBusy(_reason_given(reply) or BUSY[status], _retry_after_s(headers))
        if status >= 500:
            self.close()
            why = _reason_given(reply)
            raise ServerLost(f"it failed with HTTP status {status}{why and f': {why}'}")
        if status != 200:
            raise ServerRefused(status, _reason_given(reply) or f"HTTP status {status}")
        return reply

    def _exchange(
        self, method: str, path: str, body: bytes, content_type: str, deadline: float, most: int
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        if self._connection is None:
            tls = self._access.tls
            self._connection = _Connection(self._host, self._port, self._link, tls)
        self._connection.deadline = deadline
        headers = {"Content-Type": content_type, **self._access.headers()}
        self._connection.request(method, path, body or None, headers)
        response = self._connection.getresponse()
        reply = response.read(most + 1)
        if len(reply) > most:
            raise http.client.HTTPException(f"its reply is longer than {most} bytes")
        if response.length:
            raise http.client.IncompleteRead(reply, response.length)
        response.close()
        if response.will_close:
            self.close()
        return response.status, response.headers, reply

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Connection(http.client.HTTPConnection):
    """A connection whose socket goes through a link and has one deadline a request."""

    def __init__(self, host: str, port: int, link: Link, tls: ssl.SSLContext | None):
        super().__init__(host, port)
        self.deadline = 0.0
        self._link, self._tls = link, tls

    def connect(self) -> None:
        left = max(self.deadline - time.monotonic(), 1e-3)
        sock = socket.create_connection((self.host, self.port), left)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_hostname=self.host)
        self.sock = cast(Any, LinkSocket(sock, self._link, self.deadline))

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        sock = cast(LinkSocket, self.sock)
        sock.deadline = self.deadline
        sock.sendall(data)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "it refuses connections"
    if isinstance(error, socket.gaierror):
        return f"its host is not known: {error.strerror}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"it does not speak TLS as this device does: {error.reason or error}"
    if isinstance(error, OSError) or isinstance(error, http.client.RemoteDisconnected):
        return f"the connection broke: {one_line(error)}"
    return f"it answered garbage: {type(error).__name__}: {one_line(error)}"


def _reason_given(reply: bytes) -> str:
    """The reason in an error frame or a JSON reply; empty if there is none."""
    try:
        frame = decode(reply)
        if frame.kind == ERROR:
            return one_line(frame.message)
    except FrameError:
        pass
    try:
        return one_line(json.loads(reply)["detail"])
    except (ValueError, KeyError, TypeError):
        return ""


def _retry_after_s(headers: http.client.HTTPMessage) -> float | None:
    """When a busy server may be asked again, by the header in milliseconds or that in seconds."""
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        if 0 <= seconds < math.inf:
            return seconds
    return None


def _parsed(reply: bytes) -> Any:
    try:
        return json.loads(reply)
    except ValueError:
        raise ServerLost("it answered garbage: its reply is no JSON") from None
