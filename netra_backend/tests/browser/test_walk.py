"""Somebody walks the dashboard in a real browser: every page as operator and as tenant, every look, and the actions."""

from __future__ import annotations

import asyncio
import re

import pytest

from netra_backend import Event
from netra_backend.dashboard import site
from netra_backend.kernel.scope import Scope
from netra_backend.observability.kpi.worker import Follower
from netra_backend.webhooks.causes import Witness

from ..support.browser import LOOKS, Said, chromium, keep, visiting
from ..support.dashboard import furnish
from ..support.server import API, OPERATOR, actions, client_of, create_app, endpoint, message, serving, tenant_key
from ..support.storage import eventually

OPERATORS = ("overview", "webhooks", "kpis", "audit", "tenants", "settings")
SIZE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


PATTERNS = {route.path.removeprefix("/ui/") for part in site.PARTS for route in part.router.routes}


async def orders(tx, netra):
    for number in range(5):
        await netra.events.record(tx, "order.promised", {"id": f"order-{number}", "amount": 10.5})
    for number in range(3):
        await netra.events.record(tx, "order.kept", {"id": f"order-{number}"})


async def promise(netra, tenant) -> None:
    """A KPI with an objective, of which three objects of five were kept, and one alert: all counted, as a process with workers does."""
    promised, kept = Event("order.promised"), Event("order.kept").within("1s").by("id")
    kpi = netra.kpi.define("kept", unit="orders", value="amount", total=promised, good=kept).slo(target=0.9, min_events=1, page_if_bad=1)
    await netra.kpi.flush()
    await netra.write(orders, netra, tenant=tenant)
    follower = Follower(netra.database, netra.runtime, netra.membership, Witness(), Witness())

    async def counted():
        await netra.leader.drain()
        await follower.count()
        await follower.pass_time()
        await follower.look_at_alerts()
        found = await kpi.impact(since="1h")
        return (found["good"], found["late"]) == (3, 2)

    await eventually(counted)


async def look_into(netra, operator, own) -> list[str]:
    """The pages on which one thing is looked into: a trace, an entry of the trail with its proof, a debug session."""
    await netra.audit.settle(Scope(own.tenant, "tester"))
    asked = {"tenant": own.tenant}
    (trace,) = set(re.findall(r"/ui/traces/([0-9a-f]{32})", (await operator.get(f"/ui/{own.paths[3]}", params=asked)).text))
    (entry,) = set(re.findall(r"/ui/audit/(aud_\w+)", (await operator.get("/ui/audit", params={**asked, "action": "tenant.create"})).text))
    made = await operator.post(f"{API}/tenants/{own.tenant}/debug/sessions", json={"reason": "deliveries fail", "ttl": "10m"})
    return [f"traces/{trace}", f"audit/{entry}", "traces", "debug", f"debug/{made.json()['session']}"]


def are_all(paths) -> None:
    """Each page that the dashboard has is among these."""
    left = {each for each in PATTERNS if not any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), path) for path in paths)}
    assert left == set()


def name_of(path: str, own) -> str:
    """A name for the screenshot that is the same in every run."""
    for mark in sorted(own.marks[1:], key=len, reverse=True):
        path = path.replace(mark, "one")
    return path.replace("/", "-")


@pytest.mark.parametrize("look", list(LOOKS))
async def test_every_page_is_whole_in_every_look(netra, operator, look):
    own = await furnish(netra, "acme-inc")
    key = (await tenant_key(operator, own.tenant))["key"]
    await promise(netra, own.tenant)
    within = await look_into(netra, operator, own)
    are_all([*OPERATORS, *own.paths, *within])
    said = Said()
    async with serving(netra) as url, chromium() as browser, asyncio.timeout(100):
        async with visiting(browser, url, OPERATOR, said, look) as page:
            for path in OPERATORS:
                assert (await page.goto(f"{url}/ui/{path}")).status == 200, path
                assert await page.evaluate(SIZE) == 0, f"{path} is wider than the window"
                await keep(page, f"operator-{path}", look)
            for path in within:
                assert (await page.goto(f"{url}/ui/{path}?tenant={own.tenant}")).status == 200, path
                assert await page.evaluate(SIZE) == 0, f"{path} is wider than the window"
                assert await page.evaluate("window.__reports") == [], path
                await keep(page, f"operator-{path.partition('/')[0]}-{'one' if '/' in path else 'all'}", look)
        async with visiting(browser, url, key, said, look) as page:
            for path in own.paths:
                assert (await page.goto(f"{url}/ui/{path}")).status == 200, path
                assert await page.locator("#live.on").count() <= 1
                assert await page.evaluate(SIZE) == 0, f"{path} is wider than the window"
                assert await page.locator("h1").count() == 1, path
                assert await page.evaluate("window.__reports") == [], path
                await keep(page, f"tenant-{name_of(path, own)}", look)
    assert said.words == []


