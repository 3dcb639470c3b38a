"""What every request passes before a route sees it: the token, and a body that is all there.

Bodies are read here, with a deadline, so that a slow upload holds nothing that others wait for.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import Counter
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from rllib_mec.testbed.access import DEVICE_HEADER, MAX_DEVICE_NAME

UNAUTHORIZED, TOO_SLOW, TOO_LARGE, TOO_MANY, BUSY = 401, 408, 413, 429, 503
"""HTTP statuses of what does not come in."""

BODY_S = 30.0
"""A body that is not whole by then is dropped."""

DRAIN_S = 20.0
"""How long a server that was told to end waits for the requests that it has."""

MAX_UPLOADS, MAX_BUFFERED_BYTES = 16, 2**28
"""Bodies of one device, and bytes of all bodies, that are read at once."""

_LIVE = "/v2/health/live"
_OPEN = (_LIVE, "/v2/health/ready")


class Turned(Exception):
    """A request that does not come in.

    Args:
        status: The HTTP status.
        message: Why, in one line.
        retry_after_s: When to ask again; None: never.
    """

    def __init__(self, status: int, message: str, retry_after_s: float | None = None):
        """Keep all three."""
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s

    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == UNAUTHORIZED else {}
        return {**headers, **retry_after(self.retry_after_s)}


def retry_after(seconds: float | None) -> dict[str, str]:
    """Headers that say when to ask again: whole seconds for all, milliseconds for our devices.

    Args:
        seconds: How long to wait; None: nothing is said.
    """
    if seconds is None:
        return {}
    milliseconds = max(1, round(1e3 * seconds))
    return {"Retry-After": str(-(-milliseconds // 1000)), "Retry-After-Ms": str(milliseconds)}


class Rules:
    """What the door asks for; a deployment sets it when it knows.

    Attributes:
        token: What must come with every request; None: nothing.
        max_bytes: Longest body.
        body_s: How long a body may take.
        is_draining: Whether nobody comes in any more, as the server is about to end.
        inside: Requests that came in and are not answered yet.
    """

    def __init__(self) -> None:
        """Let nothing in but what is small."""
        self.token: str | None = None
        self.max_bytes = 2**16
        self.body_s = BODY_S
        self.is_draining, self.inside = False, 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Where Serve copies a class with all that it uses: those of the process, no others."""
        return _rules_of_process, ()

    async def drain(self) -> None:
        """Let nobody in any more, and wait for all who are inside, for a while at most."""
        self.is_draining = True
        give_up = time.monotonic() + DRAIN_S
        while self.inside and time.monotonic() < give_up:
            await asyncio.sleep(0.01)


RULES = Rules()
"""Those of this process, which is one replica of one deployment."""


def _rules_of_process() -> Rules:
    return RULES


class Door:
    """The ASGI middleware.

    Args:
        app: What is behind it.
        rules: What it asks for.
    """

    def __init__(self, app: Any, rules: Rules = RULES):
        """Begin with no uploads."""
        self._app, self._rules = app, rules
        self._uploads: Counter[str] = Counter()
        self._buffered = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Let a request in, or answer it; see ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        try:
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if path not in _OPEN:
                self._check_token(headers)
            body = await self._body(scope["method"], headers, receive)
            if self._rules.is_draining and path != _LIVE:
                raise Turned(BUSY, "the server is about to end", DRAIN_S)
        except Turned as no:
            answer = JSONResponse({"detail": str(no)}, no.status, no.headers())
            return await answer(scope, receive, send)
        if body is None:
            return None
        is_read = False

        async def whole() -> Any:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        self._rules.inside += 1
        try:
            return await self._app(scope, whole, send)
        finally:
            self._rules.inside -= 1

    def _check_token(self, headers: Headers) -> None:
        token = self._rules.token
        if token is None:
            return
        given = headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            what = "another token" if given else "no token"
            raise Turned(UNAUTHORIZED, f"the server asks for its token, and got {what}")

    async def _body(self, method: str, headers: Headers, receive: Any) -> bytes | None:
        """The body; None if the client went away."""
        if method in ("GET", "HEAD"):  # so that questions about health wait for nothing
            return b""
        limit, owner = self._rules.max_bytes, device_of(headers)
        announced = headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > limit:
            raise Turned(TOO_LARGE, f"{announced:.20} bytes, at most {limit} are taken")
        if self._uploads[owner] >= MAX_UPLOADS:
            raise Turned(TOO_MANY, f"{MAX_UPLOADS} requests of this device are on the way", 1.0)
        if self._buffered >= MAX_BUFFERED_BYTES:
            raise Turned(BUSY, "too many requests are on the way", 1.0)
        self._uploads[owner] += 1
        size, chunks, deadline = 0, [], time.monotonic() + self._rules.body_s
        try:
            while True:
                left = deadline - time.monotonic()
                message = await asyncio.wait_for(receive(), max(left, 0.0))
                if message["type"] == "http.disconnect":
                    return None
                size += len(message.get("body", b""))
                self._buffered += len(message.get("body", b""))
                if size > limit:
                    raise Turned(TOO_LARGE, f"more than the {limit} bytes that are taken")
                chunks.append(message.get("body", b""))
                if not message.get("more_body"):
                    return b"".join(chunks)
        except asyncio.TimeoutError:
            seconds = self._rules.body_s
            raise Turned(TOO_SLOW, f"the request was not whole within {seconds:g} s") from None
        finally:
            self._buffered -= size
            self._uploads[owner] -= 1
            if not self._uploads[owner]:
                del self._uploads[owner]


def device_of(headers: Headers) -> str:
    """The name that a request's device gives itself.

    Args:
        headers: Of the request.
    """
    return headers.get(DEVICE_HEADER, "")[:MAX_DEVICE_NAME]
