"""The console's files: whole in themselves, with the right types, and asked for again only when they changed."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from serving import console
from serving.access.access_control import AccessPolicy
from serving.api import ServiceConfig
from tests.http_parts import HttpParts, client_of, problem

FILES = sorted(path.name for path in (Path(console.__file__).parent / "page").iterdir())


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A stranger's, where tokens are asked for."""
    config = ServiceConfig(AccessPolicy(lambda presented: None))
    async with client_of(HttpParts().service(config)) as opened:
        yield opened


async def test_the_page_may_load_its_own_files_alone_and_nothing_inline(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", page.text)


@pytest.mark.parametrize("name", [name for name in FILES if name != "index.html"])
async def test_each_file_has_its_type_and_names_no_other_host(client: httpx.AsyncClient, name: str) -> None:
    file = await client.get(f"/console/{name}")
    kind = "text/javascript" if name.endswith(".js") else "text/css"
    assert file.headers["content-type"].startswith(kind)
    assert "https://" not in file.text
    assert re.findall(r"http://(?!www\.w3\.org/2000/svg)", file.text) == []
    assert "innerHTML" not in file.text, "names of users and items are text, never markup"


@pytest.mark.parametrize("path", ["/", "/console/main.js"])
async def test_a_file_is_sent_again_only_when_it_changed(client: httpx.AsyncClient, path: str) -> None:
    first = await client.get(path)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    same = await client.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert (await client.get(path, headers={"If-None-Match": '"other"'})).content == first.content


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "__init__.py", "..%2Fbodies.py"])
async def test_nothing_else_is_to_be_had(client: httpx.AsyncClient, name: str) -> None:
    problem(await client.get(f"/console/{name}"), 404)


async def test_rankings_are_asked_for_in_one_place_and_are_no_training_data(client: httpx.AsyncClient) -> None:
    asking = [(await client.get(f"/console/{name}")).text.count('"v1/rank"') for name in FILES if name.endswith(".js")]
    assert sum(asking) == 1
    api = (await client.get("/console/api.js")).text
    assert "shown: 0" in api[api.index('"v1/rank"') :].partition("\n")[0]
