"""The audit trail over REST: a client of C2SP tlog-tiles reads a tenant's log here, and nobody else does."""

from __future__ import annotations

import hashlib

import pytest

from netra_backend.kernel.scope import Scope
from netra_backend.observability.audit import exporting, note
from netra_backend.observability.audit.verifying import verify, verify_receipt

from ...support import audit_verifier
from ...support.server import API, client_of, endpoint, tenant_key

pytestmark = pytest.mark.usefixtures("every_server_engine")
LOG = f"{API}/tenants/acme/audit"
ACME = Scope("acme", "tester")


@pytest.fixture
async def invited(netra, operator):
    """The id of an entry with personal data, in a log that is settled."""

    async def record(tx):
        return await netra.audit.record(tx, "user.invite", "user_1", personal={"email": "a@b.example"})

    await endpoint(operator)
    id_ = await netra.write(record, tenant="acme")
    await netra.audit.settle(ACME)
    return id_


async def index_of(operator, id_):
    listed = (await operator.get(LOG, params={"after": -1})).json()["data"]
    return next(each["index"] for each in listed if each["id"] == id_)


async def test_a_log_that_is_read_by_its_files_alone_holds_for_both_judges(operator, invited, tmp_path):
    async def source(path):
        answer = await operator.get(f"{LOG}/{path}")
        assert answer.status_code == 200, answer.text
        return answer.content

    await exporting.export(source, tmp_path / "export")
    vkey = (await operator.get(f"{LOG}/vkey")).text
    assert verify(tmp_path / "export", vkey).ok
    assert audit_verifier.judge(tmp_path / "export") is None
    checkpoint = await operator.get(f"{LOG}/checkpoint")
    assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
    assert note.read_note(checkpoint.text).size == len((tmp_path / "export/entries.ndjson").read_bytes().splitlines())
    tile = await operator.get(f"{LOG}/tile/0/000.p/1")
    assert (tile.headers["content-type"], "immutable" in tile.headers["cache-control"]) == ("application/octet-stream", True)


async def test_the_installation_has_a_log_of_its_own(netra, operator):
    await operator.post(f"{API}/keys", json={"name": "a"})
    await netra.audit.settle(Scope("*", "tester"))
    assert "/*/1-" in (await operator.get(f"{API}/audit/checkpoint")).text
    assert (await operator.get(f"{API}/audit/tile/entries/000.p/1")).status_code == 200
    assert (await operator.get(f"{API}/audit/minimum-index")).text == "0\n"
    vkey = (await operator.get(f"{API}/audit/vkey")).text
    assert verify_receipt((await operator.get(f"{API}/audit/proof/0")).content, vkey).ok
    assert (await operator.get(f"{API}/audit")).json()["data"][0]["index"] == 0


async def test_a_receipt_is_given_by_index_and_by_id(operator, invited):
    index = await index_of(operator, invited)
    by_index, by_id = await operator.get(f"{LOG}/proof/{index}"), await operator.get(f"{LOG}/proof/{invited}")
    assert by_index.content == by_id.content
    assert verify_receipt(by_index.content, (await operator.get(f"{LOG}/vkey")).text).ok
    for wrong, status in (("99", 404), ("aud_" + "0" * 26, 404), ("junk", 422), ("9" * 26, 422)):
        assert (await operator.get(f"{LOG}/proof/{wrong}")).status_code == status


async def test_entries_are_listed_by_index_without_a_gap_and_filtered_by_what_they_say(operator, invited):
    whole = (await operator.get(LOG, params={"after": -1, "limit": 250})).json()
    assert [each["index"] for each in whole["data"]] == list(range(len(whole["data"])))
    first = (await operator.get(LOG, params={"after": -1, "limit": 2})).json()
    assert (first["data"], first["after"], first["done"]) == (whole["data"][:2], "1", False)
    assert (await operator.get(LOG, params={"after": first["after"], "limit": 250})).json()["data"] == whole["data"][2:]
    found = (await operator.get(LOG, params={"action": "user.invite", "since": "2020-01-01T00:00:00Z"})).json()["data"]
    assert [each["id"] for each in found] == [invited]
    assert (await operator.get(LOG, params={"action": "user.invite", "until": "2020-01-01T00:00:00Z"})).json()["data"] == []
    refused = await operator.get(LOG, params={"action": "user.invite", "after": 1})
    assert (refused.status_code, "by id" in refused.text) == (422, True)


async def test_personal_data_is_shown_with_an_entry_and_erased_with_another(operator, invited):
    index = await index_of(operator, invited)
    shown = (await operator.get(f"{LOG}/personal/{invited}")).json()
    assert shown["data"] == {"email": "a@b.example"}
    (entry,) = (await operator.get(LOG, params={"action": "user.invite"})).json()["data"]
    assert entry["personal"] == hashlib.sha256(bytes.fromhex(shown["salt"]) + b'{"email":"a@b.example"}').hexdigest()
    erased = await operator.post(f"{LOG}/erase", json={"index": index, "reason": "asked for"})
    assert (erased.status_code, erased.json()["id"]) == (200, invited)
    assert (await operator.get(f"{LOG}/personal/{invited}")).status_code == 404
    again = await operator.post(f"{LOG}/erase", json={"index": index, "reason": "asked for"})
    assert (again.status_code, again.json()["code"]) == (409, "nothing_to_erase")
    actions = [each["action"] for each in (await operator.get(LOG, params={"limit": 250})).json()["data"]]
    assert actions.count("audit.personal.read") == actions.count("audit.erased") == 1


async def test_a_tenants_key_reads_its_own_log_and_no_other_and_erases_nothing(app, operator, invited):
    own, other = (await tenant_key(operator))["key"], (await tenant_key(operator, "globex"))["key"]
    async with client_of(app, own) as acme, client_of(app, other) as globex:
        for path in ("", "/checkpoint", "/vkey", "/tile/0/000.p/1", "/tile/entries/000.p/1", "/proof/0"):
            assert (await acme.get(LOG + path)).status_code == 200, path
            assert (await globex.get(LOG + path)).status_code == 404, path
        assert (await acme.get(f"{API}/audit/checkpoint")).status_code == 403
        body = {"index": 0, "reason": "mine"}
        assert (await acme.post(f"{LOG}/erase", json=body)).status_code == 403
        assert (await globex.post(f"{LOG}/erase", json=body)).status_code in {403, 404}


async def test_what_the_checkpoint_does_not_cover_is_not_there(operator):
    assert (await operator.get(f"{LOG}/checkpoint")).status_code == 404
    for path in ("tile/0/000.p/200", "tile/9/000", "tile/x", "tile/entries/../checkpoint"):
        assert (await operator.get(f"{LOG}/{path}")).status_code in {400, 404}, path
