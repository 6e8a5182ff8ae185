"""What a worker tells over HTTP: `/metrics`, `/healthz` and `/readyz`, from a thread of its own."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from foretaste.kernel.running.readiness import ProcessReadiness

_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = 10
    """Seconds in which a request must have come."""

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002  # as its base names it
        """Probes come every few seconds: no line for each."""


class ProbeApp:
    """The WSGI application: 200 where the process lives and is ready, 503 with the reasons where it is not."""

    def __init__(self, registry: CollectorRegistry, readiness: ProcessReadiness) -> None:
        self._metrics = make_wsgi_app(registry)
        self._readiness = readiness

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/healthz":
            return _answer(start, HTTPStatus.OK, {"status": "alive"})
        if path == "/readyz":
            reasons = self._readiness.reasons
            status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
            return _answer(start, status, {"readiness": "unready" if reasons else "ready", "reasons": dict(reasons)})
        if path in ("/", "/metrics"):
            found: Iterable[bytes] = self._metrics(environ, start)
            return found
        return _answer(start, HTTPStatus.NOT_FOUND, {"detail": "expected /metrics, /healthz or /readyz"})


@contextmanager
def probes(host: str, port: int, registry: CollectorRegistry, readiness: ProcessReadiness) -> Iterator[int]:
    """Serve them while the `with` body runs, on the port that is yielded: `port`, or a free one where that is 0.

    Raises `OSError` where the port is taken.
    """
    app = ProbeApp(registry, readiness)
    with make_server(host, port, app, server_class=_Server, handler_class=_Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.1,), name="probes", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _answer(start: Callable[..., Any], status: HTTPStatus, body: object) -> list[bytes]:
    start(f"{status.value} {status.phrase}", list(_HEADERS))
    return [json.dumps(body).encode()]
