"""`python -m tests.browser.screenshots [URL]`: the pictures of the console in docs/images, from a running system.

`foretaste demo --keep` prints the address. Visitors sign up, are ranked and act meanwhile, so that the charts move: for
a system that nobody else uses, since what they do is noted for training.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from playwright.async_api import Browser

from foretaste.client import AsyncForetaste
from tests.browser.browser import WatchedPage, chromium, watched

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SECONDS = 60
"""Of traffic before the first picture."""
CHOSEN = {"gender": "F", "age": "25", "occupation": "4"}
"""Of MovieLens; a field that the generation does not have is left as it is offered."""


def take(url: Annotated[str, typer.Argument()] = "http://127.0.0.1:8080", seconds: int = SECONDS) -> None:
    """Write now.png and user.png into docs/images."""
    asyncio.run(_take(url.rstrip("/"), seconds))


async def _take(url: str, seconds: int) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    async with chromium() as browser:
        async with watched(browser, url, color_scheme="light") as watching:
            await watching.open("now")
            visitors = asyncio.create_task(_traffic(url, seconds + 5))
            await asyncio.wait([visitors], timeout=seconds)
            await _picture(watching, "now")
            await visitors
        await _picture_of_a_user(browser, url)


async def _picture_of_a_user(browser: Browser, url: str) -> None:
    async with watched(browser, url, color_scheme="light") as watching:
        page = await watching.open("sign-up")
        await page.get_by_role("button", name="Sign up").and_(page.locator(":enabled")).wait_for()
        await page.locator("#new-user").fill(f"anna-{time.time():.0f}")  # nobody who was there before
        for name, value in CHOSEN.items():
            field = page.locator(f'#attributes select[name="{name}"]')
            if await field.count():
                await field.select_option(value)
        await page.get_by_role("button", name="Sign up").click()
        await page.locator("#stage").wait_for()
        for place in (2, 4, 5):
            seen = await page.locator(".acts li").count()
            await page.locator("#list button.name").nth(place).click()
            await page.locator(".acts li").nth(seen).wait_for()
        await page.locator("#arrived").click()  # the focus is shown on no control
        await _picture(watching, "user")


async def _picture(watching: WatchedPage, name: str) -> None:
    await watching.page.wait_for_timeout(2000)  # what changed is drawn, and its mark has faded
    path = IMAGES / f"{name}.png"
    await watching.page.screenshot(path=path, full_page=True)
    typer.echo(f"{path}: {path.stat().st_size // 1024} KiB")


async def _traffic(url: str, seconds: int) -> None:
    """Five to fifteen sign-ups a second, each of them ranked, one in three of whom acts."""
    async with httpx.AsyncClient() as asking:
        offered = (await asking.get(f"{url}/v1/choices")).raise_for_status().json()
    draw = random.Random(0)  # noqa: S311  # no secret
    async with AsyncForetaste(url) as service:
        for second in range(seconds):
            async with asyncio.TaskGroup() as group:
                for place in range(draw.randint(5, 15)):
                    group.create_task(_visit(service, f"visitor-{second}-{place}", offered, draw))
                group.create_task(asyncio.sleep(1))


async def _visit(service: AsyncForetaste, user_id: str, offered: Mapping[str, Any], draw: random.Random) -> None:
    fields: Mapping[str, Mapping[str, Sequence[Any]]] = offered["attributes"]
    attributes = {name: draw.choice(field["values"]) for name, field in fields.items() if field["values"]}
    await service.register(user_id, attributes, wait=5)
    ranking = await service.rank(user_id, offered["items"][:100])
    if draw.random() < 1 / 3:
        for item in ranking.ranked[: draw.choice([1, 3, 20])]:
            await service.behave(user_id, item["item_id"], action=offered["actions"][0])


if __name__ == "__main__":
    typer.run(take)
