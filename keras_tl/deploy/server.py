"""Serve finished runs: a web page, and an API for programs."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import prometheus_client as prometheus
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from keras_tl import errors
from keras_tl.deploy import guard, hosting, schemas, uploads
from keras_tl.deploy.batching import FullError, Room
from keras_tl.deploy.uploads import Limits

# The page: path -> file in assets/serve, and its type.
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/serve.css": ("serve.css", "text/css; charset=utf-8"),
    "/serve.js": ("serve.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# Paths that are counted by name.
COUNTED = (*PAGE, "/v1/predict", "/v1/correct", "/v1/models", "/healthz", "/readyz")


class Metrics:
    """What Prometheus reads of a server."""

    def __init__(self):
        self.registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "keras_tl_requests",
            "Requests, by what was asked and the status of the answer.",
            ["path", "status"],
            registry=self.registry,
        )
        self.seconds = prometheus.Histogram(
            "keras_tl_predict_seconds",
            "Seconds from a request to its predictions.",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
            registry=self.registry,
        )
        self.batch = prometheus.Histogram(
            "keras_tl_batch_examples",
            "Examples that were computed together.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.inside = prometheus.Gauge(
            "keras_tl_examples_inside",
            "Examples that are decoded, wait or are computed.",
            registry=self.registry,
        )


class Service:
    """What the routes of a server share.

    Args:
        host: The runs.
        limits: What a request may ask for.
        queue: Most examples that are inside at a time.
        metrics: What is counted.
    """

    def __init__(
        self, host: hosting.Host, limits: Limits, queue: int, metrics: Metrics
    ):
        self.host, self.limits, self.metrics = host, limits, metrics
        self.room = Room(queue)
        metrics.inside.set_function(lambda: self.room.inside)
        self._threads = ThreadPoolExecutor(os.cpu_count(), "decoder")

    def close(self) -> None:
        """Answer what waits, and stop."""
        self._threads.shutdown()
        self.host.close()

    def chosen(self, names: list[str], given: uploads.Inputs) -> list[hosting.Hosted]:
        """Return the runs that a request names.

        Raises:
            HTTPException: One that is not served, or that takes other examples.
        """
        chosen = [self.host.find(n) for n in names or self.host.names[:1]]
        if None in chosen:
            raise HTTPException(404, "No model of this name is served: see /v1/models.")
        asked = "images" if given.images else "texts"
        for one in chosen:
            if one.accepts != asked:
                raise HTTPException(
                    422, f"The model takes {one.accepts}, and {asked} came."
                )
        return chosen

    async def in_thread(self, function, *arguments):
        """Run a function beside the loop; decoding has as many threads as cores."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)

    async def predict(self, question: uploads.Question) -> list[dict]:
        """Return the answers to a request, of each model that it names.

        Raises:
            HTTPException: None of its examples can be used.
            FullError: There is no room for it.
        """
        chosen = self.chosen(question.model, question)
        examples = question.images or question.texts
        engines = {id(hosted.engine): hosted for hosted in chosen}
        with self.room.take(len(examples) * len(engines)):
            computed = await asyncio.gather(
                *(self._compute(one, examples) for one in engines.values())
            )
            outputs = dict(zip(engines, computed, strict=True))
            answers = [
                await self._results(hosted, question, *outputs[id(hosted.engine)])
                for hosted in chosen
            ]
        if all("error" in one for results in answers for one in results):
            raise HTTPException(422, answers[0][0]["error"])
        return [
            {"model": hosted.name, "results": results}
            for hosted, results in zip(chosen, answers, strict=True)
        ]

    async def _compute(self, hosted, examples) -> tuple:
        """Return what the engine gives for the good examples, and what is wrong."""

        async def prepared(example):
            try:
                return await self.in_thread(hosted.prepare, example, self.limits)
            except errors.InputError as error:
                return {"error": str(error)}

        rows = await asyncio.gather(*map(prepared, examples))
        good = [row for row in rows if not isinstance(row, dict)]
        problems = [row if isinstance(row, dict) else None for row in rows]
        if not good:
            return None, problems
        future = self.host.batcher.submit(hosted.engine, good)
        return await asyncio.wrap_future(future), problems

    async def _results(self, hosted, question, outputs, problems) -> list[dict]:
        found = iter(())
        if outputs is not None:
            found = iter(
                await self.in_thread(hosting.results, hosted, question, outputs)
            )
        return [problem or next(found) for problem in problems]

    async def correct(self, given: uploads.Correction) -> dict:
        """Keep an example with its right label.

        Raises:
            HTTPException: It is not one example, or cannot be kept.
        """
        (hosted,) = self.chosen(given.model, given)
        examples = given.images or given.texts
        if len(examples) != 1:
            raise HTTPException(422, "A correction is about one image or text.")

        def check():
            hosted.corrections.check(given.label)
            hosted.prepare(examples[0], self.limits)

        def keep():
            example = examples[0]
            if hosted.model.kind == "image":
                example = uploads.content_of(example)
            return hosted.corrections.add(example, given.label)

        with self.room.take(1):
            try:
                await self.in_thread(check)
            except errors.InputError as error:
                raise HTTPException(422, str(error)) from None
            try:
                return {"model": hosted.name, "kept": await self.in_thread(keep)}
            except errors.InputError as error:
                print(f"A correction of {hosted.name}: {error}", file=sys.stderr)
                raise HTTPException(
                    507, "It could not be kept; the server's log says why."
                ) from None


