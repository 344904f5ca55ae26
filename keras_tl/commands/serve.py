"""`keras-tl serve RUN [RUN ...]`: serve finished runs, a web page and an API."""

import errno
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

import keras_tl.quiet  # noqa: F401  Before Keras.

from keras_tl import errors, quiet
from keras_tl.commands.settings import Serve
from keras_tl.deploy import versions
from keras_tl.serving import hosting

# Variable that holds the token, where it is no option.
TOKEN = "KERAS_TL_TOKEN"
# Connections at a time; more are answered 503.
MOST_CONNECTIONS = 512


def main(settings: Serve) -> None:
    """Load the runs, and serve them until the process is told to stop."""
    if settings.token is None and os.environ.get(TOKEN):
        settings = replace(settings, token=os.environ[TOKEN])
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        errors.check_installed(module, extra="serve")
    runs = hosting.named(settings.runs)
    for run in runs.values():
        about = versions.about_use(run)
        if about is not None:
            print(about, file=sys.stderr)
    # Taken before anything is loaded.
    bound = bind(settings.host, settings.port)
    with bound:
        serve(settings, runs, bound)


def serve(settings: Serve, runs: dict[str, Path], bound: socket.socket) -> None:
    """Serve runs at a socket; what has begun is answered before it ends."""
    import uvicorn

    from keras_tl.serving import guard, server, uploads

    limits = uploads.Limits(
        round(settings.megabytes * 1e6),
        round(settings.megapixels * 1e6),
        settings.count,
        settings.seconds,
        settings.clip_seconds,
    )
    with quiet.start_up():  # LiteRT says how it computes.
        app = server.make_app(
            runs,
            limits=limits,
            queue=settings.queue,
            token=settings.token,
            hosts=guard.hosts(settings.host),
            corrections=settings.corrections,
        )
    if guard.hosts(settings.host) is None and settings.token is None:
        errors.warn(
            "Whoever reaches this machine can use the server: --token asks for one."
        )
    options = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=int(settings.seconds) + 1,
    )
    # Uvicorn raises the signal again when all is answered: that is a success.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # From here on, who comes waits for the answer, and is not refused.
    bound.listen(MOST_CONNECTIONS)
    print(f"Serving {', '.join(runs)} at {address(bound)} (Ctrl-C ends it)", flush=True)
    uvicorn.Server(options).run(sockets=[bound])


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises:
        InputError: The port is in use or not allowed, or the host is none of this
            machine.
    """
    try:
        # The protocol has to be known: for TCP alone asyncio sends small parts at once,
        # and an answer does not wait 40 ms for the client to confirm its head.
        ((family, kind, protocol, _, place), *_) = socket.getaddrinfo(
            host,
            port,
            type=socket.SOCK_STREAM,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_PASSIVE,
        )
    except (OSError, UnicodeError) as error:
        raise errors.expected("host", "be an address of this machine", host) from error
    bound = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # There it would share the port with others.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise errors.expected(
                "port", "be free", port, "Choose another one; 0 takes a free one."
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise errors.expected(
                "host", "be an address of this machine", host
            ) from error
        reason = error.strerror or error
        raise errors.InputError(f"Cannot listen at {host}:{port}: {reason}.") from error
    return bound


def address(bound: socket.socket) -> str:
    """Return the address of a socket as a browser takes it."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
