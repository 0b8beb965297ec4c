"""The OpenAPI document of every route, the two plain ones of ingest included."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from . import access
from .errors import is_svix
from .models import ApplicationIn, Channels, EventTypeName

_REF: Final = "#/components/schemas/{model}"
_PATH_PARAMETER: Final = re.compile(r"{(\w+)}")
INGEST_PATHS: Final = ("/api/v1/app/{app_id}/msg", "/api/v1/app/{app_id}/msg/batch")


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


class MessageIn(_Wire):
    """A message. The signed body is the exact source text of `payload`."""

    event_type: EventTypeName
    payload: dict[str, Any]
    event_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    channels: Channels | None = None
    tags: Channels | None = None
    deliver_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    payload_retention_period: Annotated[int, Field(ge=1, le=90, description="Days after which the payload is erased.")] | None = None
    payload_retention_hours: Annotated[int, Field(ge=1, le=2160, description="The same in hours.")] | None = None
    application: ApplicationIn | None = None
    retry_schedule: (
        Annotated[str | list[float], Field(description="Seconds after each failed attempt, or netra, svix, standard.")] | None
    ) = None
    transformations_params: Annotated[dict[str, Any], Field(description="`rawPayload`: JSON as text, sent as it is.")] | None = None


class MessageOut(_Wire):
    """A stored message."""

    id: str
    event_id: str | None
    event_type: str
    payload: dict[str, Any]
    channels: list[str] | None
    tags: list[str] | None
    timestamp: str
    deliver_at: str | None


class Refused(_Wire):
    """What stands in a message's place in a batch's answer (207) if it alone was refused."""

    error: dict[str, Any]


class SvixError(_Wire):
    """An error of Svix's routes; on 422 `detail` is a list of `{loc, msg, type}`."""

    code: str
    detail: str | list[dict[str, Any]]
    fix: str | None = None


class Problem(_Wire):
    """An error of all other routes: RFC 9457 with `code` and `fix`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    fix: str


def document(routes: FastAPI) -> bytes:
    """The document's JSON, made once."""
    found = get_openapi(title=routes.title, version=routes.version, routes=routes.routes)
    _, schemas = models_json_schema(
        [(model, "validation") for model in (MessageIn, MessageOut, Refused, SvixError, Problem)], ref_template=_REF
    )
    components = found.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas["$defs"])
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    _add_ingest(found["paths"])
    for path, item in found["paths"].items():
        for method, operation in item.items():
            _finish(path, method, operation)
    return orjson.dumps(found)


def _add_ingest(paths: dict[str, Any]) -> None:
    one, batch = INGEST_PATHS
    paths.setdefault(one, {})["post"] = {
        "tags": ["Message"],
        "operationId": "v1.message.create",
        "summary": "Accept a message: 202 once it is durable",
        "parameters": _parameters(),
        "requestBody": _json({"$ref": _REF.format(model="MessageIn")}),
        "responses": {"202": {"description": "Stored", **_json({"$ref": _REF.format(model="MessageOut")})}},
    }
    each = {"anyOf": [{"$ref": _REF.format(model="MessageOut")}, {"$ref": _REF.format(model="Refused")}]}
    paths.setdefault(batch, {})["post"] = {
        "tags": ["Message"],
        "operationId": "netra.message.create-batch",
        "summary": "Accept many messages: 202 if all are durable, 207 if some were refused",
        "parameters": _parameters(),
        "requestBody": {
            "content": {
                "application/json": {"schema": {"type": "array", "maxItems": 10_000, "items": {"$ref": _REF.format(model="MessageIn")}}},
                "application/x-ndjson": {"schema": {"type": "string", "description": "One message a line."}},
            }
        },
        "responses": {
            status: {"description": text, **_json({"type": "array", "items": each})}
            for status, text in (("202", "All stored, in order"), ("207", "One answer for each, in order"))
        },
    }


def _parameters() -> list[dict[str, Any]]:
    return [
        {"name": "with_content", "in": "query", "required": False, "schema": {"type": "boolean", "default": True}},
    ]


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _finish(path: str, method: str, operation: dict[str, Any]) -> None:
    """What holds for every route: the key, the Idempotency-Key of POST, the errors' shape."""
    segments = ["x" if part.startswith("{") else part for part in path[1:].split("/")]
    if access.rule_of(method.upper(), segments) != "public":
        operation["security"] = [{"key": []}]
    if method == "post":
        operation.setdefault("parameters", []).append(
            {"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string", "minLength": 1, "maxLength": 256}}
        )
    kind, model = ("application/json", "SvixError") if is_svix(path) else ("application/problem+json", "Problem")
    content = {kind: {"schema": {"$ref": _REF.format(model=model)}}}
    declared = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
    for name in _PATH_PARAMETER.findall(path):
        if name not in declared:  # the gate has resolved it; the handler has no use for it
            operation.setdefault("parameters", []).append({"name": name, "in": "path", "required": True, "schema": {"type": "string"}})
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = {"description": "An error", "content": content}
