"""`Idempotency-Key`: a request that comes again is answered as before, and carried out once.

As the IETF's draft (draft-ietf-httpapi-idempotency-key-header) has it: the same key with another body is 422, and one
whose first request is still in process is 409.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.service_ports import IdempotencyKeys, KeptRequest
from serving.access.access_control import caller_of
from serving.problems import RETRY_AFTER

log = logging.getLogger(__name__)


class IdempotentRequests:
    """Carries requests out, once a key. A key belongs to its token and path: two callers share none."""

    def __init__(self, keys: IdempotencyKeys) -> None:
        self._keys = keys

    async def answer(
        self, request: Request, key: str | None, carry_out: Callable[[], Awaitable[BaseModel]], status: HTTPStatus
    ) -> Response:
        """The answer of `carry_out`, or the one that was given under the same key.

        1. The key is taken; without a key, 2 alone.
        2. The request is carried out. Where that fails the key is free again: what is sent next is another try.
        3. The answer is kept. Where Redis is away by then it is given all the same, and the key holds for a minute.

        Raises `HTTPException` 409 and 422 as above, and what `carry_out` raises. A key that cannot be looked up is
        `Unavailable`: without it nobody knows whether this is a repetition.
        """
        if key is None:
            return _json(status, (await carry_out()).model_dump_json())
        name = _name(request, key)
        fingerprint = hashlib.sha256(await request.body()).hexdigest()
        kept = await self._keys.begin(name, fingerprint)
        if kept is not None:
            return _again(kept, fingerprint, status)
        try:
            text = (await carry_out()).model_dump_json()
        except ForetasteError:
            await self._freed(name)
            raise
        await self._finished(name, KeptRequest(fingerprint, text))
        return _json(status, text)

    def event_id(self, request: Request, key: str | None, place: int) -> str | None:
        """An id for the event at this place of the request, the same whenever the key comes again; None without a key.

        So what is produced twice, since the key could not be kept, is carried out once all the same.
        """
        if key is None:
            return None
        return hashlib.sha256(f"{_name(request, key)} {place}".encode()).hexdigest()[:32]

    async def _freed(self, name: str) -> None:
        try:
            await self._keys.forget(name)
        except Unavailable as error:
            log.warning("idempotency: a key stays taken for a minute: %s", error)

    async def _finished(self, name: str, kept: KeptRequest) -> None:
        try:
            await self._keys.finish(name, kept)
        except Unavailable as error:
            log.warning("idempotency: an answer is not kept: %s", error)


def _name(request: Request, key: str) -> str:
    """Of the key of this caller and path."""
    return f"{caller_of(request.scope).name} {request.url.path} {key}"


def _again(kept: KeptRequest, fingerprint: str, status: HTTPStatus) -> Response:
    if kept.fingerprint != fingerprint:
        detail = "Idempotency-Key: was sent before, with another body"
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY.value, detail)
    if kept.answer is None:
        detail = "Idempotency-Key: its first request is still in process"
        raise HTTPException(HTTPStatus.CONFLICT.value, detail, {"Retry-After": RETRY_AFTER})
    return _json(status, kept.answer)


def _json(status: HTTPStatus, text: str) -> Response:
    return Response(text, status.value, media_type="application/json")
