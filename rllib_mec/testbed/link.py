"""The uplink of a device: a token bucket in front of the socket, and a deadline on every call."""

from __future__ import annotations

import io
import math
import socket
import time
from collections.abc import Callable

from rllib_mec.errors import MecError

_CHUNK_S = 1e-3  # a chunk takes this long on the link
_LEAST_CHUNK = 1460  # payload bytes of an Ethernet frame


class Link:
    """A token bucket for the bytes that a device sends; connections of one device share it.

    A chunk of the data is handed to the socket when its last bit would have left a radio of that
    rate, so the other side gets the bytes as over the real link.

    Args:
        bandwidth_mbps: Rate in Mbit/s; None does not limit it.
        clock: Seconds that pass.
        sleep: Waits for seconds.

    Raises:
        MecError: The rate is not a positive number.
    """

    def __init__(
        self,
        bandwidth_mbps: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """Begin with an idle link."""
        if bandwidth_mbps is not None and not 0 < bandwidth_mbps < math.inf:
            raise MecError(f"bandwidth_mbps must be a positive number, got {bandwidth_mbps!r}")
        self.bandwidth_mbps = bandwidth_mbps
        self._clock, self._sleep = clock, sleep
        self._free_at = -math.inf

    def seconds(self, num_bytes: int) -> float:
        """How long that many bytes take; 0 on a link without a limit.

        Args:
            num_bytes: How many.
        """
        return 0.0 if self.bandwidth_mbps is None else num_bytes / (self.bandwidth_mbps * 125e3)

    def send(self, data: bytes, send: Callable[[memoryview], object]) -> None:
        """Hand data to ``send`` at the link's rate.

        Args:
            data: What to send.
            send: Takes each chunk, such as ``socket.sendall``.
        """
        view = memoryview(data)
        if self.bandwidth_mbps is None:
            send(view)
            return
        size = max(int(self.bandwidth_mbps * 125e3 * _CHUNK_S), _LEAST_CHUNK)
        self._free_at = max(self._clock(), self._free_at)
        for start in range(0, len(view), size):
            chunk = view[start : start + size]
            # From the last chunk's end, not from now: a sleep that lasts too long is made up for.
            self._free_at += self.seconds(len(chunk))
            self._sleep(max(0.0, self._free_at - self._clock()))
            send(chunk)


class LinkSocket:
    """A connected socket behind a link, all calls of which end at one deadline.

    It offers what :mod:`http.client` asks of a socket. A timeout of the socket's own starts anew
    with every byte, so that a server that sends one byte a second would never time out.

    Args:
        sock: The connected socket; closed with this one.
        link: Where sent bytes go through.
        deadline: When, on ``time.monotonic``, calls begin to raise ``TimeoutError``; set it anew
            for each request.
    """

    def __init__(self, sock: socket.socket, link: Link, deadline: float):
        """Wrap the socket."""
        self._sock, self._link = sock, link
        self.deadline = deadline
        self._readers, self._is_closing = 0, False

    def sendall(self, data: bytes) -> None:
        """Send everything at the link's rate.

        Args:
            data: What to send.
        """
        self._link.send(data, self._send)

    def _send(self, chunk: memoryview) -> None:
        self._arm()
        self._sock.sendall(chunk)

    def recv_into(self, buffer: memoryview) -> int:
        """Read what is there.

        Args:
            buffer: Where to put it; its length is the most that is read.
        """
        self._arm()
        return self._sock.recv_into(buffer)

    def _arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)

    def makefile(self, mode: str) -> io.BufferedReader:
        """A reader of what comes in.

        Args:
            mode: ``http.client``'s, which only ever reads bytes.
        """
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def reader_closed(self) -> None:
        """Told by a reader that it reads no more."""
        self._readers -= 1
        if self._is_closing and not self._readers:
            self._sock.close()

    def close(self) -> None:
        """Close the socket once no reader needs it: a last reply may still be in it."""
        self._is_closing = True
        if not self._readers:
            self._sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, sock: LinkSocket):
        self._from = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        return self._from.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._from.reader_closed()