async def confirm(page, name: str) -> None:
    """Press the action of that name and say yes."""
    await page.locator(f'[data-netra="{name}"] button[type=submit]').first.click()
    await page.locator("#ask-yes").click()


async def test_actions_ask_have_their_effect_and_leave_an_entry(netra, operator):
    own = await furnish(netra, "acme-inc")
    said = Said()
    key = (await tenant_key(operator, own.tenant, scopes=["tenant", "endpoint:secret"]))["key"]
    message_at, endpoint_at, run_at = (f"/ui/{own.paths[number]}" for number in (3, 2, 8))
    async with serving(netra) as url, chromium() as browser, asyncio.timeout(100), visiting(browser, url, key, said) as page:
        told = page.locator("#told")

        await page.goto(url + endpoint_at)
        await confirm(page, "webhooks.endpoint.disable")
        await page.get_by_role("button", name="Enable").wait_for()
        await confirm(page, "webhooks.endpoint.enable")
        await page.get_by_role("button", name="Disable").wait_for()
        await confirm(page, "webhooks.endpoint.rotate_secret")
        shown = page.locator("#shown-value")
        await shown.wait_for()
        assert (await shown.text_content()).startswith("whsec_")
        await page.get_by_role("button", name="Done").click()

        await page.goto(url + message_at)
        await page.locator('[data-netra="webhooks.delivery.resend"] button').first.click()
        await page.get_by_role("button", name="Leave it").click()
        assert await actions(operator, f"{API}/tenants/{own.tenant}/audit") == [
            each for each in await actions(operator, f"{API}/tenants/{own.tenant}/audit") if each != "delivery.resend"
        ]
        await confirm(page, "webhooks.delivery.resend")
        await told.get_by_text("It is on its way.").wait_for()

        await page.goto(url + endpoint_at)
        await confirm(page, "webhooks.endpoint.recover")
        await told.get_by_text("The task is running").wait_for()

        await page.goto(url + run_at)
        await confirm(page, "batch.run.pause")
        await page.get_by_role("button", name="Resume").wait_for()
        await confirm(page, "batch.run.resume")
        await page.get_by_role("button", name="Pause").wait_for()
        await confirm(page, "batch.run.cancel")
        await page.get_by_role("button", name="Run failed items again").wait_for()
        await confirm(page, "batch.run.rerun")
        await told.get_by_text("The child run is queued.").wait_for()

        await page.goto(url + "/ui/cache")
        await page.fill("#deps", "org:7")
        await confirm(page, "cache.invalidate")
        await told.get_by_text("Invalidated.").wait_for()

        await page.goto(f"{url}/ui/{own.paths[6]}")
        await confirm(page, "oauth.connection.revoke")
        await page.locator('[data-netra="oauth.connection.state"]', has_text="revoked").wait_for()
    done = set(await actions(operator, f"{API}/tenants/{own.tenant}/audit"))
    assert done >= {
        "endpoint.update", "endpoint.secret.create", "endpoint.secret.read", "delivery.resend", "task.recover",
        "run.pause", "run.resume", "run.cancel", "run.rerun", "cache.invalidate", "connection.revoke",
    }  # fmt: skip
    assert said.words == []


async def is_refused(tenant):
    return (await tenant.get(f"{API}/app/fresh/endpoint")).status_code == 401


