"""Whether a Redis lets go of keys by itself."""

from typing import Any

from features.redis.address import Client

KEEPING = "noeviction"


async def eviction_of(client: Client) -> str | None:
    """`maxmemory-policy` where a full server drops keys by it; None where it refuses writes, or does not tell."""
    answer: Any = await client.execute_command("INFO", "memory")
    policy = str(answer.get("maxmemory_policy", KEEPING))
    return None if policy == KEEPING else policy
