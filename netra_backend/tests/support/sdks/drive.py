"""Drives the official Python SDK of Svix, 1.x or 2.x, through every operation of a server, each judged by what comes back.

A program of its own, because the two generations share a name: `drive.py URL TOKEN RECEIVER`, with the SDK first on the path.
2.x says `upsert` and `event_types` where 1.x says `update` and `filter_types`.
"""

from __future__ import annotations

import datetime as dt
import sys
import time

from svix import api, models
from svix.api import Svix, SvixOptions
from svix.api.errors.http_error import HttpError
from svix.api.errors.http_validation_error import HTTPValidationError
from svix.webhooks import Webhook

PATIENCE_S = 20.0
NOW = dt.datetime.now(dt.UTC)
AGO, AHEAD = NOW - dt.timedelta(hours=1), NOW + dt.timedelta(hours=1)

url, token, receiver = sys.argv[1:]
svix = Svix(token, SvixOptions(server_url=url, retry_schedule=[]))
OLD = hasattr(svix.application, "update")
TYPES = "filter_types" if OLD else "event_types"
OPERATIONAL_TYPES = "filter_types" if "filter_types" in models.OperationalWebhookEndpointIn.model_fields else "event_types"


def named(new: str, old: str):
    """A model by the name that this generation gives it."""
    return getattr(models, old if OLD else new)


def until(ask, holds):
    """What `ask` returns once it holds."""
    end = time.monotonic() + PATIENCE_S
    while not holds(found := ask()):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def refused(call, status):
    """The call ends with this status, as the SDK's own error."""
    try:
        call()
    except (HttpError, HTTPValidationError) as error:
        assert error.status_code == status, (error.status_code, status)
    else:
        raise AssertionError(f"expected {status}")


def upsert(resource):
    """`upsert`, or what 1.x calls so."""
    return resource.update if OLD else resource.upsert


def applications():
    made = svix.application.create(models.ApplicationIn(name="Acme", uid="acme", metadata={"plan": "free"}))
    assert svix.application.get_or_create(models.ApplicationIn(name="Other", uid="acme")).id == made.id
    assert svix.application.get("acme").name == "Acme"
    assert svix.application.patch("acme", models.ApplicationPatch(name="Acme 2")).name == "Acme 2"
    assert upsert(svix.application)("acme", models.ApplicationIn(name="Acme 3", uid="acme")).id == made.id
    spare = svix.application.create(models.ApplicationIn(name="Spare"))
    listed = svix.application.list(api.ApplicationListOptions(limit=1))
    assert not listed.done
    assert [app.id for app in svix.application.list(api.ApplicationListOptions(iterator=listed.iterator)).data] == [spare.id]
    svix.application.delete(spare.id)
    refused(lambda: svix.application.get(spare.id), 404)
    refused(lambda: svix.application.create(models.ApplicationIn(name="x", uid="acme")), 409)


def event_types():
    schema = {"1": {"type": "object", "required": ["n"], "examples": [{"n": 7}]}}
    svix.event_type.create(models.EventTypeIn(name="thing.made", description="d", schemas=schema))
    svix.event_type.create(models.EventTypeIn(name="thing.gone", description="d"))
    assert svix.event_type.get("thing.made").schemas == schema
    assert svix.event_type.patch("thing.gone", models.EventTypePatch(description="e")).description == "e"
    body = named("EventTypeUpsertIn", "EventTypeUpdate")(description="f")
    assert upsert(svix.event_type)("thing.gone", body).description == "f"
    svix.event_type.delete("thing.gone")
    assert [each.name for each in svix.event_type.list().data] == ["thing.made"]


def endpoints(app_id):
    made = svix.endpoint.create(app_id, models.EndpointIn(url=receiver, uid="hook", headers={"x-a": "1"}, **{TYPES: ["thing.made"]}))
    assert getattr(made, TYPES) == ["thing.made"]
    assert svix.endpoint.get(app_id, "hook").id == made.id
    assert svix.endpoint.patch(app_id, "hook", models.EndpointPatch(description="d")).description == "d"
    body = named("EndpointUpsertIn", "EndpointUpdate")(url=receiver, uid="hook", **{TYPES: ["thing.made"]})
    assert upsert(svix.endpoint)(app_id, made.id, body).id == made.id
    spare = svix.endpoint.create(app_id, models.EndpointIn(url="https://example.com/"))
    assert [each.id for each in svix.endpoint.list(app_id).data] == [made.id, spare.id]
    svix.endpoint.delete(app_id, spare.id)
    assert svix.endpoint.get_headers(app_id, made.id).headers == {"x-a": "1"}
    (svix.endpoint.update_headers if OLD else svix.endpoint.set_headers)(app_id, made.id, models.EndpointHeadersIn(headers={"x-b": "2"}))
    svix.endpoint.patch_headers(app_id, made.id, models.EndpointHeadersPatchIn(headers={"x-c": "3"}))
    assert svix.endpoint.get_headers(app_id, made.id).headers == {"x-b": "2", "x-c": "3"}
    first = svix.endpoint.get_secret(app_id, made.id).key
    svix.endpoint.rotate_secret(app_id, made.id, models.EndpointSecretRotateIn())
    second = svix.endpoint.get_secret(app_id, made.id).key
    assert first != second
    Webhook(second)
    return made


