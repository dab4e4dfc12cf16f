"""A trained run, and requests to a server of it."""

from __future__ import annotations

import http.client
import json
import warnings
from urllib.parse import urlsplit

import slipstream

QUIET = ("trainer.progress=none", "logger=none", "trainer.device=cpu")


def trained(folder, *words):
    """The folder of a run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return slipstream.train(slipstream.compose(*words, *QUIET), folder).directory


class Asked:
    """An answer: status, headers, and its body as JSON or text."""

    def __init__(self, response):
        self.status, self.headers = response.status, response.headers
        text = response.read().decode()
        self.body = json.loads(text) if "json" in self.headers.get("content-type", "") else text

    @property
    def told(self):
        return self.body["detail"]


def ask(url, path="/predict", method=None, body=None, kind="application/json", **headers):
    """Send one request; what is no bytes is sent as JSON."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    method = method or ("GET" if body is None else "POST")
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    given = ({"Content-Type": kind} if body is not None and kind else {}) | named
    try:
        connection.request(method, path, body=body, headers=given)
        return Asked(connection.getresponse())
    finally:
        connection.close()


def multipart(*files):
    """The body and content type of a form with files: (name, media type, content)."""
    parts = [
        f'--XX\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'.encode()
        + f"Content-Type: {kind}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, kind, content in files
    ]
    return b"".join(parts) + b"--XX--\r\n", "multipart/form-data; boundary=XX"
