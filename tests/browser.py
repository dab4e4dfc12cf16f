"""A headless Chromium, driven by its own protocol over pipes."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-dev-shm-usage", "--remote-debugging-pipe"),
)
MOST = 60.0  # seconds that anything may take


class Page:
    """A tab. errors: what the console and the log have said that is an error, and requests of other hosts."""

    def __init__(self, given: int, told: int) -> None:
        self._given, self._told, self._rest, self._count = given, told, b"", 0
        self.session: str | None = None
        self.errors: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self._given, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def js(self, code: str) -> Any:
        """The value of an expression; of a promise, what it resolves to."""
        found = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, code: str) -> Any:
        """The value of an expression once it is true."""
        until = time.monotonic() + MOST
        while time.monotonic() < until:
            if found := self.js(code):
                return found
            time.sleep(0.05)
        raise AssertionError(f"never true: {code}; {self.js('document.body.innerText')}")

    def type(self, selector: str, text: str) -> None:
        """Replace what stands in a field, as a keyboard would."""
        self.js(f"(e => {{ e.focus(); e.select(); }})(document.querySelector({json.dumps(selector)}))")
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Press the mouse on an element."""
        box = self.js(
            "(e => { e.scrollIntoView(); const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def look(self, width: int, height: int, scheme: str = "light") -> bytes:
        """A picture of the whole page in a window of this width."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def overflows(self) -> bool:
        """True if the page is wider than its window."""
        return bool(self.js("document.documentElement.scrollWidth > innerWidth"))

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + MOST
        while b"\0" not in self._rest:
            assert time.monotonic() < until, "Chromium says nothing"
            if not select.select([self._told], [], [], 1)[0]:
                continue
            piece = os.read(self._told, 1 << 20)
            assert piece, "Chromium has ended"
            self._rest += piece
        one, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(one)
        event = message.get("method", "")
        if event == "Runtime.exceptionThrown" or (
            event == "Log.entryAdded" and message["params"]["entry"]["level"] == "error"
        ):
            self.errors.append(json.dumps(message["params"]))
        if event == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if not url.startswith(("http://127.0.0.1", "data:", "blob:")):
                self.errors.append(url)
        return message


@contextmanager
def opened(url: str) -> Iterator[Page]:
    """A page that is loaded."""
    given, taken = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = f'exec "$0" "$@" 3<&{given[0]} 4>&{taken[1]}'
        with subprocess.Popen(
            ["bash", "-c", command, str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(given[0], taken[1]),
            stderr=subprocess.DEVNULL,
        ) as process:
            os.close(given[0])
            os.close(taken[1])
            page = Page(given[1], taken[0])
            try:
                target = page.call("Target.createTarget", url="about:blank")["targetId"]
                page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
                for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
                    page.call(f"{domain}.enable")
                page.call("Page.navigate", url=url)
                page.wait(
                    f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'"
                )
                yield page
            finally:
                os.close(given[1])
                process.kill()
                os.close(taken[0])
