"""One request to the ranking service, as a product would send it."""

from collections.abc import Sequence

import aiohttp

from foretaste.kernel.errors import Unavailable
from serving.requests import RankResponse


async def rank(
    session: aiohttp.ClientSession, api: str, user_id: str, items: Sequence[str], *, shown: int
) -> RankResponse:
    """Rank candidates; the service logs the first `shown` for training.

    Raises `Unavailable` with the problem document when the service refuses.
    """
    body = {"user_id": user_id, "items": list(items), "shown": shown}
    async with session.post(f"{api}/v1/rank", json=body) as answer:
        text = await answer.text()
        if answer.status != 200:  # noqa: PLR2004  # HTTP's OK
            raise Unavailable("api", f"{answer.status}: {text}")
    return RankResponse.model_validate_json(text)
