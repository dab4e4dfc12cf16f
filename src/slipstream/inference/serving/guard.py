"""Checks around every request: its Host header, its time limit, its count, the response headers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection
from contextlib import suppress
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipstream.inference.serving.metrics_page import ServerMetrics

SECONDS = 120.0  # time limit for computing and sending a response
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class Guard:
    """Wraps the application with the checks that apply to every request.

    hosts: names that a request's Host header may have; None for any. Without this check, a foreign web page
    in a browser could reach a server on this machine under its own domain name (DNS rebinding).
    """

    def __init__(
        self, app: ASGIApp, metrics: ServerMetrics, paths: Collection[str], hosts: Collection[str] | None
    ) -> None:
        self.app, self.metrics, self.paths, self.hosts = app, metrics, frozenset(paths), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        begun, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        try:
            async with asyncio.timeout(SECONDS):
                if self._is_own(scope):
                    await self.app(scope, receive, counted)
                else:
                    await _plain(counted, 421, "the Host header is not an address of this server")
        except TimeoutError:
            if not status:
                with suppress(OSError):
                    await _plain(counted, 503, f"the answer took more than {SECONDS:g} seconds")
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.answered(path, status or 500, time.perf_counter() - begun)

    def _is_own(self, scope: Scope) -> bool:
        if self.hosts is None:
            return True
        said = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        name = said.rpartition("]")[0].lstrip("[") if said.startswith("[") else said.partition(":")[0]
        return name.lower() in self.hosts


def own_hosts(host: str) -> frozenset[str] | None:
    """Return the host names that a server on this host accepts; None for any.

    >>> sorted(own_hosts("127.0.0.1")), own_hosts("0.0.0.0")
    (['127.0.0.1', '::1', 'localhost'], None)
    """
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return frozenset({"localhost", "127.0.0.1", "::1", host}) if loopback else None


async def _plain(send: Send, status: int, told: str) -> None:
    body = json.dumps({"detail": told}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
