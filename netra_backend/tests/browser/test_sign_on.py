"""Somebody signs in with his organisation's identity provider, in a real browser, and out again."""

from __future__ import annotations

import asyncio
import time

from ..support.browser import WATCH, Said, chromium, keep
from ..support.issuers import issuing
from ..support.server import API, actions, serving
from ..support.sign_on import TENANT, add_provider
from ..support.tokens import claims, rsa, sign


def vouching(issuer):
    """The token endpoint's answer for whoever comes from its form: the nonce is in the code."""

    def token(form):
        now = int(time.time())
        nonce = form["code"].removeprefix("code-")
        said = claims(iss=issuer.url, aud="netra", sub="ada", nonce=nonce, iat=now, exp=now + 60)
        return 200, {"access_token": "at", "token_type": "Bearer", "id_token": sign({"alg": "RS256", "kid": "r1"}, said, rsa())}

    return token


async def test_somebody_signs_in_by_his_organisations_provider_sees_its_pages_and_signs_out(netra, operator):
    said = Said()
    async with issuing() as issuer, serving(netra) as url, chromium() as browser, asyncio.timeout(60):
        issuer.token = vouching(issuer)
        await add_provider(netra, "first", issuer)
        context = await browser.new_context()
        await context.add_init_script(WATCH)
        page = await context.new_page()
        said.listen(page)

        await page.goto(f"{url}/ui/login")
        await page.get_by_label("Or with your organisation's identity provider").fill(TENANT)
        await keep(page, "sign-in-by-provider", "wide")
        await page.get_by_role("button", name="Continue").click()
        await page.wait_for_url("**/ui/overview")
        assert issuer.count("/authorize") == 1
        assert await page.evaluate("window.__reports") == []
        assert (await page.goto(f"{url}/ui/webhooks")).status == 200
        assert (await page.goto(f"{url}/ui/tenants")).status == 403  # the operator's alone

        await page.goto(f"{url}/ui/overview")
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/ui/login")
        assert (await page.goto(f"{url}/ui/overview")).status == 401
        await context.close()
    assert [each for each in said.words if "401" not in each and "403" not in each] == []
    assert {"sso.login", "sso.logout"} <= set(await actions(operator, f"{API}/tenants/{TENANT}/audit"))