def make_app(
    runs: Mapping[str, Path],
    *,
    limits: Limits | None = None,
    queue: int = 256,
    token: str | None = None,
    hosts: tuple[str, ...] | None = guard.LOOPBACK,
    corrections: Path | None = None,
) -> FastAPI:
    """Make the application of a server, with its runs loaded.

    Args:
        runs: Name -> folder of the run, the first the default.
        limits: What a request may ask for.
        queue: Most examples that are inside at a time.
        token: What clients need to know; `None` asks for none.
        hosts: Names by which the server may be called; `None` allows all.
        corrections: Folder for corrected examples; beside each run by default.

    Raises:
        InputError: A run that cannot be used.
    """
    limits = limits or Limits()
    metrics = Metrics()
    host = hosting.Host(runs, corrections, metrics.batch.observe)
    service = Service(host, limits, queue, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="keras-tl serve",
        version="1",
        description="Predictions of finished runs.",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    _add_errors(app)
    _add_pages(app)
    _add_state(app, service, metrics)
    _add_models(app, service, token)

    def observe(path, status):
        # Paths that do not exist are the clients'.
        known = path if path in COUNTED else "other"
        metrics.requests.labels(known, status).inc()

    app.add_middleware(
        guard.Guard, limits=limits, token=token, hosts=hosts, observe=observe
    )
    return app


def _add_errors(app):
    """Answer every error with one sentence as JSON."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException):
        return guard.answer(error.status_code, str(error.detail), **error.headers or {})

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError):
        return guard.answer(422, "The request cannot be read.")

    @app.exception_handler(FullError)
    async def full(request: Request, error: FullError):
        service = request.app.state.service
        seconds = service.host.batcher.seconds_for(service.room.inside)
        return guard.full(seconds)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect):
        return Response(status_code=499)

    # Starlette raises it again afterwards, for the log.
    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception):
        return guard.answer(500, "The server has failed; its log says why.")


def _add_pages(app):
    folder = Path(__file__).parents[1] / "assets" / "serve"
    for path, (name, kind) in PAGE.items():
        page = _page((folder / name).read_bytes(), kind)
        app.add_route(path, page, include_in_schema=False)


def _page(content, kind):
    async def page(request: Request) -> Response:
        return Response(content, media_type=kind)

    return page


def _add_state(app, service, metrics):
    @app.get("/healthz", response_model=schemas.State)
    async def healthz():
        """Say that the process lives."""
        return {"status": "ok"}

    @app.get("/readyz", response_model=schemas.State)
    async def readyz():
        """Say that models are loaded, and answer."""
        return {"status": "ready"}

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def read_metrics() -> Response:
        """Return counts and times for Prometheus."""
        content = prometheus.generate_latest(metrics.registry)
        return Response(content, media_type=prometheus.CONTENT_TYPE_LATEST)


def _add_models(app, service, token):
    metrics, limits = service.metrics, service.limits

    @app.get("/v1/models", response_model=schemas.Models)
    async def models():
        """List the models, and what a request may ask for."""
        described = [service.host.find(name).describe() for name in service.host.names]
        return {
            "models": described,
            "limits": {
                "bytes": limits.body,
                "pixels": limits.pixels,
                "count": limits.count,
                "seconds": limits.seconds,
            },
        }

    @app.post(
        "/v1/predict",
        openapi_extra=uploads.schema(uploads.Question),
        responses={200: {"model": schemas.Predictions}, **schemas.ERRORS},
    )
    async def predict(request: Request):
        """Predict one or several images or texts.

        Where only some of them can be used, the others have an `error` instead.
        """
        started = time.perf_counter()
        question = await uploads.read(request, uploads.Question, limits)
        answers = await service.predict(question)
        metrics.seconds.observe(time.perf_counter() - started)
        return JSONResponse({"answers": answers})

    @app.post(
        "/v1/correct",
        openapi_extra=uploads.schema(uploads.Correction),
        responses={200: {"model": schemas.Kept}, **schemas.ERRORS},
    )
    async def correct(request: Request):
        """Keep an image or a text with its right label, for the next update."""
        given = await uploads.read(request, uploads.Correction, limits)
        return JSONResponse(await service.correct(given))

    @app.post(
        "/v1/models/{name}/reload",
        response_model=schemas.Model,
        responses=schemas.ERRORS,
    )
    async def reload(name: str):
        """Load a model again from its folder; no request is lost. Needs a token."""
        if token is None:
            raise HTTPException(403, "The server was started without --token.")
        if service.host.find(name) is None:
            raise HTTPException(404, "No model of this name is served: see /v1/models.")
        try:
            new = await asyncio.to_thread(service.host.reload, name)
        except errors.InputError as error:
            print(f"Not reloaded: {error}", file=sys.stderr)
            raise HTTPException(
                409,
                "The run cannot be loaded, and the old model stays; the log says why.",
            ) from None
        return new.describe()
