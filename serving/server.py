"""The HTTP server of one process: uvicorn, with connections that have deadlines."""

import asyncio
from functools import partial
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from serving.access.connection import BoundedConnection


def http_server(app: ASGIApp, *, host: str, port: int, read_seconds: float) -> uvicorn.Server:
    """What `serve()` of starts listening; `read_seconds` as `BoundedConnection` has them.

    No WebSocket: what stands around the routes is for HTTP. What a proxy says of a client is not believed: nothing
    here needs to know.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=cast("type[asyncio.Protocol]", partial(BoundedConnection, read_seconds)),
        ws="none",
        log_config=None,  # its lines are those of the process
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
