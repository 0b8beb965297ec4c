"""What an endpoint signs by, over REST: secrets, key pairs, rotation, and the address of the public keys."""

from __future__ import annotations

import pytest
from joserfc.jwk import KeySet

from netra_backend.kernel.ids import to_text
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.testing.signatures import SignatureCheck
from netra_backend.webhooks import verify

from ...support.server import API, client_of, endpoint, message, new_netra, tenant_key
from ...support.storage import eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")
SECRET = "whsec_" + "QUJD" * 10


async def secret_of(client, made):
    return (await client.get(f"{API}/app/acme/endpoint/{made['id']}/secret")).json()["key"]


async def rotate(client, made, **body):
    return await client.post(f"{API}/app/acme/endpoint/{made['id']}/secret/rotate", json=body)


async def public_keys(client, made, app="acme"):
    app_id = (await client.get(f"{API}/app/{app}")).json()["id"]
    return f"/webhooks/{app_id}/{made['id']}/jwks.json"


@pytest.fixture
async def netra(tmp_path):
    async with new_netra(tmp_path, workers=True) as netra:
        yield netra


async def test_a_message_is_signed_by_every_live_key_of_either_kind_and_by_none_that_is_revoked(operator):
    async with MisbehavingEndpoint(keep=True) as receiver:
        made = await endpoint(operator, url=receiver.url, secret=SECRET)
        public = (await rotate(operator, made, keyKind="ed25519")).json()["key"]
        assert public.startswith("whpk_")
        await message(operator)
        await eventually(lambda: len(receiver.received) == 1)
        got = receiver.received[0]
        assert len(got.headers["webhook-signature"].split(" ")) == 2
        assert verify(got.headers, got.body, SECRET) == verify(got.headers, got.body, public) == {"n": 1}

        last = (await rotate(operator, made, keyKind="ed25519", gracePeriodSeconds=0)).json()["key"]
        await message(operator)
        await eventually(lambda: len(receiver.received) == 2)
        got = receiver.received[1]
        assert len(got.headers["webhook-signature"].split(" ")) == 1
        checks = [SignatureCheck([key])(got.headers, got.body, got.at_us // 1_000_000) for key in (SECRET, public, last)]
        assert checks == [False, False, True]


async def test_the_private_half_of_a_pair_is_never_told(operator):
    made = await endpoint(operator, keyKind="ed25519")
    assert (await secret_of(operator, made)).startswith("whpk_")
    pair = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
    given = await rotate(operator, made, key=pair)
    assert given.json() == {"key": "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="}
    assert await secret_of(operator, made) == given.json()["key"]


async def test_public_keys_stand_at_an_address_that_needs_no_key(app, operator):
    made = await endpoint(operator, keyKind="ed25519")
    await rotate(operator, made)
    path = await public_keys(operator, made)
    async with client_of(app, None) as anybody:
        answer = await anybody.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/jwk-set+json")
        assert answer.headers["cache-control"] == "public, max-age=60"
        keys = answer.json()["keys"]
        assert len(KeySet.import_key_set({"keys": keys}).keys) == len(keys) == 2
        assert all("d" not in key for key in keys)
        assert (await anybody.get(f"{API}/app/acme/endpoint/{made['id']}")).status_code == 401


async def test_the_address_does_not_tell_who_exists(app, operator):
    made = await endpoint(operator, keyKind="ed25519")
    path = await public_keys(operator, made)
    await tenant_key(operator, "globex")
    globex = (await operator.get(f"{API}/app/globex")).json()["id"]
    app_id = path.split("/")[2]
    nobody = [
        path.replace(app_id, globex),
        path.replace(app_id, "acme"),
        path.replace(app_id, to_text("app", b"0" * 16)),
        path.replace(made["id"], to_text("ep", b"0" * 16)),
        path.replace(made["id"], "hook"),
    ]
    async with client_of(app, None) as anybody:
        assert len((await anybody.get(path)).json()["keys"]) == 1
        for other in nobody:
            answer = await anybody.get(other)
            assert (answer.status_code, answer.json()) == (200, {"keys": []}), other
        assert (await anybody.post(path)).status_code == 401


@pytest.mark.parametrize("body", [{"keyKind": "rsa"}, {"gracePeriodSeconds": -1}, {"gracePeriodSeconds": 604_801}, {"key": "whsk_%"}])
async def test_a_rotation_that_means_nothing_is_refused(operator, body):
    made = await endpoint(operator)
    assert (await rotate(operator, made, **body)).status_code == 422
