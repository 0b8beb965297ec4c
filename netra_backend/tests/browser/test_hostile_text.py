"""No text of a tenant runs as script, in the browser itself: a corpus in every string that a tenant has a hand in."""

from __future__ import annotations

import asyncio

import pytest

from ..support.browser import Said, chromium, visiting
from ..support.dashboard import furnish
from ..support.server import OPERATOR, serving

CORPUS = (
    "<script>window.__ran=1</script>",
    "<img src=x onerror=window.__ran=1>",
    '"><svg onload=window.__ran=1>',
    "' autofocus onfocus='window.__ran=1",
    "javascript:window.__ran=1",
    "{{7*7}}{% raw %}",
    "</title></style></textarea><script>window.__ran=1</script>",
    "<iframe srcdoc='<script>parent.__ran=1</script>'>",
    "<a href='data:text/html,<script>1</script>'>x</a>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<form action='https://evil.example'><button>x",
    "\\u003cscript\\u003ewindow.__ran=1\\u003c/script\\u003e",
    "<!--<img src=--><img src=x onerror=window.__ran=1>",
)


PAIRS = [f"{one} {other}" for one, other in zip(CORPUS[::2], CORPUS[1::2], strict=True)]
"""Two at a time: a page takes half a second to be looked at."""


@pytest.mark.parametrize("number", range(0, len(PAIRS), 4))
async def test_no_text_of_a_tenant_runs_and_no_policy_is_broken(netra, operator, number):
    said = Said()
    worlds = [(text, await furnish(netra, f"corp{number + at}", text)) for at, text in enumerate(PAIRS[number : number + 4])]
    async with serving(netra) as url, chromium() as browser, asyncio.timeout(100), visiting(browser, url, OPERATOR, said) as page:
        for text, own in worlds:
            for path in (*own.paths, "tenants"):
                answer = await page.goto(f"{url}/ui/{path}?tenant={own.tenant}")
                assert answer.status == 200, path
                assert await page.evaluate("[window.__ran, window.__reports.length, document.scripts.length]") == [None, 0, 1], (path, text)
                assert await page.locator("main iframe, main base, main meta, main [onerror], main [onload], main [onfocus]").count() == 0
                assert await page.locator("a[href^='javascript:'], a[href^='data:']").count() == 0
            assert text[:8] in await page.locator("body").inner_text(), "the tenant's own words are shown, as words"
    assert said.words == []
