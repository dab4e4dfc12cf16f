"""The application: paths, content types, and the way from a request to examples, a batch and a response."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from slipstream.core.errors import did_you_mean
from slipstream.core.types import Plain
from slipstream.core.version import __version__
from slipstream.core.wording import counted
from slipstream.data.messages import brief
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.serving import pages
from slipstream.inference.serving.answers import AnswerWriter
from slipstream.inference.serving.batching import Batcher
from slipstream.inference.serving.computing import Answer, Question, compute
from slipstream.inference.serving.connections import ClosingResponse, body_of
from slipstream.inference.serving.guard import Guard, own_hosts
from slipstream.inference.serving.metrics_page import ServerMetrics
from slipstream.inference.serving.openapi import request_body, responses
from slipstream.inference.serving.refusals import RequestError
from slipstream.inference.serving.row_checking import RequestRows, RowChecker
from slipstream.inference.serving.row_reading import csv_rows, json_of, lines_of
from slipstream.inference.serving.uploads import Upload, images_of, uploads_of

USUAL_BATCH = 16  # requests in the computation that is timed at startup
QUICK = 0.05  # seconds; a network that is faster than this on one thread uses only one
SMALL = 1 << 16  # bytes; a smaller body is parsed on the event loop
CSV = ("text/csv", "application/csv", "text/tab-separated-values")
EXPLAIN = {"true": True, "1": True, "false": False, "0": False, "": True}


@dataclass(frozen=True)
class ServerLimits:
    """The limits of a request (bytes, rows, rows to explain) and of the queue.

    batch: rows computed together. queue: rows that may wait.
    """

    body: int = 16 << 20
    rows: int = 10_000
    explained: int = 20
    batch: int = 1024
    queue: int = 100_000


class Application:
    """A run served over HTTP. `asgi` is the ASGI application that a server runs."""

    def __init__(self, ensemble: Ensemble, limits: ServerLimits, host: str = "127.0.0.1") -> None:
        self.ensemble, self.limits = ensemble, limits
        self.checker, self.writer = RowChecker(ensemble, limits.rows), AnswerWriter(ensemble)
        self.inputs, self.metrics = self.checker.inputs, ServerMetrics()
        self.batcher: Batcher[Question, Answer] = Batcher(
            partial(compute, ensemble), limits.batch, limits.queue, self.metrics.batch
        )
        # One thread, because catching Pillow's warnings changes state of the whole process.
        self.decoder = ThreadPoolExecutor(1, "slipstream-images")
        self.body = request_body(self.inputs)
        self.example = self._first_answer()
        self.page, self.page_policy = pages.try_page(ensemble, self.inputs, limits.body)
        app = self._routes()
        paths = [path.partition(" ")[2] for path in pages.PATHS]
        self.asgi: ASGIApp = Guard(app, self.metrics, paths, own_hosts(host))

    def close(self) -> None:
        """Stop the threads."""
        self.batcher.close()
        self.decoder.shutdown(wait=False)

    def _first_answer(self) -> dict[str, Plain]:
        """Predict the example, so that the first request does not pay for lazy loading.

        A network that is fast on one thread keeps one: more threads would cost more than they save, and
        compete with the thread that reads requests.
        """
        examples = self.checker.of_json(self.inputs.example)
        questions = [Question(examples)] * USUAL_BATCH
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        compute(self.ensemble, questions)
        begun = time.perf_counter()
        (answer, *_) = compute(self.ensemble, questions)
        if time.perf_counter() - begun > QUICK:
            torch.set_num_threads(threads)
        return self.writer.to_json(answer, examples.ids) if isinstance(answer, Answer) else answer.to_json()

    def _routes(self) -> FastAPI:
        app = FastAPI(
            title=f"slipstream: {self.ensemble.path}",
            description=pages.about(self.ensemble),
            version=__version__,
            docs_url=None,
            redoc_url=None,
        )
        most = counted(self.limits.explained, "row")
        explain = {
            "name": "explain",
            "in": "query",
            "description": f"also return what moved each prediction, for at most {most}",
            "schema": {"type": "boolean", "default": False},
        }
        app.post(
            "/predict",
            summary="Predict rows, images, texts or sequences",
            response_class=Response,
            responses=responses(self.ensemble),
            openapi_extra={"requestBody": self.body, "parameters": [explain]},
        )(self.predict)
        # FastAPI's route documents the path; this one answers it, without resolving dependencies.
        app.router.routes.insert(0, Route("/predict", self.predict, methods=["POST"]))
        app.get("/health", summary="Status of the server and the run that it serves")(self.health)
        app.get("/metrics", summary="Counters and timings for Prometheus", response_class=Response)(
            self.scrape
        )
        app.get("/", include_in_schema=False)(self.show)
        app.get("/docs", include_in_schema=False)(self.docs)
        app.add_exception_handler(RequestError, _refused)
        app.add_exception_handler(HTTPException, _no_such_path)
        app.add_exception_handler(Exception, _broken)
        return app

    async def predict(self, request: Request) -> Response:
        """Return a prediction for each row, image, text or sequence of the body, in order."""
        explains = self._explains(request)
        examples = await self._examples(request)
        if explains and examples.count > self.limits.explained:
            most = counted(self.limits.explained, "row")
            raise RequestError(422, f"explain=true accepts at most {most}, found {examples.count:,}")
        answer = await self.batcher.ask(Question(examples, explains), examples.count)
        return _json(self.writer.to_json(answer, examples.ids))

    async def health(self) -> dict[str, Plain]:
        """Return the status and a description of the run."""
        return {
            "status": "ok",
            "run": str(self.ensemble.path),
            "networks": len(self.ensemble.models),
            "task": self.ensemble.target.task,
            "takes": self.inputs.layout,
            "slipstream": __version__,
        }

    async def scrape(self) -> Response:
        """Return the metrics."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def show(self) -> Response:
        """Return the page for trying the run in a browser."""
        return _html(self.page, self.page_policy)

    async def docs(self, request: Request) -> Response:
        """Return the page that documents the API."""
        origin = f"{request.url.scheme}://{request.url.netloc}"
        return _html(*pages.docs_page(self.ensemble, self.inputs, self.body, self.example, origin))

    def _explains(self, request: Request) -> bool:
        given = request.query_params
        for name in given:
            if name != "explain":
                raise RequestError(422, f"?{name}: no such parameter, {did_you_mean(name, ['explain'])}")
        word = given.get("explain", "false").lower()
        if word not in EXPLAIN:
            raise RequestError(422, f"?explain: found {brief(word)}, expected true or false")
        return EXPLAIN[word]

    async def _examples(self, request: Request) -> RequestRows:
        """Return the examples of a request's body."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.headers.get("content-encoding", "identity") != "identity":
            raise RequestError(415, "Content-Encoding: the body is compressed; send it uncompressed")
        form = kind == "multipart/form-data" and "multipart/form-data" in self.body["content"]
        if not form:
            self._reader(kind)
        body = await body_of(request, self.limits.body)
        if not form:
            files = [Upload("the body", kind, body)]
        else:
            files = await uploads_of(request, body, self.limits.rows)
        kinds = {file.kind for file in files}
        if len(files) > 1 and not all(kind.startswith("image/") for kind in kinds):
            raise RequestError(422, f"found {counted(len(files), 'file')}, expected one, or several images")
        read = self._reader(files[0].kind)
        if self.inputs.layout == "images" and "json" not in files[0].kind:
            return await asyncio.get_running_loop().run_in_executor(self.decoder, read, files)
        return read(files) if len(body) < SMALL else await asyncio.to_thread(read, files)

    def _reader(self, kind: str) -> Callable[[Sequence[Upload]], RequestRows]:
        """Return the reader of a media type. Raises RequestError if this run does not accept the type."""
        layout, rows = self.inputs.layout, self.limits.rows
        settings = self.ensemble.first.data
        if kind == "application/json" or kind.endswith("+json"):
            return lambda files: self.checker.of_json(json_of(files[0].content))
        if layout == "images" and (kind.startswith("image/") or kind == "application/octet-stream"):
            return lambda files: images_of(self.ensemble, files)
        if layout == "texts" and kind == "text/plain":
            return lambda files: self.checker.of_rows(lines_of(files[0].content, rows), strict=False)
        if layout in ("table", "steps", "texts") and kind in CSV:
            return lambda files: self.checker.of_csv(csv_rows(files[0].content, settings, rows))
        found = f"Content-Type: {kind}" if kind else "no Content-Type"
        takes = ", ".join(self.body["content"])
        raise RequestError(
            415,
            f"{found}: this run accepts {takes}; set the header, as curl does with "
            "-H 'Content-Type: application/json'",
        )


def _json(told: Plain, status: int = 200) -> Response:
    body = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, status, media_type="application/json")


def _html(page: str, policy: str) -> Response:
    return Response(page, headers={"content-security-policy": policy}, media_type="text/html; charset=utf-8")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    if error.status in (408, 413):
        body = json.dumps(error.to_json(), ensure_ascii=False).encode()
        return ClosingResponse(body, error.status, media_type="application/json")
    answer = _json(error.to_json(), error.status)
    if error.status == 503:
        answer.headers["retry-after"] = "1"
    return answer


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, method = request.url.path, request.method
    there = [one.partition(" ")[2] for one in pages.PATHS]
    if error.status_code == 405:
        told = f"{method} {path}: expected {next(one for one in pages.PATHS if one.endswith(f' {path}'))}"
    elif error.status_code == 404:
        told = f"{brief(path)}: no such path, {did_you_mean(path, there)}"
    else:
        told = str(error.detail)
    answer = _json({"detail": told}, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _broken(request: Request, error: Exception) -> Response:
    """Return the response for a bug, whose traceback goes only to the server's log."""
    return _json({"detail": "internal error; the server's log has the traceback"}, 500)
