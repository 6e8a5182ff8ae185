"""Redis with a password, a private authority, client certificates and a user who may do what is needed and no more."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from foretaste import compose
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.settings import Settings
from foretaste.stack import health
from tests.integration.certificates import Certificates, make_certificates
from tests.integration.redis_tls import RedisTls, redis_over_tls
from tests.integration.test_fences import behaviour_way, sign_up_way
from tests.stream_parts import World, generation, message, sign_up

ROOT = Path(__file__).parents[2]
ADMINISTRATOR, PASSWORD = "sesame-of-redis", "sesame-of-the-user"
PAGE = ROOT / "docs" / "your-own-servers.md"


@pytest.fixture(scope="module")
def server(redis_tls_form: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisTls]:
    folder = tmp_path_factory.mktemp(f"redis-{redis_tls_form}")
    with redis_over_tls(folder, make_certificates(folder), ADMINISTRATOR) as found:
        with found.client() as administrator:
            administrator.execute_command(*_documented_user())
        yield found


def _documented_user() -> list[str]:
    """The command of the page, with a password."""
    (line,) = re.findall(r"^ACL SETUSER .+$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [word.replace("…", PASSWORD) for word in line.split()]


@pytest.fixture
def settings(server: RedisTls, tmp_path: Path) -> Settings:
    return _settings(server, tmp_path)


def _settings(server: RedisTls, home: Path, user: str = "foretaste", password: str = PASSWORD, **more: Any) -> Settings:
    files = server.certificates
    options = {
        "home": home,
        "redis": f"rediss://{user}:{password}@127.0.0.1:{server.port}/0",
        "redis_ca_file": files.ca,
        "redis_cert_file": files.client_cert,
        "redis_key_file": files.client_key,
        "redis_timeout": 10.0,
    }
    return Settings(**{**options, **more})


@pytest.mark.parametrize("form", ["auto", "feast"])
async def test_the_documented_user_may_do_all_that_is_needed(server: RedisTls, settings: Settings, form: Any) -> None:
    with server.client() as administrator:
        administrator.execute_command("ACL", "LOG", "RESET")
        await _use_all(settings.model_copy(update={"online_store": form}))
        assert administrator.execute_command("ACL", "LOG") == []
        administrator.flushall()


async def _use_all(settings: Settings) -> None:
    """Each port that lies on Redis, all of its calls."""
    compose.apply_features(settings)
    store = compose.store(settings)
    try:
        await _use_store(store)
    finally:
        await store.close()
    await _use_generations(compose.generations(settings))
    lease = compose.lease(settings, "test")
    assert await lease.take()
    assert await lease.renew()
    await lease.give_back()
    await lease.close()
    found = await health.redis(settings.redis or "", compose.redis_tls(settings))
    assert found.ok, found.detail
