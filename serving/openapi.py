"""The OpenAPI document: what FastAPI makes of the routes, with the problems and the tokens that it cannot know."""

from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from serving.access.scopes import scopes_for
from serving.access.tokens import Scope
from serving.bodies import Problem
from serving.requests import RankRequest, RecommendRequest
from serving.routes.rank import RankRequests

_ABOUT = (
    "Sign-ups and behaviours in, ranked lists out. Errors are problem documents (RFC 9457) that name the field and the "
    "value. Every answer has an `X-Request-ID`: the request's own, or one that was made for it."
)
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": f"A token with the scope that the route names: {', '.join(Scope)}. `foretaste token` makes one. "
    "Without tokens in its settings the service listens on loopback alone and asks for none.",
}


def openapi_document(api: FastAPI) -> dict[str, Any]:
    """What holds of every route of `api`."""
    made: dict[str, Any] = get_openapi(
        title="Foretaste", version=version("foretaste"), description=_ABOUT, routes=api.routes
    )
    components = made.setdefault("components", {})
    components.setdefault("schemas", {}).update(_schemas())
    components["securitySchemes"] = {"bearer": _BEARER}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            scopes = scopes_for(path, method.upper())
            operation["security"] = [] if scopes is None else [{"bearer": [scope]} for scope in sorted(scopes)]
    return made


@cache
def _schemas() -> dict[str, Any]:
    """Of what FastAPI does not see, by name: problem documents, and the bodies of rankings."""
    unseen: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (Problem, "serialization"),
        (RankRequest, "validation"),
        (RankRequests, "validation"),
        (RecommendRequest, "validation"),
    ]
    _, schema = models_json_schema(unseen, ref_template="#/components/schemas/{model}")
    found: dict[str, Any] = schema["$defs"]
    return found
