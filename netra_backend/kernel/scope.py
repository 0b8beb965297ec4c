"""Who asks, for which tenant, in which trace: data only, passed explicitly below `netra.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final

from ..errors import InvalidInput, MissingTenant

SYSTEM_TENANT: Final = "*"
"""The tenant of work that serves all of them (sweep, leader, migrations). No customer may have this name."""

_TENANT = re.compile(r"[a-zA-Z0-9_.-]{1,256}\Z")
_TRACEPARENT = re.compile(r"(?!ff)(?P<version>[0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?P<more>-.*)?\Z")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A position in a W3C trace (Trace Context, section 3.2): 32 and 16 hex digits, and the sampled flag."""

    trace_id: str = ""
    span_id: str = ""
    sampled: bool = True

    @classmethod
    def parse(cls, traceparent: str) -> TraceContext | None:
        """Read a `traceparent` header; None where it is malformed or all zeroes, as the recommendation asks.

        Of a version that is not known yet, what version 00 has is read, and what may follow is passed over (section 3.2.4).
        """
        match = _TRACEPARENT.match(traceparent.strip())
        if match is None or (match["version"] == "00" and match["more"]) or not int(match[2], 16) or not int(match[3], 16):
            return None
        return cls(match[2], match[3], bool(int(match[4], 16) & 1))

    @property
    def traceparent(self) -> str:
        """The header's value for an outgoing call."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


@dataclass(frozen=True, slots=True)
class Scope:
    """One tenant, one actor, one trace. `deadline` is a monotonic instant in seconds, or None.

    `debug` are the debug sessions of that tenant that rows made in this scope name, so that who takes them up finds them.
    """

    tenant: str
    actor: str = "system"
    trace: TraceContext = field(default_factory=TraceContext)
    deadline: float | None = None
    debug: tuple[bytes, ...] = ()

    @property
    def is_system(self) -> bool:
        """Whether this is operator work that serves every tenant."""
        return self.tenant == SYSTEM_TENANT

    def with_tenant(self, tenant: str) -> Scope:
        """The same actor and trace on another tenant's data."""
        return replace(self, tenant=check_tenant(tenant), debug=self.debug if tenant == self.tenant else ())


def check_tenant(tenant: str) -> str:
    """Return `tenant` if it can name one (`[a-zA-Z0-9_.-]{1,256}`, the alphabet of Svix's uids), else raise."""
    if not tenant:
        raise MissingTenant
    if not _TENANT.match(tenant):
        raise InvalidInput(
            f"{tenant!r} cannot name a tenant",
            fix="Use 1 to 256 characters of a-z, A-Z, 0-9, '_', '-' and '.'.",
        )
    return tenant


def system_scope(actor: str = "system", trace: TraceContext | None = None) -> Scope:
    """The explicit scope of work that serves all tenants."""
    return Scope(SYSTEM_TENANT, actor, trace or TraceContext())
