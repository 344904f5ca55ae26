"""What every request passes before the server looks at it: who asks, and how much."""

import asyncio
import hmac
import math
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from keras_tl.serving.batching import FullError, Room
from keras_tl.serving.uploads import Limits

# Bytes of all requests that are read or answered at a time.
ALL_BODIES = 256_000_000
# Everything comes from this server, and scripts and styles from files of their own.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Names by which a browser on this machine reaches a server on it.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def hosts(address: str) -> tuple[str, ...] | None:
    """Return the names by which a server at an address may be called; `None` for all.

    >>> hosts("127.0.0.1"), hosts("0.0.0.0")
    (('127.0.0.1', 'localhost', '::1'), None)
    """
    return LOOPBACK if address in LOOPBACK else None


def answer(status: int, sentence: str, **headers: str) -> JSONResponse:
    """Return an error as the server answers it."""
    return JSONResponse({"error": sentence}, status, headers)


class Guard:
    """Middleware: token, origin, sizes, time, and the headers of every response.

    Args:
        app: An ASGI application.
        limits: What a request may ask for.
        token: What clients need to know to use paths below `/v1` and `/metrics`; `None`
            asks for none.
        hosts: Names by which the server may be called; `None` allows all. With it a
            page elsewhere cannot give its own name to this address.
        observe: Called with the path and the status of each answer.
    """

    def __init__(
        self,
        app,
        limits: Limits,
        token: str | None,
        hosts: tuple[str, ...] | None,
        observe: Callable[[str, int], None],
    ):
        self._app, self._limits, self._hosts = app, limits, hosts
        self._observe = observe
        self._token = None if token is None else f"Bearer {token}".encode()
        self._bodies = Room(max(ALL_BODIES, limits.body))

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_safely(message):
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
                self._observe(scope["path"], message["status"])
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            try:
                async with asyncio.timeout(self._limits.seconds):
                    refusal = await self._pass(scope, receive, send_safely)
            except TimeoutError:
                if begun:
                    raise
                refusal = answer(
                    503,
                    f"This took longer than {self._limits.seconds:g} seconds.",
                    **{"Retry-After": "1"},
                )
        if refusal is not None:
            await refusal(scope, receive, send_safely)

    def _refusal(self, scope) -> JSONResponse | None:
        """Return the answer to a request that is refused by its headers."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _name(host) not in self._hosts:
            return answer(421, "This server is not called so.")
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            # Browsers send it with what a page of another server wants to be done.
            if origin is not None and urlsplit(origin).netloc != host:
                return answer(403, "Pages of other servers cannot use this one.")
        needed = scope["path"].startswith(("/v1/", "/metrics"))
        if self._token is not None and needed:
            given = headers.get("authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, self._token):
                return answer(
                    401, "A token is needed.", **{"WWW-Authenticate": "Bearer"}
                )
        return None

    async def _pass(self, scope, receive, send) -> JSONResponse | None:
        """Pass a request on, and hold its body to its limit."""
        if scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return None
        most = self._limits.body
        too_large = f"A request has at most {most:,} bytes."
        length = Headers(scope=scope).get("content-length", "")
        # One without a length takes as much room as it may have.
        size = int(length) if length.isdecimal() else most
        if size > most:
            return answer(413, too_large, Connection="close")
        read = 0

        async def receive_little():
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise HTTPException(413, too_large)
            return message

        try:
            with self._bodies.take(size):
                await self._app(scope, receive_little, send)
        except FullError:
            return full(1)
        return None


def full(seconds: float) -> JSONResponse:
    """Return the answer where there is no room."""
    return answer(
        429,
        "More is asked than can be answered; try again.",
        **{"Retry-After": str(math.ceil(seconds))},
    )


def _name(host: str) -> str:
    """Return the name in a `Host` header.

    >>> _name("localhost:8000"), _name("[::1]:80"), _name("[a")
    ('localhost', '::1', '')
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
