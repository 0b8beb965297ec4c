"""Requests made up from the OpenAPI document, right and wrong ones: whatever they say, the server does not fail."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from netra_backend.server.app import create_routes
from netra_backend.server.openapi import document

from ..support.server import API, OPERATOR, endpoint, message, new_netra, serving

SCHEMA = schemathesis.openapi.from_dict(json.loads(document(create_routes())))
OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}
EXAMPLES = 10
KEY = {"authorization": f"Bearer {OPERATOR}"}


async def _serve(folder, ready: Future, stop_wanted: threading.Event) -> None:
    async with new_netra(folder) as netra, serving(netra) as url, httpx.AsyncClient(base_url=url, headers=KEY) as client:
        await client.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
        made, sent = await endpoint(client), await message(client)
        ready.set_result((url, {"app_id": "acme", "tenant": "acme", "endpoint_id": made["id"], "msg_id": sent["id"]}))
        await asyncio.to_thread(stop_wanted.wait)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The URL of a server in a thread of its own, and ids that it has."""
    ready, stop_wanted = Future(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(tmp_path_factory.mktemp("served"), ready, stop_wanted)))
    thread.start()
    try:
        yield ready.result(30)
    finally:
        stop_wanted.set()
        thread.join(30)


def requests_of(operation):
    """Right and wrong requests; an operation that takes nothing has no wrong ones."""
    takes_something = operation.path_parameters or operation.query or operation.body or operation.headers
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if takes_something else (GenerationMode.POSITIVE,)
    return st.one_of(*(operation.as_strategy(mode) for mode in modes))


def test_the_document_has_the_operations():
    assert len(OPERATIONS) > 40


@pytest.mark.parametrize("label", sorted(OPERATIONS, key=lambda label: label.startswith("DELETE")))  # what is deleted is not tried
def test_no_made_up_request_makes_the_server_fail(label, served):
    url, ids = served
    operation = OPERATIONS[label]
    seen = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=requests_of(operation), known=st.booleans())
    def run(case, known):
        if known and case.path_parameters:
            case.path_parameters = {**case.path_parameters, **{name: ids[name] for name in case.path_parameters if name in ids}}
        response = case.call(base_url=url, headers=KEY)
        seen.append(response.status_code)
        assert response.status_code < 500, response.text

    run()
    assert seen
