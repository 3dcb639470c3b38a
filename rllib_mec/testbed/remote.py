"""A MEC server as a device sees it: asked while it answers, left alone while it does not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from rllib_mec.errors import MecError
from rllib_mec.testbed.access import Access
from rllib_mec.testbed.breaker import CircuitBreaker
from rllib_mec.testbed.client import (
    FRAME_TYPE,
    ServerBusy,
    ServerClient,
    ServerLost,
    ServerRefused,
)
from rllib_mec.testbed.frames import INFER, RESULT, Frame, FrameError, decode, encode
from rllib_mec.testbed.hello import Hello
from rllib_mec.testbed.link import Link
from rllib_mec.testbed.split_model import SplitModel
from rllib_mec.testbed.tensors import result_leaves, to_blobs

TRIES_IF_BUSY = 3
_BUSY_PAUSE_S = 0.02
_REPLY_MARGIN = 4096  # headers and names of a reply's frame, beyond its tensors


class Unavailable(Exception):
    """The server did not finish the task; the message says why."""


@dataclass(frozen=True)
class Answer:
    """The server's result.

    Attributes:
        leaves: The result's tensors.
        server_ms: Time in the server, from arrival to reply.
        attempts: How often it was asked; more than 1 if its queue was full.
    """

    leaves: list[torch.Tensor]
    server_ms: float
    attempts: int


class Remote:
    """One server.

    A request has one id, however often it is sent, and is a pure function of its frame: asking
    again is safe, and a reply that is late, or another request's, is not taken for its answer.

    Args:
        address: ``HOST:PORT``.
        model: The DNN, with the server's partition points.
        link: What requests go through.
        access: How to show itself to the server.
        timeout_s: For one task, beyond the time that its bytes take on the link.
        backoff_s: How long it is left alone after a first failure, and at most.
        note: Told, in one line, when the server is lost or back.
    """

    def __init__(
        self,
        address: str,
        model: SplitModel,
        *,
        link: Link,
        access: Access,
        timeout_s: float,
        backoff_s: tuple[float, float],
        note: Callable[[str], None],
    ):
        """Ask nothing yet."""
        self.address = address
        self._model, self._link, self._timeout_s, self._note = model, link, timeout_s, note
        self._client = ServerClient(address, link, access)
        self._breaker = CircuitBreaker(*backoff_s)
        self._is_checked = False
        self._run_id, self._count = os.urandom(8), 0
        self._like = model.leaves(model.whole(model.example()))
        self._most_bytes = _REPLY_MARGIN + sum(t.nbytes + 256 for t in self._like)

    def connect(self) -> Hello:
        """Ask who it is, and note if its results can differ from those here.

        Raises:
            MecError: It is out of reach, or serves something else.
        """
        try:
            hello = self._greet(self._timeout_s)
        except (ServerLost, ServerBusy, ServerRefused) as error:
            raise MecError(f"the server {self.address}: {error}") from None
        if not hello.exact:
            self._note(f"the server {self.address} batches float32 requests: last bits may differ")
        elif hello.fingerprint != self._model.fingerprint:
            self._note(f"the server {self.address} has newer weights: start anew to have them, too")
        elif hello.probe_digest != self._model.probe_digest():
            self._note(
                f"the server {self.address} computes other last bits than this machine:"
                " another processor, torch or number of threads"
            )
        return hello

    def _greet(self, timeout_s: float) -> Hello:
        hello = self._client.hello(timeout_s)
        problem = mismatch(self._model, hello)
        if problem:
            raise ServerRefused(0, problem)
        self._is_checked = True
        return hello

    def check(self) -> None:
        """Find out, before work is done for it, whether to send it a task.

        Raises:
            Unavailable: It failed a short while ago, or has not come back.
        """
        if not self._breaker.allows():
            raise Unavailable("the server is out of reach")
        if not self._is_checked:
            try:
                self._greet(self._timeout_s / 2)
            except (ServerLost, ServerBusy, ServerRefused) as error:
                raise self._failed(error) from None

    def infer(self, payload: bytes) -> Answer:
        """Have it finish a task.

        Args:
            payload: What :meth:`frame` returned.

        Raises:
            Unavailable: It did not, for whatever reason.
        """
        request_id = payload[12:28]
        deadline = time.monotonic() + self._timeout_s + self._link.seconds(len(payload))
        try:
            for attempt in range(TRIES_IF_BUSY):
                try:
                    reply = self._client.request(
                        "POST",
                        "/infer",
                        payload,
                        FRAME_TYPE,
                        deadline - time.monotonic(),
                        self._most_bytes,
                    )
                    break
                except ServerBusy as busy:
                    pause_s = max(_BUSY_PAUSE_S * 2**attempt, busy.retry_after_s or 0.0)
                    if attempt + 1 == TRIES_IF_BUSY or time.monotonic() + pause_s > deadline:
                        raise
                    time.sleep(pause_s)
            answer = self._answer(reply, request_id, attempt + 1)
        except FrameError as error:
            self._client.close()
            raise self._failed(ServerLost(f"it answered garbage: {error}")) from None
        except (ServerLost, ServerBusy, ServerRefused) as error:
            raise self._failed(error) from None
        if not self._breaker.is_closed:
            self._note(f"the server {self.address} is back")
        self._breaker.succeeded()
        return answer

    def frame(self, point: int, codec: str, tensors: dict[str, torch.Tensor]) -> bytes:
        """The frame of a new request.

        Args:
            point: Partition point of the task.
            codec: How to code what is sent.
            tensors: What is sent, by name.

        Raises:
            MecError: The codec cannot code the tensors.
        """
        self._count += 1
        request_id = self._run_id + self._count.to_bytes(8, "little")
        blobs = to_blobs(tensors, codec)
        return encode(Frame(INFER, request_id, self._model.fingerprint, point, codec, blobs))

    def _answer(self, reply: bytes, request_id: bytes, attempts: int) -> Answer:
        frame = decode(reply, self._most_bytes)
        if frame.kind != RESULT or frame.request_id != request_id:
            raise FrameError("the reply is not this request's result")
        if frame.fingerprint != self._model.fingerprint:
            raise FrameError("the reply is of another DNN")
        leaves = result_leaves(frame, self._like)
        return Answer(leaves, frame.server_us / 1e3, attempts)

    def _failed(self, error: Exception) -> Unavailable:
        if self._breaker.is_closed:
            self._note(f"the server {self.address}: {error}; going on locally")
        self._breaker.failed()
        # One that was only busy is still the same; any other may come back with other weights.
        self._is_checked = self._is_checked and isinstance(error, ServerBusy)
        return Unavailable(f"the server: {error}")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def mismatch(model: SplitModel, hello: Hello) -> str:
    """Why a device with this DNN cannot work with that server, in one line; empty if it can.

    Args:
        model: The device's.
        hello: What the server says it serves.
    """
    if hello.model != model.name:
        return f"it serves {hello.model!r}, not {model.name!r}"
    if hello.input_shape != model.input_shape:
        return f"it takes inputs of shape {hello.input_shape}, not {model.input_shape}"
    if hello.heads != tuple(point.head for point in model.points):
        return "it has other partition points"
    if model.fingerprint not in (hello.fingerprint, *hello.older):
        return "it has other weights: give both sides the same --seed or --weights"
    return ""
