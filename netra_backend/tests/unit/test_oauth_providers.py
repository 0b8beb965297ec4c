"""The presets of providers: data that says what it knows and from whom."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from netra_backend.errors import InvalidInput
from netra_backend.oauth.providers import DAY_S, ROTATIONS, filled, listed, presets

ADDRESSED = ["issuer", "authorize", "token", "revoke", "device"]


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_says_how_refresh_tokens_change_and_who_says_so(name):
    preset = presets()[name]
    assert preset["rotation"] in ROTATIONS
    assert urlsplit(preset["source"]).scheme == "https"
    known = {"title", "rotation", "replay_window_s", "idle_days", "note", "source", "parameters", "auth", "assertion", *ADDRESSED}
    assert set(preset) <= known
    assert set(preset.get("assertion", {})) <= {"audience", "subject"}
    assert "replay_window_s" not in preset or preset["rotation"] == "each_use"


@pytest.mark.parametrize("name", sorted(set(presets()) - {"oidc", "oauth2"}))
def test_a_preset_fills_in_addresses_that_are_all_https(name):
    parameters = dict.fromkeys(presets()[name].get("parameters", {}), "id.example")
    found = filled({"provider": name, "client_id": "x", "parameters": parameters})
    places = [found.get("issuer"), *found["endpoints"].get("token", []), *(found["endpoints"].get(kind) for kind in ADDRESSED[3:])]
    assert [place for place in places if place and urlsplit(place).scheme != "https"] == []
    assert found.get("issuer") or found["endpoints"]["token"]
    assert [place for place in places if place and "{" in place] == []


def test_what_a_registration_says_itself_wins_over_its_preset():
    given = {"provider": "xero", "client_id": "x", "replay_window_s": 0, "endpoints": {"token": ["https://own/token"]}}
    found = filled(given)
    assert (found["replay_window_s"], found["endpoints"]["token"], found["idle_s"]) == (0, ["https://own/token"], 30 * DAY_S)
    assert found["endpoints"]["authorize"].startswith("https://login.xero.com/")


def test_an_issuer_of_ones_own_gets_none_of_the_presets_addresses():
    found = filled({"provider": "google", "client_id": "x", "issuer": "https://own.example"})
    assert (found["issuer"], found.get("endpoints")) == ("https://own.example", None)


def test_a_preset_says_what_is_signed_there_unless_the_registration_or_its_issuer_is_another():
    found = filled({"provider": "salesforce", "client_id": "x", "parameters": {"host": "test.salesforce.com"}, "assertion": {"key": "k"}})
    assert found["assertion"] == {"audience": "https://test.salesforce.com", "key": "k"}
    own = filled({"provider": "google", "client_id": "x", "assertion": {"key": "k", "subject": "user@acme.example"}})
    assert own["assertion"]["subject"] == "user@acme.example"
    other = filled({"provider": "google", "client_id": "x", "issuer": "https://own.example", "assertion": {"key": "k"}})
    assert other["assertion"] == {"key": "k"}
    assert "assertion" not in filled({"provider": "google", "client_id": "x"})
    assert {each["provider"] for each in listed() if each["assertion"]} == {"google", "salesforce"}


@pytest.mark.parametrize("value", ["", "evil.example/", "a@b", "a b", "{x}", "a?b", "a#b", "..", 7])
def test_a_parameter_leads_to_no_other_place(value):
    with pytest.raises(InvalidInput):
        filled({"provider": "okta", "client_id": "x", "parameters": {"domain": value}})


@pytest.mark.parametrize(
    "given",
    [{"provider": "nobody"}, {"provider": ["github"]}, {"provider": "github", "parameters": {"host": "x"}}, {"parameters": {"a": "b"}}],
)
def test_what_is_no_preset_or_parameter_is_refused(given):
    with pytest.raises(InvalidInput):
        filled({"client_id": "x", **given})


def test_the_list_names_each_providers_rotation_replay_and_source():
    found = {each["provider"]: each for each in listed()}
    assert {"github", "google", "microsoft", "slack", "atlassian", "xero", "salesforce", "hubspot", "okta", "auth0", "oidc"} <= set(found)
    assert (found["github"]["rotation"], found["github"]["replay_window_s"]) == ("each_use", 0)
    assert found["okta"]["parameters"] == ["domain"]
    assert all(each["source"] for each in found.values())
