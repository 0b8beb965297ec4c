"""The guests: middlewares that set tenant and trace, and filters that keep our tables out of other people's migrations."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest
import sqlalchemy
from django.db import connections, models
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

from netra_backend import Netra
from netra_backend.errors import InvalidInput, MissingTenant
from netra_backend.integrations.asgi import NetraMiddleware, traceparent_of
from netra_backend.integrations.django import NetraMiddleware as DjangoMiddleware
from netra_backend.integrations.django import NetraRouter, hide_tables
from netra_backend.integrations.sqlalchemy import begin_immediate, include_name, include_object

from ..support.adopting import settings_of
from ..support.places import File
from ..support.shops import opened, set_django_up

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


@pytest.fixture
async def netra(tmp_path):
    async with Netra(f"sqlite:///{tmp_path / 'netra.db'}", workers=False, environ={}, **settings_of(tmp_path)) as netra:
        yield netra


@pytest.fixture
def stored(tmp_path):
    """(tenant, trace, span) of each message."""
    return lambda: File(tmp_path / "netra.db").query("select tenant, trace_id, span_id from netra_message order by id")


def shop_of(netra, **told):
    """A shop whose sends name no tenant, save those under /named."""
    app = FastAPI()
    app.add_middleware(NetraMiddleware, netra=netra, **told)

    async def send(tx):
        return await netra.webhooks.send(tx, "order.made", {})

    @app.post("/")
    async def of_the_scope():
        return await netra.write(send)

    @app.post("/thread")
    def in_a_thread():
        return netra.sync.write(send)

    @app.post("/named")
    async def of_the_name():
        return await netra.write(send, tenant="named")

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")


async def test_a_requests_tenant_and_trace_arrive_in_the_message(netra, stored):
    async with shop_of(netra, tenant=lambda request: dict(request["headers"])[b"host"].decode()[:4]) as client:
        for path in ("/", "/thread"):
            assert (await client.post(path, headers={"host": "acme.example", **TRACEPARENT})).status_code == 200
    assert stored() == [("acme", TRACE, SPAN)] * 2


async def test_tenant_and_actor_may_be_looked_up(netra, stored):
    async def tenant(request):
        return "acme"

    async with shop_of(netra, tenant=tenant, actor=tenant) as client:
        await client.post("/")
    assert [row[0] for row in stored()] == ["acme"]


async def test_without_a_header_each_request_begins_a_trace_of_its_own(netra, stored):
    async with shop_of(netra, tenant=lambda _: "acme") as client:
        for headers in ({}, {"traceparent": "nonsense"}, [("traceparent", TRACEPARENT["traceparent"])] * 2):
            await client.post("/", headers=headers)
    assert len({trace for _, trace, _ in stored()} - {TRACE}) == 3


async def test_a_request_of_no_tenant_has_a_trace_and_must_name_one(netra, stored):
    async with shop_of(netra) as client:
        with pytest.raises(MissingTenant):
            await client.post("/", headers=TRACEPARENT)
        await client.post("/named", headers=TRACEPARENT)
    assert stored() == [("named", TRACE, SPAN)]


async def test_a_tenant_that_cannot_be_one_is_refused_before_the_application(netra, stored):
    async with shop_of(netra, tenant=lambda _: "*") as client:
        with pytest.raises(InvalidInput):
            await client.post("/named")
    assert stored() == []


async def test_after_the_request_nothing_of_it_is_left(netra):
    async with shop_of(netra, tenant=lambda _: "acme") as client:
        await client.post("/")
    with pytest.raises(MissingTenant):
        netra.adopt(object())


async def test_a_lifespan_is_passed_on_as_it_is(netra):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    await NetraMiddleware(app, netra, tenant=lambda _: pytest.fail("asked"))({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]
    assert traceparent_of({"headers": []}) == ""


def of_request(request):
    return request.headers.get("x-team")


async def test_djangos_middleware_serves_synchronous_views(netra, stored):
    set_django_up()

    async def send(tx):
        return await netra.webhooks.send(tx, "order.made", {})

    async def view(request):
        return HttpResponse(await netra.write(send))

    with override_settings(NETRA=netra, NETRA_TENANT=f"{__name__}.of_request"):
        middleware = DjangoMiddleware(lambda request: HttpResponse(netra._home.is_here))
        assert middleware(RequestFactory().get("/")).content == b"True"
        waiting = DjangoMiddleware(view)
        await waiting(RequestFactory().post("/", headers={"x-team": "acme", **TRACEPARENT}))
        with pytest.raises(MissingTenant):
            await waiting(RequestFactory().post("/"))
    assert stored() == [("acme", TRACE, SPAN)]


def test_djangos_middleware_serves_synchronous_code(tmp_path, stored):
    set_django_up()

    async def send(tx, netra):
        return await netra.webhooks.send(tx, "order.made", {})

    with Netra(f"sqlite:///{tmp_path / 'netra.db'}", workers=False, environ={}, **settings_of(tmp_path)) as netra:
        with override_settings(NETRA=netra, NETRA_TENANT=of_request):
            middleware = DjangoMiddleware(lambda request: HttpResponse(netra.sync.write(send, netra)))
            middleware(RequestFactory().post("/", headers={"x-team": "acme", **TRACEPARENT}))
        with override_settings(NETRA=netra):
            named = DjangoMiddleware(lambda request: HttpResponse(netra.sync.write(send, netra, tenant="named")))
            named(RequestFactory().post("/", headers=TRACEPARENT))
    assert stored() == [("acme", TRACE, SPAN), ("named", TRACE, SPAN)]


async def test_django_sees_none_of_our_tables_and_migrates_none(netra, tmp_path):
    async with opened("django-sqlite", File(tmp_path / "netra.db")) as shop:
        await shop.sql("create table shop_item (id integer primary key)")

        def tables():
            connection = connections[shop.alias]
            with connection.cursor() as cursor:
                return {table.name for table in connection.introspection.get_table_list(cursor)}

        assert "netra_message" in await shop.do(tables)
        await shop.do(lambda: hide_tables(connections[shop.alias]))
        assert await shop.do(tables) == {"shop_item"}

    class Message(models.Model):  # noqa: DJ008
        class Meta:
            app_label = "shop"
            db_table = "netra_message"

    class Item(models.Model):  # noqa: DJ008
        class Meta:
            app_label = "shop"
            db_table = "shop_item"

    allow = NetraRouter().allow_migrate
    assert allow("default", "shop", "message", model=Message) is False
    assert allow("default", "shop", "item", model=Item) is None
    assert allow("default", "shop") is None


async def test_alembics_filters_leave_our_tables_out(netra, tmp_path):
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'netra.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("create table shop_item (id integer primary key)")
    found = sqlalchemy.MetaData()
    found.reflect(engine)
    engine.dispose()
    names = {name for name in found.tables if include_name(name, "table", {"schema_name": None})}
    assert names == {"shop_item"}
    assert {name for name, table in found.tables.items() if include_object(table, name, "table", True, None)} == {"shop_item"}
    indexes = [index for table in found.tables.values() for index in table.indexes]
    assert indexes
    assert not any(include_object(index, index.name, "index", True, None) for index in indexes)
    assert include_name(None, "schema", {})


async def test_an_engine_set_up_for_it_begins_each_transaction_as_a_writer(netra, tmp_path):
    engine, waiting = (
        sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'netra.db'}"),
        create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'netra.db'}"),
    )
    for each in (engine, waiting):
        begin_immediate(each)
    with engine.begin() as connection:
        connection.exec_driver_sql("select count(*) from netra_message")
        netra.sync.webhooks.send(netra.adopt(connection, tenant="acme"), "order.made", {})
    async with waiting.begin() as connection:
        await connection.exec_driver_sql("select count(*) from netra_message")
        await netra.webhooks.send(netra.adopt(connection, tenant="acme"), "order.made", {})
    engine.dispose()
    await waiting.dispose()


def test_no_guest_is_imported_before_it_is_asked_for():
    program = """
import sys
import netra_backend.integrations.asgi, netra_backend.integrations.django, netra_backend.integrations.sqlalchemy
import netra_backend.storage.adopted
print([name for name in ("sqlalchemy", "django", "psycopg", "aiosqlite", "alembic", "asgiref") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
