"""Routes that FastAPI documents and finds, and nothing more."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class DirectRoute(APIRoute):
    """Its endpoint takes the request alone and makes the response itself, so FastAPI has nothing to read or to write.

    For paths where that costs as much as the answer.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint."""
        return self.endpoint
