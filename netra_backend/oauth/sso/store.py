"""Providers, the rotation of a tenant, identities and their links.

The rotation is one row, swapped by its version: whoever loses a swap decides anew on what has won. Every change of where logins go has its
audit entry and, where it was no plain setting, an event for the operator, in the same transaction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import orjson

from ...errors import Conflict, InvalidInput
from ...kernel.failpoints import declare
from ...kernel.scope import SYSTEM_TENANT
from ...storage.audit_append import audit_append
from ...storage.statements import Row, Statements
from ...storage.transaction import Tx
from ..errors import UnknownClient
from .errors import AlreadyLinked, BadProvider, NoProvider, RotationMoved, UnknownProvider
from .model import Identity, Offered, Provider
from .rotation import Flip, Rotation, decide, pinned
from .settings import SsoSettings
from .states import least

Q = Statements(__package__)
PROVIDER: Final = "netra_sso_provider"
ROTATION: Final = "netra_sso_rotation"
IDENTITY: Final = "netra_sso_identity"
LOGIN: Final = "login"
OPERATIONAL: Final = "operational"
SET: Final = declare("sso.provider_set_before_commit", "a provider is written, nothing is committed; the rotation does not know it yet")
PUT: Final = declare("sso.rotation_before_commit", "where logins go is written, nothing is committed, and nobody was told")
LINKED: Final = declare("sso.linked_before_commit", "an identity is linked, nothing is committed")
TOLD: Final = frozenset({"down", "recovered", "failed_again", "held", "pinned", "unpinned"})
"""Reasons that the operator hears of; `ramp` and `settled` stand in the audit trail alone."""


async def set_provider(tx: Tx, offered: Offered, settings: SsoSettings) -> list[Provider]:
    """Add a provider, or change it; all of them as they stand then."""
    registered = await tx.one(Q.client_id_of, name=offered.client)
    if registered is None:
        raise UnknownClient(f"there is no client {offered.client!r}")
    if registered[1] is None or registered[2] is None:
        raise BadProvider(f"nobody can log in by the client {offered.client!r}", fix="Register it with the `issuer` of an OpenID provider.")
    row = await tx.one(Q.hold_provider, name=offered.name)
    id_ = row[0] if row is not None else tx.new_id()
    after = {
        "name": offered.name,
        "client": offered.client,
        "registration": registered[0].hex(),
        "issuer": registered[1],
        "rank": offered.rank,
        "enabled": offered.enabled,
    }
    entry = await audit_append(tx, "sso_provider.set", id_, table=PROVIDER, after={**after, **offered.options})
    facts = {
        "client": registered[0],
        "rank": offered.rank,
        "enabled": int(offered.enabled),
        "options": orjson.dumps(offered.options).decode(),
    }
    if row is not None:
        await tx.execute(Q.update_provider, id=id_, audit_id=entry, now_us=tx.now_us, **facts)
    elif not await tx.execute(Q.insert_provider, id=id_, name=offered.name, audit_id=entry, now_us=tx.now_us, **facts):
        raise Conflict(f"the provider {offered.name!r} was added by somebody else just now", fix="Look at it, and set it again.")
    tx.runtime.failpoints.hit(SET)
    found = await providers(tx)
    await _settle(tx, found, settings)
    return found


async def providers(tx: Tx) -> list[Provider]:
    """All of the tenant's, in the order of preference."""
    return [_provider(row) for row in await tx.all(Q.list_providers)]


async def rotation(tx: Tx) -> tuple[Rotation, int]:
    """Where new logins go, and the version to swap it by."""
    row = await tx.one(Q.get_rotation)
    if row is None:
        raise NoProvider("this tenant has no sign-on provider")
    return _rotation(row), int(row[1])


async def both(tx: Tx) -> tuple[list[Provider], Rotation]:
    """Providers and rotation as of one moment."""
    return await providers(tx), (await rotation(tx))[0]


async def swap(tx: Tx, seen: int, now: Rotation, told: Flip | None) -> None:
    """Put the rotation in the place of version `seen`; `RotationMoved` where that is not the current one any more."""
    row = await tx.one(Q.get_rotation)
    if row is None or row[1] != seen:
        raise RotationMoved
    await _put(tx, row, now, told)


