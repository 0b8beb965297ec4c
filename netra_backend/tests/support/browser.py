"""Debian's Chromium, driven by Playwright: empty profile, nothing that asks the network, every word that it says kept."""

from __future__ import annotations

import html
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENS: Final = Path("build/screens")
LOOKS: Final = {"wide": (1280, "light"), "wide-dark": (1280, "dark"), "narrow": (390, "light"), "narrow-dark": (390, "dark")}
WATCH: Final = """
window.__reports = [];
document.addEventListener("securitypolicyviolation", (event) => window.__reports.push(event.violatedDirective + " " + event.blockedURI));
"""


@dataclass(slots=True)
class Said:
    """What a page's console, its errors and its dialogs have said."""

    words: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        """From now on."""
        page.on("console", lambda message: self.words.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.words.append(str(error)))
        page.on("dialog", lambda dialog: self.words.append(f"dialog: {dialog.message}"))


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """One browser, which ends with the test."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "the browser tests need Chromium on PATH: apt-get install chromium, or BROWSER=0 to leave them out"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visiting(browser: Browser, url: str, key: str, said: Said, look: str = "wide", **options: Any) -> AsyncIterator[Page]:
    """A page of a fresh profile, signed in with that key."""
    width, scheme = LOOKS[look]
    context: BrowserContext = await browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
    await context.add_init_script(WATCH)
    page = await context.new_page()
    said.listen(page)
    try:
        await page.goto(f"{url}/ui/login")
        await page.fill("#key", key)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url("**/ui/overview")
        yield page
    finally:
        await context.close()


async def keep(page: Page, name: str, look: str) -> None:
    """A screenshot, and a line of the index."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENS / f"{name}.{look}.png", full_page=True, animations="disabled")
    shots = sorted(SCREENS.glob("*.png"))
    lines = [
        f'<figure><img src="{each.name}" loading="lazy" width="480"><figcaption>{html.escape(each.stem)}</figcaption></figure>'
        for each in shots
    ]
    (SCREENS / "index.html").write_text("<!doctype html><meta charset=utf-8><title>Screens</title>" + "\n".join(lines), encoding="utf-8")
