"""Redis with a password, a private authority, client certificates and a user who may do what is needed and no more."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from features.generations.progress import RedisProgress
from features.redis.last_erasure import RedisLastErasure
from foretaste import compose
from foretaste.compose.ports import idempotency_keys, item_registry
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.event_order import AttributesVersion
from foretaste.kernel.ports import Generations
from foretaste.kernel.running.durability import OffsetStore, WholeUserStore
from foretaste.kernel.running.erasing import ErasedUser, ErasingStore
from foretaste.kernel.running.registered_items import RegisteredItem
from foretaste.kernel.service_ports import KeptRequest
from foretaste.kernel.users import ReenrichedUser, VirtualBehaviour
from foretaste.settings import Settings
from foretaste.stack import health
from tests.integration.certificates import make_certificates
from tests.integration.redis_tls import RedisTls, redis_over_tls
from tests.integration.test_fences import behaviour_way, sign_up_way
from tests.stream_parts import NOW, NOW_MS, World, generation, message, sign_up

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
    }
    return Settings(**{**options, **more})


async def test_the_documented_user_may_do_all_that_is_needed_and_needs_all_that_it_may(
    server: RedisTls, settings: Settings
) -> None:
    with server.client() as administrator:
        administrator.execute_command("ACL", "LOG", "RESET")
        administrator.config_resetstat()
        administrator.script_flush()
        await _use_all(settings)
        administrator.flushall()
        await _use_all(settings.model_copy(update={"online_store": "feast"}))
        assert administrator.execute_command("ACL", "LOG") == []
        used = {name.removeprefix("cmdstat_") for name in administrator.info("commandstats")}
        administrator.flushall()
    allowed = {word.removeprefix("+") for word in _documented_user() if word.startswith("+")}
    assert sorted(allowed - used) == []


def test_no_script_calls_what_the_documented_user_may_not() -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "features").rglob("*.lua"))
    called = {name.lower() for name in re.findall(r"redis\.p?call\('(\w+)'", scripts)}
    assert called
    assert called - {word.removeprefix("+") for word in _documented_user()} == set()


async def _use_all(settings: Settings) -> None:
    """Each port that lies on Redis, all of its calls."""
    compose.apply_features(settings)
    store = compose.store(settings)
    try:
        await _use_store(store)
    finally:
        await store.close()
    await _use_generations(compose.generations(settings))
    keys = idempotency_keys(settings)
    assert await keys.begin("key", "print") is None
    assert await keys.begin("key", "print") is not None
    await keys.finish("key", KeptRequest("print", None))
    await keys.forget("key")
    await keys.close()
    progress = RedisProgress(compose.redis_address(settings), prefix=settings.project, timeout=10)
    await progress.write(1, "half")
    assert await progress.read(1) == "half"
    await progress.forget(1)
    await progress.close()
    lease = compose.lease(settings, "test")
    assert await lease.take()
    assert await lease.renew()
    await lease.give_back()
    await lease.close()
    items = item_registry(settings)
    await items.register([RegisteredItem("i1", {"genre": "drama"}, NOW_MS)])
    assert len((await items.since(0))[0]) == 1
    assert await items.known(["i1"]) == [True]
    await items.close()
    last_erasure = RedisLastErasure(compose.redis_address(settings), prefix=settings.project, timeout=10)
    await last_erasure.change()
    assert await last_erasure.read()
    await last_erasure.close()
    found = await health.redis(settings.redis or "", compose.redis_tls(settings))
    assert found.ok, found.detail


async def _use_store(store: ErasingStore) -> None:
    """Sign-ups and behaviours as a worker brings them, a walk over the users, and virtual behaviour of another slot."""
    world = await replace(World(), store=store).activate(generation())  # type: ignore[arg-type]  # the real one
    await sign_up_way(world)([sign_up("ada", 0, NOW_MS - 4, age=30), sign_up("ben", 1, age=40)])
    behaved = {"user_id": "ada", "item_id": "i1", "at": NOW - 60}
    await behaviour_way(world)([message(behaved, key=b"ada", topic="user-behaved")])
    (held,) = await store.read(["ada"], 1)
    assert held.attributes == {"age": 30}
    assert held.virtual is not None
    assert list(held.behaviour.items) == ["i1"]
    again = VirtualBehaviour(2, held.virtual.vectors)
    await store.write_virtual([ReenrichedUser("ada", again, NOW_MS)])
    (held,) = await store.read(["ada"], 2)
    assert held.virtual is not None
    await sign_up_way(world)([sign_up("ada", 2, NOW_MS - 3, age=31)])
    (held,) = await store.read(["ada"], 2)
    assert held.attributes == {"age": 31}
    assert generation(2).virtual_of(held) is None, "it was made from other attributes"
    if isinstance(store, WholeUserStore):
        await store.write_whole([held])
    if isinstance(store, OffsetStore):
        partition = "user-registered", 0
        await store.begin_offsets({partition: 5})
        assert await store.advance_offsets({partition: (5, 7)}) == {}
        assert await store.holds_users()
        await store.server_run()
    assert await store.erase([ErasedUser("ada", AttributesVersion(NOW_MS - 2))]) == []
    await sign_up_way(world)([sign_up("ada", 3, NOW_MS - 1, age=32)])
    (held,) = await store.read(["ada"], 2)
    assert held.attributes == {"age": 32}
    found, cursor = await store.users()
    while cursor is not None:
        more, cursor = await store.users(cursor)
        found += more
    assert set(found) == {"ada", "ben"}


async def _use_generations(generations: Generations) -> None:
    for number in (1, 2, 3):
        await generations.record(generation(number), {"i1": 0.75, "i2": 0.25})
    assert await generations.activate(1, None)
    await generations.fill(2)
    assert (await generations.serving()).filling is not None
    assert await generations.activate(2, 1, "better", filled=True)
    await generations.retire(3)
    assert await generations.highest() == 3
    assert await generations.numbers() == [1, 2]
    assert len(await generations.moves()) == 2
    assert await generations.get(1) is not None
    await generations.record(generation(1), {"i1": 0.75, "i2": 0.25})  # again: nothing changes
    assert await generations.popular(1, 1) == ["i1"]
    assert await generations.popular(9, 1) == [], "never recorded"
    assert await generations.popularity(1, ["i2"]) == [0.25]
    assert await generations.shares(1, 10) == {"i1": 0.75, "i2": 0.25}
    await generations.close()


@pytest.mark.parametrize(
    "command",
    [
        ["SET", "another:key", "1"],
        ["GET", "another:key"],
        ["FLUSHALL"],
        ["KEYS", "*"],
        ["CONFIG", "GET", "requirepass"],
        ["ACL", "LIST"],
        ["SHUTDOWN", "NOSAVE"],
    ],
    ids=" ".join,
)
def test_the_documented_user_may_do_nothing_else(settings: Settings, command: list[str]) -> None:
    files = settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file
    options = dict(zip(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), map(str, files), strict=True))
    with Redis.from_url(str(settings.redis), **options) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command)


CUT_OFF = "certificate required|closed|reset|lost|roken pipe"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "password": ({"password": "not-the-one"}, "invalid username-password pair"),
    "user": ({"user": "nobody"}, "invalid username-password pair"),
    "certificate": ({"redis_cert_file": None, "redis_key_file": None}, CUT_OFF),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_who_is_not_let_in_is_told_why_in_one_line(server: RedisTls, tmp_path: Path, case: str) -> None:
    options, expected = REFUSED[case]
    settings = _settings(server, tmp_path, **options)
    found = await health.redis(settings.redis or "", compose.redis_tls(settings))
    generations = compose.generations(settings)
    with pytest.raises(Unavailable) as caught:
        await generations.active()
    await generations.close()
    for line in (found.detail, str(caught.value)):
        assert re.search(expected, line), line
        assert "\n" not in line
        assert "not-the-one" not in line
        assert PASSWORD not in line
    assert not found.ok
    assert PASSWORD not in found.address


async def test_a_redis_of_another_authority_is_not_trusted(server: RedisTls, tmp_path: Path) -> None:
    settings = _settings(server, tmp_path, redis_ca_file=server.certificates.another_ca)
    generations = compose.generations(settings)
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await generations.active()
    await generations.close()