async def pin(tx: Tx, name: str | None) -> Rotation:
    """Lead all new logins to one provider until this is taken back with None."""
    found = await providers(tx)
    row = await tx.one(Q.get_rotation)
    if row is None:
        raise NoProvider("this tenant has no sign-on provider")
    if name is not None and not any(each.name == name and each.enabled for each in found):
        raise UnknownProvider(f"there is no provider {name!r} that is enabled")
    now, told = pinned(_rotation(row), name)
    await _put(tx, row, now, told)
    return now


async def link(tx: Tx, name: str, subject: str, backup: str, backup_subject: str) -> tuple[Identity, Identity]:
    """Say that somebody at a backup provider is somebody at the first one; both as they stand then.

    The role is the first one's: a link alone gives none.
    """
    by_name = {each.name: each for each in await providers(tx)}
    for each in (name, backup):
        if each not in by_name:
            raise UnknownProvider(f"there is no provider {each!r}")
    if by_name[name].issuer == by_name[backup].issuer:
        raise InvalidInput("both are the same issuer", fix="A backup is another issuer's.")
    first = await _identity(tx, by_name[name].issuer, subject)
    if first.linked is not None:
        raise AlreadyLinked(f"{subject!r} at {name!r} is itself the backup of somebody")
    second = await identity(tx, by_name[backup].issuer, backup_subject)
    if second is not None and second.linked not in {None, first.id}:
        raise AlreadyLinked(f"{backup_subject!r} at {backup!r} is the backup of somebody else")
    if second is not None and second.linked is None and await _has_links(tx, second):
        raise AlreadyLinked(f"{backup_subject!r} at {backup!r} has backups of its own")
    facts = {"issuer": by_name[backup].issuer, "subject": backup_subject, "linked": first.id.hex()}
    id_ = second.id if second is not None else tx.new_id()
    entry = await audit_append(tx, "sso_identity.link", id_, table=IDENTITY, after=facts)
    if second is not None:
        await tx.execute(Q.update_identity, id=id_, linked=first.id, role=second.role, now_us=tx.now_us, audit_id=entry)
    else:
        await _insert(tx, id_, by_name[backup].issuer, backup_subject, first.id, None, entry)
    tx.runtime.failpoints.hit(LINKED)
    linked = await identity(tx, by_name[backup].issuer, backup_subject)
    assert linked is not None
    return first, linked


async def identity(tx: Tx, issuer: str, subject: str) -> Identity | None:
    """Who that is, if anybody knows."""
    row = await tx.one(Q.get_identity, issuer=issuer, subject=subject, id=b"")
    return Identity(*row) if row is not None else None


async def recognise(tx: Tx, provider: Provider, subject: str, role: str | None, *, first: bool) -> tuple[Identity | None, str | None]:
    """Who logs in, and the role that he has by that.

    At the `first` provider somebody new becomes known if he has a role, and his role, or that he has none any more, is noted as its claims
    give it now. At a backup only who was linked
    beforehand is known; his role is the one that the first issuer gave last, or the backup's where that says less.
    Raises `LookupError` where nobody is known.
    """
    found = await identity(tx, provider.issuer, subject)
    if found is not None and found.linked is not None:
        row = await tx.one(Q.get_identity, issuer="", subject="", id=found.linked)
        assert row is not None  # a foreign key
        given = Identity(*row).role
        return found, least(given, role) if provider.roles or provider.default_role else given
    if not first:
        raise LookupError(subject)
    if found is None and role is None:
        return None, None
    if found is None:
        found = await _identity(tx, provider.issuer, subject)
    if found.role != role:
        entry = await audit_append(tx, "sso_identity.role", found.id, table=IDENTITY, before={"role": found.role}, after={"role": role})
        await tx.execute(Q.update_identity, id=found.id, linked=None, role=role, now_us=tx.now_us, audit_id=entry)
        found = Identity(found.id, found.issuer, found.subject, None, role)
    return found, role


async def tenants_to_watch(tx: Tx, limit: int) -> list[tuple[str, int]]:
    """Tenants that have providers, and how many of those are enabled."""
    return [(tenant, int(count)) for tenant, count in await tx.all(Q.tenants_with_providers, limit=limit)]


