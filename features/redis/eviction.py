"""Whether a Redis lets go of keys by itself."""

from collections.abc import Mapping
from typing import Any

from features.redis.address import Client

KEEPING = "noeviction"
POLICY = "maxmemory_policy"


async def eviction_of(client: Client) -> str | None:
    """`maxmemory-policy` where a full server drops keys by it; None where it refuses writes, or does not tell.

    Of a cluster, that of the first node that drops keys.
    """
    answer: Any = await client.execute_command("INFO", "memory")
    nodes = [answer] if POLICY in answer else [each for each in answer.values() if isinstance(each, Mapping)]
    policies = [str(each.get(POLICY, KEEPING)) for each in nodes]
    return next((each for each in policies if each != KEEPING), None)