def messages(app_id, endpoint):
    refused(lambda: svix.message.create(app_id, models.MessageIn(event_type="thing.made", payload={})), 422)
    sent = svix.message.create(app_id, models.MessageIn(event_type="thing.made", event_id="e-1", payload={"n": 1}, tags=["t"]))
    again = svix.message.create(app_id, models.MessageIn(event_type="thing.made", event_id="e-1", payload={"n": 1}, tags=["t"]))
    assert again.id == sent.id
    assert svix.message.get(app_id, "e-1").id == sent.id
    assert [each.id for each in svix.message.list(app_id, api.MessageListOptions(tag="t")).data] == [sent.id]
    assert svix.message.precheck(app_id, models.MessagePrecheckIn(event_type="thing.made")).active
    example = svix.endpoint.send_example(app_id, endpoint.id, models.EventExampleIn(event_type="thing.made"))
    until(lambda: svix.endpoint.get_stats(app_id, endpoint.id), lambda found: found.success == 2)
    if not OLD:
        assert svix.endpoint.get_attempt_stats(app_id, endpoint.id).success == 2
    by_message = svix.message_attempt.list_by_msg(app_id, sent.id).data
    assert [each.response_status_code for each in by_message] == [200]
    assert len(svix.message_attempt.list_by_endpoint(app_id, endpoint.id).data) == 2
    assert {each.id for each in svix.message_attempt.list_attempted_messages(app_id, endpoint.id).data} == {sent.id, example.id}
    assert [each.id for each in svix.message_attempt.list_attempted_destinations(app_id, sent.id).data] == [endpoint.id]
    assert svix.message_attempt.get(app_id, sent.id, by_message[0].id).id == by_message[0].id
    svix.message_attempt.resend(app_id, sent.id, endpoint.id)
    until(lambda: svix.message_attempt.list_by_msg(app_id, sent.id).data, lambda found: len(found) == 2)
    return sent


def tasks(app_id, endpoint):
    def ended(begun):
        return until(lambda: svix.background_task.get(begun.id), lambda found: found.status == "finished")

    svix.endpoint.patch(app_id, endpoint.id, models.EndpointPatch(disabled=True))
    missed = svix.message.create(app_id, models.MessageIn(event_type="thing.made", payload={"n": 2}))
    svix.endpoint.patch(app_id, endpoint.id, models.EndpointPatch(disabled=False))
    recovery = svix.endpoint.recover(app_id, endpoint.id, models.RecoverIn(since=AGO))
    assert ended(recovery).data["messagesSent"] == 1
    (attempt,) = until(lambda: svix.message_attempt.list_by_msg(app_id, missed.id).data, lambda found: len(found) == 1)
    assert ended(svix.endpoint.replay_missing(app_id, endpoint.id, models.ReplayIn(since=AGO, until=AHEAD))).task == "endpoint.replay"
    wanted = models.BulkReplayIn(since=AGO, status=models.MessageStatus.SUCCESS, event_types=["thing.made"], tag="t")
    assert ended(svix.endpoint.bulk_replay(app_id, endpoint.id, wanted)).data["messagesSent"] == 1
    listed = svix.background_task.list(api.BackgroundTaskListOptions(task="endpoint.recover", status="finished"))
    assert [each.id for each in listed.data] == [recovery.id]
    svix.message_attempt.expunge_content(app_id, missed.id, attempt.id)
    svix.message.expunge_content(app_id, missed.id)
    assert svix.message.get(app_id, missed.id, api.MessageGetOptions(with_content=True)).payload == {"expired": True}
    refused(lambda: svix.message_attempt.resend(app_id, missed.id, endpoint.id), 409)


def operational():
    """The operator's own endpoints, which both generations take by `event_types`."""
    ours = svix.operational_webhook.endpoint if hasattr(svix, "operational_webhook") else svix.operational_webhook_endpoint
    made = ours.create(models.OperationalWebhookEndpointIn(url=receiver, uid="ops", **{OPERATIONAL_TYPES: ["endpoint.disabled"]}))
    assert ours.get("ops").id == made.id
    body = named("OperationalWebhookEndpointUpsertIn", "OperationalWebhookEndpointUpdate")(url="https://example.com/", uid="ops")
    assert upsert(ours)("ops", body).url == "https://example.com/"
    assert [each.id for each in ours.list().data] == [made.id]
    headers = models.OperationalWebhookEndpointHeadersIn(headers={"x-a": "1"})
    (ours.update_headers if OLD else ours.set_headers)("ops", headers)
    assert ours.get_headers("ops").headers == {"x-a": "1"}
    first = ours.get_secret("ops").key
    ours.rotate_secret("ops", models.OperationalWebhookEndpointSecretIn())
    assert ours.get_secret("ops").key != first
    ours.delete("ops")
    assert ours.list().data == []


def portal(app_id):
    link = svix.authentication.app_portal_access(app_id, models.AppPortalAccessIn())
    assert link.url.endswith(link.token)
    Svix(link.token, SvixOptions(server_url=url, retry_schedule=[])).authentication.logout()
    svix.authentication.expire_all(app_id, models.ApplicationTokenExpireIn())


def main():
    svix.health.get()
    applications()
    event_types()
    endpoint = endpoints("acme")
    messages("acme", endpoint)
    tasks("acme", endpoint)
    portal("acme")
    operational()


main()