async def _settle(tx: Tx, found: list[Provider], settings: SsoSettings) -> None:
    """Have the rotation follow a change of the providers; it is made with the first of them."""
    row = await tx.one(Q.get_rotation)
    was = _rotation(row) if row is not None else Rotation()
    usable = [each.candidate for each in found if each.enabled]
    if was.pinned is not None and was.pinned not in {each.name for each in usable}:
        was, _ = pinned(was, None)
    if was.since is None and was.pinned is None:  # nothing has failed yet: the order of preference is all that counts
        was = replace(was, active="")
    now, told = decide(was, usable, settings) if usable else (was, None)
    if row is not None:
        if now != _rotation(row):
            await _put(tx, row, now, told if now.active != row[2] else None)
        return
    id_ = tx.new_id()
    after = {"active": now.active, "pinned": now.pinned, "share": now.share}
    entry = await audit_append(tx, "sso.settled", id_, table=ROTATION, after=after)
    facts = {"active": now.active, "pinned": now.pinned, "share": now.share, "body": orjson.dumps(now.body()).decode()}
    if not await tx.execute(Q.insert_rotation, id=id_, purpose=LOGIN, now_us=tx.now_us, audit_id=entry, **facts):
        raise RotationMoved


async def _put(tx: Tx, row: Row, now: Rotation, told: Flip | None) -> None:
    """Write it, or raise, so that no entry stays of a change that was not made."""
    id_, version, active, was_pinned, share, _, entry = row
    decided = (now.active, now.pinned, now.share) != (active, was_pinned, share)
    if decided or told is not None:
        flip = told or Flip("settled", active, now.active, now.share)
        before = {"active": active, "pinned": was_pinned, "share": share}
        after = {"active": now.active, "pinned": now.pinned, "share": now.share, "reason": flip.reason}
        entry = await audit_append(tx, _action(flip), id_, table=ROTATION, before=before, after=after)
        if flip.reason in TOLD and tx.tenant != SYSTEM_TENANT:
            facts = {"from": flip.origin, "to": flip.target, "reason": flip.reason, "share": flip.share}
            tx.emit(OPERATIONAL, {"type": "sso.flipped", "at_us": tx.now_us, **facts})
    facts = {"active": now.active, "pinned": now.pinned, "share": now.share, "body": orjson.dumps(now.body()).decode()}
    if not await tx.execute(Q.swap_rotation, version=version, now_us=tx.now_us, audit_id=entry, **facts):
        raise RotationMoved
    tx.runtime.failpoints.hit(PUT)


def _action(flip: Flip) -> str:
    return {"pinned": "sso.pin", "unpinned": "sso.unpin", "settled": "sso.settled", "held": "sso.held"}.get(flip.reason, "sso.flip")


async def _identity(tx: Tx, issuer: str, subject: str) -> Identity:
    """The identity of that name, made if it is new."""
    found = await identity(tx, issuer, subject)
    if found is None:
        id_ = tx.new_id()
        entry = await audit_append(tx, "sso_identity.create", id_, table=IDENTITY, after={"issuer": issuer, "subject": subject})
        await _insert(tx, id_, issuer, subject, None, None, entry)
        found = await identity(tx, issuer, subject)
        assert found is not None
    return found


async def _insert(tx: Tx, id_: bytes, issuer: str, subject: str, linked: bytes | None, role: str | None, entry: bytes) -> None:
    facts = {"id": id_, "issuer": issuer, "subject": subject, "linked": linked, "role": role}
    if not await tx.execute(Q.insert_identity, now_us=tx.now_us, audit_id=entry, **facts):
        raise Conflict(f"{subject!r} became known at this very moment", fix="Repeat it.")


async def _has_links(tx: Tx, found: Identity) -> bool:
    row = await tx.one(Q.count_links, id=found.id)
    return row is not None and row[0] > 0


def _provider(row: Row) -> Provider:
    id_, name, rank, enabled, options, client, issuer, client_id, authorize_endpoint = row
    facts = orjson.loads(options)
    return Provider(
        id_,
        name,
        rank,
        bool(enabled),
        client,
        issuer,
        client_id,
        authorize_endpoint,
        tuple(facts["algorithms"]),
        facts["role_claim"],
        {role: tuple(values) for role, values in facts["roles"].items()},
        facts["default_role"],
        tuple(facts["audiences"]),
    )


def _rotation(row: Row) -> Rotation:
    return Rotation.of(row[2], row[3], row[4], orjson.loads(row[5]))
