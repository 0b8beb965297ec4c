"""Look-ups of host names: cancellable, at most 2 s each, a few at once per tenant, each name once at a time.

The system resolver runs in a pool of threads, cannot be cancelled, and one dead name server fills the pool for
everybody (measured elsewhere in this project's design); c-ares sends its packets from an event loop instead. c-ares
also keeps positive answers for their time to live, so there is no cache here: what it returns is judged at each use.

Invariants: a tenant whose names hang delays no other tenant; within a tenant a name that hangs takes one of the slots
however many requests wait for it, so that its other names still pass; a waiter that gives up does not cancel the
look-up that others wait for, and the look-up ends by itself after 2 s.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol
from weakref import WeakValueDictionary

from .egress_error import EgressError, EgressKind

LOOK_UP_TIMEOUT_S: Final = 2.0


class Resolver(Protocol):
    """What turns a name into addresses."""

    async def look_up(self, name: str) -> Sequence[str]:
        """Every address of `name`, IPv4 and IPv6, as text; OSError where there is none or the name server fails."""
        ...

    async def close(self) -> None:
        """Give up what is under way."""
        ...


class AresResolver:
    """The host's configuration (hosts file, resolv.conf), asked through c-ares; or the given name servers ("ip:port")."""

    def __init__(self, nameservers: Sequence[str] | None = None) -> None:
        import aiodns

        self._ares = aiodns.DNSResolver(nameservers, timeout=LOOK_UP_TIMEOUT_S / 2, tries=2)

    async def look_up(self, name: str) -> Sequence[str]:
        """See `Resolver.look_up`."""
        from aiodns.error import DNSError

        try:
            answer = await self._ares.getaddrinfo(name, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except DNSError as cause:
            raise OSError(str(cause.args[-1] if cause.args else cause)) from cause
        return [node.addr[0].decode("ascii") for node in answer.nodes]

    async def close(self) -> None:
        """See `Resolver.close`."""
        await self._ares.close()


class _Answer(NamedTuple):
    """A value even in failure, so that every waiter raises an error of its own."""

    addresses: Sequence[str] = ()
    failure: EgressKind | None = None
    detail: str = ""


class LookUps:
    """The gate in front of one resolver; see the module's docstring."""

    def __init__(self, resolver: Resolver, per_tenant: int) -> None:
        self._resolver = resolver
        self._per_tenant = per_tenant
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._under_way: dict[tuple[str, str], asyncio.Task[_Answer]] = {}
        self._closed = False

    async def addresses(self, tenant: str, name: str) -> Sequence[str]:
        """The addresses of `name`; EgressError `dns` or `dns_timeout`. Never empty."""
        key = (tenant, name)
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(tenant, name), name=f"look up {name}")
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        answer = await asyncio.shield(task)
        if answer.failure is not None:
            raise EgressError(answer.failure, answer.detail, host=name)
        return answer.addresses

    async def close(self) -> None:
        """Fail what is under way; bounded by the look-up's own limit."""
        self._closed = True
        await self._resolver.close()
        await asyncio.gather(*self._under_way.values())

    async def _ask(self, tenant: str, name: str) -> _Answer:
        slots = self._slots.setdefault(tenant, asyncio.Semaphore(self._per_tenant))
        async with slots:
            if self._closed:
                return _Answer(failure="dns", detail="the client is closed")
            try:
                async with asyncio.timeout(LOOK_UP_TIMEOUT_S):
                    found = await self._resolver.look_up(name)
            except TimeoutError:
                return _Answer(failure="dns_timeout", detail=f"no answer for {name} within {LOOK_UP_TIMEOUT_S:g} s")
            except OSError as error:
                return _Answer(failure="dns", detail=f"{name}: {error}")
        return _Answer(found) if found else _Answer(failure="dns", detail=f"{name} has no address")
