"""Limits that protect the server from its clients: bytes, seconds, connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from h11 import LocalProtocolError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from slipstream.core.wording import counted
from slipstream.inference.serving.refusals import RequestError

HEADER_SECONDS = 10.0  # time limit for the head of a request
BODY_SECONDS = 30.0  # time limit for its body
DRAIN_SECONDS = 5.0  # how long the rest of a body that is too large is read and discarded
IDLE = 256  # idle connections; beyond this number the oldest is closed


async def body_of(request: Request, most: int) -> bytes:
    """Return a request's body, of which no more than the limit is ever in memory.

    Raises RequestError with status 413 for a larger body and 408 for one that does not arrive in time.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise too_large(most)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise too_large(most)
                parts.append(part)
    except TimeoutError:
        told = f"the body did not arrive within {BODY_SECONDS:g} seconds (received {counted(size, 'byte')})"
        raise RequestError(408, told) from None
    except ClientDisconnect:
        raise RequestError(400, "the client disconnected before its body arrived") from None
    return b"".join(parts)


def too_large(most: int) -> RequestError:
    """Return the error for a body that is too large."""
    told = f"the body has more than {counted(most, 'byte')}"
    return RequestError(413, f"{told}; split it, or start the server with a larger --max-body")


class ClosingResponse(Response):
    """A response that is sent before the request's body is read; the rest of the body is then discarded.

    A client that writes everything before it reads would otherwise see a broken connection, not the response.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, let the client finish, close the connection."""
        self.headers["connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def again(body: bytes) -> Receive:
    """Return an ASGI `receive` that replays a body which was already read."""

    async def receive() -> dict[str, Any]:  # an ASGI message
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class TimedConnection(H11Protocol):
    """A connection that is closed if the head of a request does not arrive in time.

    Slow or silent clients occupy no thread. At most IDLE idle connections stay open; beyond that, the one
    that has been idle longest is closed.
    """

    head_seconds = HEADER_SECONDS
    _idle: dict[TimedConnection, asyncio.TimerHandle]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Start waiting for a request."""
        # Shared by all connections of a server.
        self._idle = self.server_state.__dict__.setdefault("slipstream_idle", {})
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Stop waiting once a request has begun."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """Respond to bytes that are not HTTP, or close the connection during a request."""
        try:
            super().send_400_response(msg)
        except LocalProtocolError:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        if len(self._idle) >= IDLE:
            oldest = next(iter(self._idle))
            oldest._stop_waiting()
            oldest.transport.close()
        self._idle[self] = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        timer = self._idle.pop(self, None)
        if timer is not None:
            timer.cancel()
