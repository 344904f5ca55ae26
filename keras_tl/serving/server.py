"""The application of the server: pages, paths of the API, and errors as sentences."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import prometheus_client as prometheus
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from keras_tl import errors
from keras_tl.serving import guard, hosting, schemas, uploads
from keras_tl.serving.batching import FullError
from keras_tl.serving.service import Metrics, Service
from keras_tl.serving.uploads import Limits

# The page: path -> file in assets/serve, and its type.
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/serve.css": ("serve.css", "text/css; charset=utf-8"),
    "/serve.js": ("serve.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# What Starlette says where no function of ours answers -> the same as a sentence.
_ROUTING = {
    (404, "Not Found"): "There is nothing at this path: see /openapi.json.",
    (405, "Method Not Allowed"): "This path takes another method: see /openapi.json.",
}
# Paths that are counted by name.
COUNTED = (*PAGE, "/v1/predict", "/v1/correct", "/v1/models", "/healthz", "/readyz")


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
        text = _ROUTING.get((error.status_code, str(error.detail)), str(error.detail))
        return guard.answer(error.status_code, text, **error.headers or {})

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
        """Return that the process lives."""
        return {"status": "ok"}

    @app.get("/readyz", response_model=schemas.State)
    async def readyz():
        """Return that models are loaded, and answer."""
        return {"status": "ready"}

    @app.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={401: schemas.ERRORS[401]},
    )
    async def read_metrics() -> Response:
        """Return counts and times for Prometheus."""
        content = prometheus.generate_latest(metrics.registry)
        return Response(content, media_type=prometheus.CONTENT_TYPE_LATEST)


def _add_models(app, service, token):
    metrics, limits = service.metrics, service.limits

    @app.get(
        "/v1/models",
        response_model=schemas.Models,
        responses={401: schemas.ERRORS[401]},
    )
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
                "clip_seconds": limits.clip_seconds,
            },
        }

    @app.post(
        "/v1/predict",
        openapi_extra=uploads.schema(uploads.Question),
        responses={200: {"model": schemas.Predictions}, **schemas.ERRORS},
    )
    async def predict(request: Request):
        """Predict one or several images, clips of sound or texts.

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
        """Keep an image, a clip or a text with its right label, for the next update."""
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