async def test_an_operator_makes_tenants_keys_and_links_and_revokes_them(netra, app, operator):
    said = Said()
    async with serving(netra) as url, chromium() as browser, asyncio.timeout(60), visiting(browser, url, OPERATOR, said) as page:
        await page.goto(f"{url}/ui/tenants")
        await page.fill("#uid", "fresh")
        await page.get_by_role("button", name="Make tenant").click()
        await page.get_by_role("link", name="fresh").click()
        await page.fill("#name", "by hand")
        await page.get_by_role("button", name="Make key").click()
        shown = page.locator("#shown-value")
        await shown.wait_for()
        key = await shown.text_content()
        await page.get_by_role("button", name="Done").click()
        async with client_of(app, key) as tenant:
            assert (await tenant.get(f"{API}/app/fresh/endpoint")).status_code == 200
            await confirm(page, "keys.revoke")
            await page.get_by_text("revoked").first.wait_for()
            await eventually(lambda: is_refused(tenant))  # this server remembers for half a second whom another one let in
        await confirm(page, "portal.link")
        await shown.wait_for()
        link = await shown.text_content()
        await page.get_by_role("button", name="Done").click()
        async with await browser.new_context() as visitor:
            other = await visitor.new_page()
            await other.goto(link)
            await other.wait_for_url("**/ui/overview")
            assert await other.locator("nav.parts a").all_text_contents() == ["Overview", "Webhooks"]
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/ui/login")
        assert (await page.goto(f"{url}/ui/tenants")).status == 401
    assert [each for each in said.words if "401" not in each] == []


async def test_a_debug_session_is_started_followed_and_ended(netra, operator):
    own = await furnish(netra, "acme-inc")
    said = Said()
    async with serving(netra) as url, chromium() as browser, asyncio.timeout(60), visiting(browser, url, OPERATOR, said) as page:
        await page.goto(f"{url}/ui/debug?tenant={own.tenant}")
        await page.fill("#reason", "deliveries fail")
        await confirm(page, "debug.start")
        await page.locator('td a[href^="/ui/debug/dbg_"]').click()
        await page.locator("[data-follow]").wait_for(state="attached")
        async with client_of(create_app(netra)) as client:
            await client.get(f"{API}/app/{own.tenant}/endpoint")
        await page.locator("[data-netra='debug.records'] summary", has_text="http").first.wait_for()
        await confirm(page, "debug.end")
        await page.locator('[data-netra="debug.session.state"]', has_text="ended").wait_for()
    assert said.words == []


async def test_a_page_shows_what_happens_without_being_loaded_again(netra, operator):
    await endpoint(operator)
    said = Said()
    async with serving(netra) as url, chromium() as browser, asyncio.timeout(60), visiting(browser, url, OPERATOR, said) as page:
        await page.goto(f"{url}/ui/webhooks?tenant=acme")
        await page.locator("#live.on").wait_for()
        await page.evaluate("window.__here = true")
        sent = await message(operator)
        await page.get_by_text(sent["id"]).wait_for()
        assert await page.evaluate("window.__here")
    assert said.words == []


async def test_pages_are_read_without_script_and_walked_by_keyboard(netra, operator):
    own = await furnish(netra, "acme-inc")
    async with serving(netra) as url, chromium() as browser, asyncio.timeout(60):
        headers = {"authorization": f"Bearer {OPERATOR}"}
        async with await browser.new_context(java_script_enabled=False, extra_http_headers=headers) as context:
            page = await context.new_page()
            for path in own.paths:
                assert (await page.goto(f"{url}/ui/{path}?tenant={own.tenant}")).status == 200
                assert await page.locator("form.act:visible").count() == 0
                assert await page.locator("main").inner_text()
        async with visiting(browser, url, OPERATOR, Said()) as page:
            await page.goto(f"{url}/ui/webhooks?tenant={own.tenant}")
            await page.keyboard.press("Tab")
            assert await page.evaluate("document.activeElement.textContent") == "To the content"
            await page.keyboard.press("Enter")
            assert await page.evaluate("document.activeElement.id") == "main"
            unnamed = await page.locator("input:visible, button:visible, select:visible, a:visible").evaluate_all(
                "found => found.filter(each => !(each.textContent.trim() || each.labels?.length || each.ariaLabel)).map(each => each.outerHTML)"
            )
            assert unnamed == []
