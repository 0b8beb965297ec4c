"""Errors as answers: Svix's shape on Svix's routes, problem+json (RFC 9457) everywhere else.

Svix's clients read `{"code", "detail"}`, and on 422 a list of `{"loc", "msg", "type"}` in `detail`; every error of
theirs must be a JSON object. What the client may know is what a `NetraError` says of itself. Anything unexpected is a
500 that carries the request's trace id, under which the log tells the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, ClassVar, Final

import orjson

from ..errors import InvalidInput, NetraError, Unavailable, UsageError
from ..webhooks.errors import QuotaExceeded
from .page import error_page

SVIX_PREFIXES: Final = tuple(
    f"/api/v1/{part}" for part in ("app", "auth", "background-task", "event-type", "health", "operational-webhook", "stats")
)
RETRY_AFTER_S: Final = b"1"


class AuthenticationFailed(NetraError):
    """This request carries no valid API key."""

    code = "authentication_failed"
    status = 401
    fix = "Send `Authorization: Bearer <key>` with a live key: netra key create."


class PermissionDenied(NetraError):
    """This API key may not do that."""

    code = "permission_denied"
    status = 403
    fix = "Use an operator's key, or one with the scope that the detail names."


class InsecureTransport(PermissionDenied):
    """Pages are not shown over a connection that others can read."""

    code = "insecure_transport"
    fix = (
        "Serve TLS (netra serve --tls-certificate FILE --tls-key FILE), or stand behind a proxy that does and names itself: it sets "
        "X-Forwarded-Proto, and NETRA_TRUSTED_PROXIES holds its address. On the machine itself http://127.0.0.1 and "
        "http://localhost are shown as they are."
    )

    def __init__(self) -> None:
        super().__init__("this is plain http, and not from the machine itself")


class MalformedBody(UsageError):
    """The body is not what JSON (RFC 8259) allows."""

    code = "malformed_body"
    fix = "Send one JSON document in UTF-8."


class DuplicateMember(InvalidInput):
    """An object names the same member twice."""

    code = "duplicate_member"
    fix = "Name each member once."


class MalformedPath(UsageError):
    """The path holds an encoded slash, a control character or bytes that are not UTF-8."""

    code = "malformed_path"
    fix = "Write ids as they were given, without slashes and control characters, and encode the rest as UTF-8."


class BodyTooLarge(UsageError):
    """The body is larger than this route takes."""

    code = "body_too_large"
    status = 413
    fix = "Send less at once; the bounds are the settings payload_max_bytes and body_max_bytes."


class UnsupportedMediaType(UsageError):
    """The body is not application/json."""

    code = "unsupported_media_type"
    status = 415
    fix = "Send `Content-Type: application/json`."


class ClientGone(NetraError):
    """The client went away before its request was whole; nobody reads the answer."""

    code = "client_gone"
    status = 400


class InvalidMembers(InvalidInput):
    """Some members of the request are not acceptable; `problems` has one entry for each."""

    code: ClassVar[str] = "validation"
    fix = "Correct the members that are named; /openapi.json describes each of them."

    def __init__(self, problems: Sequence[Mapping[str, Any]]) -> None:
        first = problems[0]
        super().__init__(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        self.problems = [dict(problem) for problem in problems]


def problem(loc: Iterable[str | int], message: str, kind: str = "value_error") -> dict[str, Any]:
    """One entry of a 422's list; the SDKs want every part of `loc` as text."""
    return {"loc": [str(part) for part in loc], "msg": message, "type": kind}


def problems_of(error: NetraError, loc: Sequence[str | int] = ("body",)) -> list[dict[str, Any]]:
    """What a 422 lists for this error; `loc` where the error itself names no place."""
    return error.problems if isinstance(error, InvalidMembers) else [problem(loc, error.detail, error.code)]


def is_svix(path: str) -> bool:
    """Whether this path's errors have Svix's shape."""
    return path.startswith(SVIX_PREFIXES)


def is_page(path: str) -> bool:
    """Whether this path is read in a browser."""
    return path == "/ui" or path.startswith("/ui/")


def status_of(error: NetraError) -> int:
    """The status to answer with; a client's own mistake never looks like ours."""
    return error.status


def render(error: NetraError, path: str, trace_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of the answer."""
    status = status_of(error)
    public = error if status != 500 else _internal(trace_id)
    content_type, body = _body(public, path, status)
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, Unavailable):
        headers.append((b"retry-after", RETRY_AFTER_S))
    elif isinstance(error, QuotaExceeded):
        headers.append((b"retry-after", b"%d" % ceil(error.retry_after_s)))
    return status, headers, body


def _body(error: NetraError, path: str, status: int) -> tuple[bytes, bytes]:
    if is_page(path):
        return b"text/html; charset=utf-8", error_page(error, status)
    if is_svix(path):
        return b"application/json", orjson.dumps(svix_body(error, status))
    return b"application/problem+json", orjson.dumps(problem_body(error, status))


def svix_body(error: NetraError, status: int) -> dict[str, Any]:
    """`{"code", "detail"}`, with the next step in `fix` beside them."""
    detail: Any = problems_of(error) if status == 422 else error.detail
    return {"code": error.code, "detail": detail, **({"fix": error.fix} if error.fix else {})}


def problem_body(error: NetraError, status: int) -> dict[str, Any]:
    """RFC 9457, section 3.1, with `code` and `fix` as extension members."""
    body: dict[str, Any] = {"type": "about:blank", "status": status, **error.as_dict()}
    if isinstance(error, InvalidMembers):
        body["errors"] = error.problems
    return body


class InternalError(NetraError):
    """Something went wrong here that should not."""

    code = "internal"


def _internal(trace_id: str) -> NetraError:
    return InternalError(f"internal error {trace_id}", fix=f"Look for {trace_id} in the server's log.")
