"""Who looks at a page, at whose data, asking for what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from fastapi import Request

from ..errors import NetraError, NotFound
from ..kernel.scope import SYSTEM_TENANT, Scope, TraceContext
from ..storage import tenants
from ..storage.tenants import Tenant
from ..storage.transaction import StoreFunction

if TYPE_CHECKING:
    from ..netra import Netra

Right = Literal["webhooks:view", "tenant", "operator"]
"""What a page needs: webhooks are shown to every portal link, the rest of a tenant to its full keys, the installation to operators."""

LONGEST_QUERY: Final = 512


class NotShown(NetraError):
    """This page shows more than your key may see."""

    code = "not_shown"
    status = 403
    fix = "Sign in with an operator's key, or with one of the tenant's that has the scope `tenant`."


class Principal(Protocol):
    """Whoever holds the key."""

    @property
    def tenant(self) -> str:
        """The tenant's name, `*` for an operator."""
        ...

    @property
    def actor(self) -> str:
        """How audit entries name who it is."""
        ...

    @property
    def is_operator(self) -> bool:
        """Whether everything may be seen."""
        ...

    def may(self, scope: str) -> bool:
        """Whether the key has this scope."""
        ...


class Directory(Protocol):
    """The tenants by reference."""

    async def get(self, reference: str) -> Tenant | None:
        """The tenant of this id, uid or name."""
        ...


class Edge(Protocol):
    """The server around."""

    @property
    def netra(self) -> Netra:
        """What the pages are about."""
        ...

    @property
    def directory(self) -> Directory:
        """The tenants."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the server is ending."""
        ...

    @property
    def doctor(self) -> Callable[[], Awaitable[Sequence[Mapping[str, str]]]] | None:
        """What `netra doctor` would find."""
        ...


class Access(Protocol):
    """What the server's gate says of a request that it let in."""

    @property
    def edge(self) -> Edge:
        """The server around."""
        ...

    @property
    def principal(self) -> Principal:
        """Who was let in."""
        ...

    @property
    def trace(self) -> TraceContext:
        """The request's position in a trace."""
        ...

    @property
    def csrf(self) -> str:
        """What the pages of this session send along with an action."""
        ...

    async def check_again(self) -> None:
        """Raise where the key has ended since."""
        ...


@dataclass(frozen=True, slots=True)
class Visit:
    """One look at a page. `tenant` is None where an operator looks at the whole installation."""

    access: Access
    request: Request
    tenant: Tenant | None

    @property
    def netra(self) -> Netra:
        """What the pages are about."""
        return self.access.edge.netra

    @property
    def is_operator(self) -> bool:
        """Whether everything may be seen."""
        return self.access.principal.is_operator

    @property
    def now_us(self) -> int:
        """The wall clock."""
        return self.netra.runtime.clock.wall_us()

    @property
    def the_tenant(self) -> Tenant:
        """The tenant that is looked at, where the page is of one."""
        assert self.tenant is not None  # `routing` shows the list of tenants instead
        return self.tenant

    @property
    def scope(self) -> Scope:
        """For reading the tenant's data."""
        return Scope(self.the_tenant.tenant, self.access.principal.actor, self.access.trace)

    @property
    def system_scope(self) -> Scope:
        """For reading what belongs to the installation; operators only."""
        assert self.is_operator
        return Scope(SYSTEM_TENANT, self.access.principal.actor, self.access.trace)

    def may(self, *scopes: str) -> bool:
        """Whether the key has one of these scopes."""
        return any(map(self.access.principal.may, scopes))

    def require(self, right: Right) -> None:
        """Raise `NotShown` unless the key shows this much."""
        if not self.shows(right):
            raise NotShown("this page needs more rights than the key has")

    def shows(self, right: Right) -> bool:
        """Whether the key shows this much."""
        return self.is_operator or (right != "operator" and self.may("tenant", right))

    def asked(self, name: str) -> str:
        """A parameter of the query, empty where it is not there."""
        return self.request.query_params.get(name, "")[:LONGEST_QUERY]

    def named(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    async def read(self, fn: StoreFunction, *args: Any) -> Any:
        """Run a store function that only reads, on the tenant's data."""
        return await self.netra.database.read(fn, *args, scope=self.scope)

    async def read_all(self, fn: StoreFunction, *args: Any) -> Any:
        """The same on the installation's."""
        return await self.netra.database.read(fn, *args, scope=self.system_scope)


async def visit_of(request: Request) -> Visit:
    """The visit that a request is; an operator names a tenant by `?tenant=`, a tenant's key is its tenant's."""
    access: Access = request.scope["netra.access"]
    principal = access.principal
    if not principal.is_operator:
        scope = Scope(principal.tenant, principal.actor, access.trace)
        own: Tenant | None = await access.edge.netra.database.read(_own, scope=scope)
        if own is None:
            raise NotFound("there is no such tenant any more")
        return Visit(access, request, own)
    reference = request.query_params.get("tenant", "")[:LONGEST_QUERY]
    found = await access.edge.directory.get(reference) if reference else None
    if reference and found is None:
        raise NotFound(f"there is no tenant {reference[:80]!r}")
    return Visit(access, request, found)


async def _own(tx: Any) -> Tenant | None:
    return await tenants.by_name(tx, tx.tenant)
