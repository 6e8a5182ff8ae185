"""A real Chromium without a window, of the distribution's package, and pages that note what goes wrong in them."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Request, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
PATIENCE_MS = 15_000


def not_installed() -> str | None:
    """Why there is no browser; None where there is."""
    return None if _binary() else "the package chromium is not installed"


def _binary() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    binary = _binary()
    assert binary is not None
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class WatchedPage:
    """A page of the console at `url`, with what was asked of whom and what its own console said."""

    page: Page
    url: str
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def elsewhere(self) -> list[str]:
        """What was asked of another host."""
        return [address for address in self.asked if not address.startswith((self.url, "data:"))]

    async def open(self, view: str = "now") -> Page:
        await self.page.goto(f"{self.url}/#{view}")
        return self.page

    async def violations(self) -> list[dict[str, Any]]:
        """What axe-core finds wrong for people with disabilities: rule, and the elements."""
        found: Any = (await Axe().run(self.page)).response
        return [
            {"rule": each["id"], "elements": [node["html"][:160] for node in each["nodes"]]}
            for each in found["violations"]
        ]


@asynccontextmanager
async def watched(browser: Browser, url: str, **context: Any) -> AsyncIterator[WatchedPage]:
    """A new page; what the browser itself logs of an answer that was refused counts as an error too."""
    opened = await browser.new_context(**{"viewport": WIDE, **context})
    opened.set_default_timeout(PATIENCE_MS)
    page = await opened.new_page()
    found = WatchedPage(page, url)
    page.on("request", lambda request: found.asked.append(_address(request)))
    page.on("console", lambda message: found.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    try:
        yield found
    finally:
        await opened.close()


def _address(request: Request) -> str:
    return request.url
