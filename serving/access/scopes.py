"""Which path asks for which scope. What is not listed asks for `operate`."""

from serving.access.tokens import Scope

_RANK, _WRITE, _OPERATE = (frozenset({scope}) for scope in Scope)
PUBLIC = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs"})
"""For everybody. `/readyz` tells strangers less."""
PUBLIC_FOLDERS = ("/docs/", "/console/")
SCOPES = {
    "/v1/rank": _RANK,
    "/v1/recommend": _RANK,
    "/v1/users": _WRITE,
    "/v1/users/{user_id}": _WRITE | _OPERATE,
    "/v1/onboard": _WRITE,
    "/v1/behaviours": _WRITE,
    "/v1/items": _WRITE,
    "/v1/items/{item_id}": _WRITE,
    "/v1/generations": _OPERATE,
    "/v1/generations/rollback": _OPERATE,
    "/metrics": _OPERATE,
    "/v1/overview": _OPERATE,
    "/v1/choices": _OPERATE,
    "/v1/compare": _OPERATE,
    "/v1/map": _OPERATE,
    "/v1/map/user": _OPERATE,
}
"""By path as it stands in the OpenAPI document: any one of the scopes is enough."""
ONE_USER, ONE_ITEM = "/v1/users/", "/v1/items/"
ERASING = "DELETE"
"""The method that asks for `operate` on the path of one user."""


def scopes_for(path: str, method: str) -> frozenset[Scope] | None:
    """The scopes of which one is enough for a method in capitals; None for a path that is public."""
    if path in PUBLIC or path.startswith(PUBLIC_FOLDERS):
        return None
    if path.startswith(ONE_USER):
        return _OPERATE if method == ERASING else SCOPES["/v1/users/{user_id}"]
    return _WRITE if path.startswith(ONE_ITEM) else SCOPES.get(path, _OPERATE)
