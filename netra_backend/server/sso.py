"""Routes of single sign-on: providers, links of identities, where new logins go. Errors are problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from ..oauth.sso.service import Sso
from .access import Access
from .oauth import ClientIn, Name, Text
from .routing import Caller, answer

router: Final = APIRouter(prefix="/api/v1/tenants/{tenant}/sso", tags=["SSO"])
operators: Final = APIRouter(prefix="/api/v1/sso", tags=["SSO"])
"""The same for the installation's own sign-on, by which operators log in."""

ProviderName = Annotated[str, Path(description="A provider's name.", max_length=128)]
Subject = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")]
Texts = Annotated[list[Text], Field(max_length=100)]


class ProviderIn(BaseModel):
    """Who people log in at: a client registration with an issuer, and what its claims are worth."""

    model_config = ConfigDict(extra="forbid")

    client: Name | ClientIn
    rank: Annotated[int, Field(ge=0, le=1000, description="Order of preference; 0 is asked first.")] = 0
    enabled: bool = True
    algorithms: Texts | None = None
    role_claim: Text | None = None
    roles: dict[Literal["viewer", "admin"], Texts] | None = None
    default_role: Literal["viewer", "admin"] | None = None
    audiences: Texts | None = None


class LinkIn(BaseModel):
    """Somebody at a backup provider is somebody at the first one."""

    model_config = ConfigDict(extra="forbid")

    provider: Name
    subject: Subject
    backup: Name
    backup_subject: Subject


class PinIn(BaseModel):
    """Where all new logins go until it is taken back with null."""

    model_config = ConfigDict(extra="forbid")

    provider: Name | None


@router.put("/providers/{provider}", operation_id="netra.sso.provider.set")
async def set_provider(caller: Caller, provider: ProviderName, body: ProviderIn) -> Response:
    """Add a provider that people log in at, or change it."""
    with _sso(caller) as sso:
        return answer(await sso.set_provider(None, provider, _given(body)))


@router.post("/links", operation_id="netra.sso.link", status_code=201)
async def link(caller: Caller, body: LinkIn) -> Response:
    """Link an identity at a backup provider beforehand; nobody else gets in by a backup."""
    with _sso(caller) as sso:
        return answer(await sso.link(None, body.provider, body.subject, body.backup, body.backup_subject), 201)


@router.get("/status", operation_id="netra.sso.status")
async def status(caller: Caller) -> Response:
    """Where new logins go, why, and how well each provider is."""
    with _sso(caller) as sso:
        return answer(await sso.status())


@router.post("/pin", operation_id="netra.sso.pin")
async def pin(caller: Caller, body: PinIn) -> Response:
    """Lead all new logins to one provider, whatever its health; null takes it back."""
    with _sso(caller) as sso:
        return answer(await sso.pin(None, body.provider))


@operators.put("/providers/{provider}", operation_id="netra.sso.operators.provider.set")
async def set_operators_provider(caller: Caller, provider: ProviderName, body: ProviderIn) -> Response:
    """Add a provider that operators log in at, or change it; `client` is a whole registration, made under the provider's name."""
    return answer(await _own(caller).set_provider(None, provider, _given(body)))


@operators.post("/links", operation_id="netra.sso.operators.link", status_code=201)
async def link_operator(caller: Caller, body: LinkIn) -> Response:
    """Link an operator's identity at a backup provider beforehand."""
    return answer(await _own(caller).link(None, body.provider, body.subject, body.backup, body.backup_subject), 201)


@operators.get("/status", operation_id="netra.sso.operators.status")
async def operators_status(caller: Caller) -> Response:
    """Where new logins of operators go, why, and how well each provider is."""
    return answer(await _own(caller).status())


@operators.post("/pin", operation_id="netra.sso.operators.pin")
async def pin_operators(caller: Caller, body: PinIn) -> Response:
    """Lead all new logins of operators to one provider; null takes it back."""
    return answer(await _own(caller).pin(None, body.provider))


def _given(body: ProviderIn) -> dict[str, Any]:
    return body.model_dump(exclude_unset=True, exclude_none=True)


def _own(caller: Access) -> Sso:
    """The installation's own sign-on, in the name of who asks."""
    return caller.edge.netra.sso.as_operator(caller.principal.actor, caller.trace)


@contextmanager
def _sso(caller: Access) -> Iterator[Sso]:
    """Single sign-on, in the name of who asks."""
    netra = caller.edge.netra
    with netra.scope(caller.tenant.tenant, caller.principal.actor, trace=caller.trace):
        yield netra.sso
