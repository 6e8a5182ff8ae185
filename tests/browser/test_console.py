"""The console in a real browser: the whole way, by keyboard, on a phone, for a screen reader, in the dark."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page, expect

from serving.access.access_control import AccessPolicy
from serving.access.tokens import Scope, find_token, new_token
from serving.api import ServiceConfig
from tests.browser.browser import PHONE, WatchedPage, chromium, watched
from tests.browser.reacting_parts import ReactingParts
from tests.http_server import served

VIEWS = ("now", "sign-up", "user/anna", "generations")
TOKEN, KEPT = new_token("console", Scope)


@pytest.fixture
async def parts() -> ReactingParts:
    made = ReactingParts()
    await made.start()
    await made.sign_up("anna")
    return made


@asynccontextmanager
async def console(
    parts: ReactingParts, config: ServiceConfig | None = None, **context: Any
) -> AsyncIterator[WatchedPage]:
    async with (
        served(parts.service(config)) as server,
        chromium() as browser,
        watched(browser, server.url, **context) as page,
    ):
        yield page


async def sign_up(page: Page, user_id: str) -> None:
    await page.get_by_label("User id").first.fill(user_id)
    await page.get_by_label("age").fill("41")
    await page.get_by_label("city").select_option("north")
    await page.get_by_role("button", name="Sign up").click()


async def names(page: Page, place: str) -> list[str]:
    return await page.locator(f"{place} .name").all_inner_texts()


@pytest.mark.usefixtures("browser_form")
async def test_a_user_signs_up_is_ranked_clicks_and_warms(parts: ReactingParts) -> None:
    async with console(parts) as watching:
        page = await watching.open("sign-up")
        await sign_up(page, "ben <b>")
        await expect(page.locator("#arrived")).to_contain_text("the virtual behaviour was there")
        await expect(page.locator("#stage")).to_have_text("cold")
        await expect(page.locator("#served")).to_contain_text("Served by virtual behaviour, ranked by generation 1")
        assert await page.locator("#virtual .strip rect").count() == 6
        assert await page.locator("#map .own").count() == 1
        assert len(await names(page, "#nearest")) == 8
        before, without = await names(page, "#list"), await names(page, "#without")
        assert len(before) == len(without) == 12
        assert before != without

        await page.get_by_role("button", name=before[0], exact=True).click()
        await expect(page.locator("#stage")).to_have_text("warming")
        assert await names(page, "#list") != before
        assert before[0] not in await names(page, "#list")
        await expect(page.locator("#said")).to_contain_text("ben <b> is now warming, 1 behaviour seen")
        await expect(page.locator("#list .moved").first).to_be_visible()

        await page.get_by_role("button", name="Click the first five").click()
        await expect(page.locator("#stage")).to_have_text("warm")
        await expect(page.locator("#served")).to_contain_text("Served by real behaviour")
        await expect(page.locator(".acts li")).to_have_count(6)
        assert watching.errors == []
        assert watching.elsewhere == []
    assert not parts.noted.served, "a trial is no training data"


@pytest.mark.usefixtures("browser_form")
async def test_the_funnel_and_the_charts_move(parts: ReactingParts) -> None:
    async with console(parts) as watching:
        page = await watching.open("now")
        await expect(page.locator("#now-note")).to_have_text("Generation 1 is active.")
        registered = page.locator("#funnel li").first
        await expect(registered).to_contain_text("0 sign-ups")
        await expect(page.locator("#stages")).to_contain_text("1 user is stored; 1 are ranked by virtual behaviour")
        await page.goto(f"{watching.url}/#sign-up")
        await sign_up(page, "ben")
        await expect(page.locator("#stage")).to_have_text("cold")
        await page.get_by_role("link", name="Now").click()
        await expect(registered).to_contain_text("1 sign-up")
        await expect(page.locator("#stages")).to_contain_text("2 users are stored")
        await expect(page.get_by_role("img", name="Sign-ups that wait: now 0")).to_be_visible()
        parts.counts.unhandled = 7
        await expect(page.get_by_role("img", name="Sign-ups that wait: now 7")).to_be_visible()
        parts.counts.away = True
        await expect(page.locator("#now-note")).to_contain_text("Away: kafka")
        await expect(registered).to_contain_text("not known")


@pytest.mark.usefixtures("browser_form")
async def test_a_rollback_asks_first_and_needs_a_token(parts: ReactingParts) -> None:
    config = ServiceConfig(AccessPolicy(lambda presented: find_token({"console": KEPT}, presented)))
    async with console(parts, config) as watching:
        page = await watching.open("generations")
        await expect(page.get_by_role("alert")).to_contain_text("A token is needed")
        await page.get_by_text("Token", exact=True).click()
        await page.get_by_label("Token with the scopes").fill(TOKEN)
        await page.get_by_role("button", name="Use it").click()
        await expect(page.locator("#generations tr.active th")).to_have_text("2")
        await expect(page.get_by_role("alert")).to_have_text("")

        roll_back = page.locator("#roll-back")
        await roll_back.click()
        await expect(page.get_by_role("dialog")).to_contain_text("from generation 2 to generation 1")
        await page.keyboard.press("Escape")
        await expect(roll_back).to_be_focused()
        await roll_back.click()
        await page.get_by_role("button", name="Keep it").click()
        assert parts.summaries.moves == []

        await roll_back.click()
        await page.get_by_role("button", name="Roll back", exact=True).click()
        await expect(page.locator("#moved")).to_have_text("Done: readers moved from generation 2 to generation 1.")
        await expect(page.locator("#generations tr.active th")).to_have_text("1")
        await expect(page.locator("#said")).to_contain_text("generation 1")
        assert parts.summaries.moves == ["rollback in the console (console)"]
        assert TOKEN not in await page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")


@pytest.mark.usefixtures("browser_form")
async def test_the_keyboard_alone_is_enough(parts: ReactingParts) -> None:
    async with console(parts, reduced_motion="reduce") as watching:
        page = await watching.open("now")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        for stop in ("Token", "Now", "Sign up"):
            await page.keyboard.press("Tab")
            assert await page.evaluate("document.activeElement.textContent.trim()") == stop
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Sign somebody up")).to_be_focused()
        await expect(page.get_by_role("button", name="Sign up")).to_be_enabled()
        await page.keyboard.press("Tab")
        await expect(page.locator("#new-user")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="One user")).to_be_focused()
        await expect(page.locator("#stage")).to_have_text("cold")
        first = page.locator("#list button.name").first
        await first.focus()
        item = await first.inner_text()
        await page.keyboard.press("Enter")
        await expect(page.locator("#stage")).to_have_text("warming")
        await expect(page.locator("#list button.name").first).to_be_focused()
        assert item in await page.locator(".acts li").first.inner_text()
        assert await page.evaluate("getComputedStyle(document.querySelector('#list .changed')).animationName") == "none"


@pytest.mark.usefixtures("browser_form")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_wrong(parts: ReactingParts, scheme: str) -> None:
    async with console(parts, color_scheme=scheme, reduced_motion="reduce") as watching:
        for view in VIEWS:
            page = await watching.open(view)
            await page.wait_for_load_state("networkidle")
            assert await watching.violations() == [], view
        paper = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(250, 249, 247)") == (scheme == "light")


@pytest.mark.usefixtures("browser_form")
async def test_it_fits_a_phone(parts: ReactingParts) -> None:
    async with console(parts, viewport=PHONE, has_touch=True) as watching:
        for view in VIEWS:
            page = await watching.open(view)
            await page.wait_for_load_state("networkidle")
            assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], view
        await page.goto(f"{watching.url}/#user/anna")
        await page.locator("#act-five").tap()
        await expect(page.locator("#stage")).to_have_text("warm")


@pytest.mark.usefixtures("browser_form")
async def test_what_goes_wrong_is_a_sentence(parts: ReactingParts) -> None:
    async with console(parts) as watching:
        page = await watching.open("user/nobody")
        await expect(page.get_by_role("alert")).to_have_text("Nothing is stored of the user 'nobody'.")
        await page.goto(f"{watching.url}/#sign-up")
        parts.working = False
        await sign_up(page, "slow")
        await expect(page.locator("#user")).to_contain_text("Waiting for the worker")
        await parts.work()
        await expect(page.locator("#stage")).to_have_text("cold")
        parts.store.reads_away = True
        await page.goto(f"{watching.url}/#user/anna")
        await expect(page.get_by_role("alert")).to_have_text("Redis is not available. It may be back in a moment.")
        await expect(page.locator("#user")).to_have_text("There is nothing to show.")
        await page.route("**/v1/**", lambda route: route.abort())
        await page.goto(f"{watching.url}/#generations")
        await expect(page.get_by_role("alert")).to_have_text("The service does not answer.")


@pytest.mark.usefixtures("browser_form")
async def test_before_the_first_generation_it_says_what_is_missing() -> None:
    async with console(ReactingParts()) as watching:
        page = await watching.open("now")
        await expect(page.locator("#now-note")).to_contain_text("No generation is active yet")
        await expect(page.locator("#health")).to_contain_text("unready")
        await page.goto(f"{watching.url}/#sign-up")
        await expect(page.get_by_role("alert")).to_contain_text("train, publish and activate one first")
        await expect(page.get_by_role("button", name="Sign up")).to_be_disabled()
