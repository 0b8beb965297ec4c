"""Which route writes which audit entries: a route that has an effect stands here, or says why not.

A test enumerates the routes of the application and fails on one that is in neither table, so a new route is red until
somebody has decided. Another test makes each audited request and finds its entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

AUDITED: Final[Mapping[str, tuple[str, ...]]] = {
    "POST /api/v1/app": ("tenant.create",),
    "PUT /api/v1/app/{app_id}": ("tenant.create", "tenant.update"),
    "PATCH /api/v1/app/{app_id}": ("tenant.update",),
    "DELETE /api/v1/app/{app_id}": ("tenant.delete", "endpoint.delete"),
    "POST /api/v1/app/{app_id}/endpoint": ("endpoint.create", "endpoint.secret.create"),
    "PUT /api/v1/app/{app_id}/endpoint/{endpoint_id}": ("endpoint.create", "endpoint.update"),
    "PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}": ("endpoint.update",),
    "DELETE /api/v1/app/{app_id}/endpoint/{endpoint_id}": ("endpoint.delete",),
    "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/secret": ("endpoint.secret.read",),
    "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/secret/rotate": (
        "endpoint.secret.create",
        "endpoint.secret.expire",
        "endpoint.secret.read",
    ),
    "POST /api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend": ("delivery.resend",),
    "POST /api/v1/event-type": ("event_type.create",),
    "PUT /api/v1/event-type/{event_type_name}": ("event_type.create", "event_type.update"),
    "PATCH /api/v1/event-type/{event_type_name}": ("event_type.update",),
    "DELETE /api/v1/event-type/{event_type_name}": ("event_type.update", "event_type.delete"),
    "POST /api/v1/keys": ("api_key.create",),
    "POST /api/v1/keys/{key_id}/revoke": ("api_key.revoke",),
    "POST /api/v1/keys/{key_id}/rotate": ("api_key.expire", "api_key.create"),
    "POST /api/v1/tenants": ("tenant.create",),
    "POST /api/v1/tenants/{tenant}/cache/invalidate": ("cache.invalidate",),
    "POST /api/v1/tenants/{tenant}/keys": ("api_key.create",),
    "POST /api/v1/tenants/{tenant}/keys/{key_id}/revoke": ("api_key.revoke",),
    "POST /api/v1/tenants/{tenant}/keys/{key_id}/rotate": ("api_key.expire", "api_key.create"),
    "POST /api/v1/tenants/{tenant}/batch/runs": ("run.start",),
    "POST /api/v1/tenants/{tenant}/batch/runs/{run}/pause": ("run.pause",),
    "POST /api/v1/tenants/{tenant}/batch/runs/{run}/resume": ("run.resume",),
    "POST /api/v1/tenants/{tenant}/batch/runs/{run}/cancel": ("run.cancel",),
    "POST /api/v1/tenants/{tenant}/batch/runs/{run}/rerun": ("run.rerun",),
    "PUT /api/v1/tenants/{tenant}/oauth/clients/{client}": ("oauth_client.set",),
    "POST /api/v1/tenants/{tenant}/connections": ("connection.import", "connection.connect"),
    "GET /api/v1/tenants/{tenant}/connections/{connection}/token": ("connection.token.read",),
    "POST /api/v1/tenants/{tenant}/connections/{connection}/revoke": ("connection.revoke",),
    "DELETE /api/v1/tenants/{tenant}/connections/{connection}": ("connection.delete",),
}
"""Route -> the actions that it may write, each in the transaction of its effect."""

_READS: Final = "reads, and shows no secret"
_PROBE: Final = "a probe: reads no tenant's data"
_LEDGER: Final = (
    "messages are their own ledger: every one is a row that is never changed; an application made with one is audited as tenant.create"
)

NOT_AUDITED: Final[Mapping[str, str]] = {
    "POST /api/v1/app/{app_id}/msg": _LEDGER,
    "POST /api/v1/app/{app_id}/msg/batch": _LEDGER,
    "GET /webhooks/{app_id}/{endpoint_id}/jwks.json": "reads public keys only",
    "GET /api/v1/app": _READS,
    "GET /api/v1/app/{app_id}": _READS,
    "GET /api/v1/app/{app_id}/endpoint": _READS,
    "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}": _READS,
    "GET /api/v1/app/{app_id}/msg": _READS,
    "GET /api/v1/app/{app_id}/msg/{msg_id}": _READS,
    "GET /api/v1/app/{app_id}/msg/{msg_id}/endpoint": _READS,
    "GET /api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}": _READS,
    "GET /api/v1/app/{app_id}/attempt/endpoint/{endpoint_id}": _READS,
    "GET /api/v1/app/{app_id}/attempt/msg/{msg_id}": _READS,
    "GET /api/v1/event-type": _READS,
    "GET /api/v1/event-type/{event_type_name}": _READS,
    "GET /api/v1/keys": _READS,
    "GET /api/v1/tenants": _READS,
    "GET /api/v1/tenants/{tenant}": _READS,
    "GET /api/v1/tenants/{tenant}/keys": _READS,
    "GET /api/v1/tenants/{tenant}/webhooks/dead": _READS,
    "GET /api/v1/tenants/{tenant}/audit": _READS,
    "GET /api/v1/tenants/{tenant}/cache/stats": _READS,
    "GET /api/v1/tenants/{tenant}/cache/graph": _READS,
    "GET /api/v1/tenants/{tenant}/cache/position": _READS,
    "POST /api/v1/tenants/{tenant}/cache/probe": "calls the program's own loaders, which read",
    "GET /api/v1/tenants/{tenant}/batch/runs": _READS,
    "GET /api/v1/tenants/{tenant}/batch/runs/{run}": _READS,
    "GET /api/v1/tenants/{tenant}/batch/runs/{run}/failures": _READS,
    "GET /api/v1/tenants/{tenant}/batch/runs/{run}/events": _READS,
    "GET /oauth/callback": "what it makes of a connection has its own entry (connection.active, connection.failed)",
    "GET /api/v1/tenants/{tenant}/oauth/clients": _READS,
    "GET /api/v1/tenants/{tenant}/oauth/clients/{client}": _READS,
    "GET /api/v1/tenants/{tenant}/connections": _READS,
    "GET /api/v1/tenants/{tenant}/connections/{connection}": _READS,
    "POST /api/v1/tenants/{tenant}/connections/{connection}/refresh": "what it may change of the connection's state has its own entry; "
    "a renewed token is told by the event connection.refreshed",
    "GET /api/v1/audit": _READS,
    "GET /api/v1/health": _PROBE,
    "HEAD /api/v1/health": _PROBE,
    "GET /api/v1/health/ping": _PROBE,
    "GET /ready": _PROBE,
    "GET /metrics": _PROBE,
    "GET /openapi.json": _PROBE,
}
"""Route -> why it writes none."""
