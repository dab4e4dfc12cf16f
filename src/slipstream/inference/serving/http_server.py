"""The HTTP server: uvicorn with a socket, limits and a clean shutdown on signals."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from slipstream.core.errors import UserError
from slipstream.core.types import Plain
from slipstream.inference.serving.application import Application
from slipstream.inference.serving.connections import TimedConnection
from slipstream.training.interrupts import Interrupts

GRACE = 10  # seconds that running requests have when the server stops
BACKLOG = 2048  # connections that may wait to be accepted
HEAD = 64 << 10  # the largest head of a request, in bytes


class StoppableServer(uvicorn.Server):
    """A server that stops after a signal. uvicorn itself would raise the signal again at the end."""

    interrupts: Interrupts | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `interrupts`."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Check for a signal, ten times a second."""
        if self.interrupts is not None and self.interrupts.received is not None:
            self.should_exit = True
        return await super().on_tick(counter)


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket. port: 0 chooses a free one. Raises UserError, with the option to type."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP)[0]
        return _listening(socket.socket(family, kind, protocol), address)
    except socket.gaierror as error:
        raise UserError(
            f"--host {host}: no such address ({error.strerror}); use 127.0.0.1, or 0.0.0.0 for all"
        ) from error
    except PermissionError as error:
        raise UserError(
            f"--port {port}: reserved for the administrator; use a port from 1024, such as --port 8000"
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"--port {port}: in use by another program; use another port, or --port 0 for a free one"
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise UserError(
                f"--host {host}: not an address of this machine; use 127.0.0.1, or 0.0.0.0 for all of them"
            ) from error
        raise UserError(f"--host {host} --port {port}: cannot listen ({error.strerror or error})") from error


def _listening(made: socket.socket, address: tuple[Plain, ...]) -> socket.socket:
    """Bind a socket, and close it if that fails.

    It is created with its protocol number, unlike by `socket.create_server`. Otherwise asyncio leaves Nagle's
    algorithm on, which delays the second half of a response by 40 ms.
    """
    try:
        if os.name == "posix":  # on Windows it would take over the port of another program
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def url_of(listener: socket.socket) -> str:
    """Return the address of a listening socket as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def server_of(application: Application) -> StoppableServer:
    """Return a server for the application, not yet started."""
    return StoppableServer(
        uvicorn.Config(
            application.asgi,
            http=TimedConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
            h11_max_incomplete_event_size=HEAD,
        )
    )


def serve(application: Application, listener: socket.socket, interrupts: Interrupts) -> int:
    """Serve until a signal arrives, and return the number of requests."""
    server = server_of(application)
    server.interrupts = interrupts
    try:
        server.run(sockets=[listener])
    finally:
        application.close()
    return server.server_state.total_requests


@contextmanager
def serving(application: Application) -> Iterator[str]:
    """Serve in a thread inside the block, on a free port of this machine; yield the server's URL."""
    listener = bound("127.0.0.1", 0)
    server = server_of(application)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    url = url_of(listener)
    thread.start()
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()
        application.close()
