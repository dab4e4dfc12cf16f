"""`slipstream serve RUN --port 8000`: predictions over HTTP, and a page to try them."""

from __future__ import annotations

import importlib.util
import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence

from slipstream.cli.commands import CommandParser, warnings_shown
from slipstream.core.errors import UserError
from slipstream.core.wording import install

WHAT = """Serve predictions over HTTP, with a page for typing values or dropping a file.

RUN is the folder of a run, of a member of a sweep, or of a sweep. For a sweep, the seeds or folds of its best
trial predict together. POST /predict accepts JSON rows, a CSV file, images or texts; / is the page, /docs
describes the API, /health and /metrics (Prometheus) are for monitoring. Requests that arrive together are
computed together. Ctrl-C and SIGTERM stop the server once running requests are answered, with exit codes 130
and 143."""
EXAMPLES = (
    "slipstream serve outputs/mine",
    "slipstream serve outputs/mine --port 8080 --max-rows 1000",
    "slipstream serve outputs/mine --host 0.0.0.0",
)
NEEDS = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
LARGEST_PORT = 65_535


def parser() -> CommandParser:
    """Return the command's parser."""
    made = CommandParser("serve", WHAT, EXAMPLES)
    made.add_argument("run", metavar="RUN", help="folder of a run or a sweep")
    what = "address to listen on; 127.0.0.1 (default) is only this machine, 0.0.0.0 is all networks"
    made.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help=what)
    made.add_argument("--port", type=_port, default=8000, help="8000 by default; 0 chooses a free one")
    made.add_count("--max-body", 16, "largest request in megabytes (16)")
    made.add_count("--max-rows", 10_000, "largest number of rows per request (10,000)")
    return made


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > LARGEST_PORT:
        raise ArgumentTypeError(f"found {text!r}, expected a number from 0 to {LARGEST_PORT:,}")
    return int(text)


def run(arguments: Sequence[str]) -> int:
    """Serve until a signal; return the exit code."""
    given = parser().parse_args(list(arguments))
    require_packages()
    from slipstream.core.console import console
    from slipstream.inference.ensemble import open_run
    from slipstream.inference.serving import http_server, pages
    from slipstream.inference.serving.application import Application, ServerLimits
    from slipstream.inference.serving.guard import own_hosts
    from slipstream.training.interrupts import Interrupts

    screen = console()
    limits = ServerLimits(body=given.max_body << 20, rows=given.max_rows)
    with warnings_shown(screen):
        ensemble = open_run(given.run)
    listener = http_server.bound(given.host, given.port)
    with listener, Interrupts() as interrupts:
        application = Application(ensemble, limits, given.host)
        url = http_server.url_of(listener)
        screen.print(f"{ensemble}: {pages.about(ensemble)}", soft_wrap=True)
        screen.print(
            f"{url}  (the page; {url}/docs describes the API; Ctrl-C stops the server)", soft_wrap=True
        )
        if own_hosts(given.host) is None:
            told = "anyone who can reach this address can send requests: there is no password or encryption"
            screen.print(f"warning: {told}; put a proxy with both in front of it", soft_wrap=True)
        sys.stdout.flush()
        count = http_server.serve(application, listener, interrupts)
    screen.print(f"ended by {interrupts.name}: {count:,} answered")
    return interrupts.exit_code if interrupts.received else 0


def require_packages() -> None:
    """Raise UserError, with the command to type, if packages of the extra `serve` are missing."""
    absent = [name.replace("_", "-") for name in NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(f"serve: needs {', '.join(absent)}; install with: {install('serve')}")
