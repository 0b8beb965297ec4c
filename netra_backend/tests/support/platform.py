"""A whole Netra in the test's own event loop, with an endpoint that misbehaves as told, and short leases and schedules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...kernel.failpoints import FailpointError
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope
from ...netra import Netra
from ...testing.clock import FakeClock, SeededChance
from ...webhooks import endpoints, store
from ...webhooks.intake import Accepted
from ...webhooks.keys import encode_secret
from ...webhooks.model import DeliveryRow, Endpoint
from .storage import SYSTEM, Q, database_url, eventually, query
from .world import FAST, TTL_S

TENANT = "acme"
SCOPE = Scope(TENANT, "tester")
WITHIN_S = TTL_S + 29.0
"""S3: how soon a row whose owner is dead is due again and, with an idle receiver, delivered."""


@asynccontextmanager
async def platform(
    folder: Path, *, url: str = "", workers: bool = True, runtime: Runtime | None = None, dev: bool = True, **settings: Any
) -> AsyncIterator[Netra]:
    """One process's Netra on the folder's database (see `storage.prepared`); several in one test are several nodes."""
    options = {**FAST, "data": str(folder), "root_keys": str(folder / "root.keys"), **settings}
    async with Netra(url or database_url(folder), workers=workers, runtime=runtime, dev=dev, role="server", environ={}, **options) as netra:
        yield netra


async def add_endpoint(netra: Netra, url: str, *, tenant: str = TENANT, **fields: Any) -> Endpoint:
    """An endpoint at `url`, which takes everything unless `fields` say otherwise."""
    await netra.tenant(tenant)
    plain = {"uid": None, "event_types": None, "channels": None, "disabled": False, "headers": {}, **fields}
    new = Endpoint(tenant, b"", url=url, description="", metadata={}, created_us=0, updated_us=0, **{"rate_limit": None, **plain})
    made: Endpoint = await netra.database.write(endpoints.create, netra.sealer, new, None, scope=Scope(tenant, "tester"))
    return made


async def change_endpoint(netra: Netra, endpoint: Endpoint, **changes: Any) -> Endpoint:
    """As PATCH does."""
    changed: Endpoint = await netra.database.write(endpoints.update, endpoint.text_id, changes, scope=Scope(endpoint.tenant, "tester"))
    return changed


async def secrets_of(netra: Netra, endpoint: Endpoint) -> list[str]:
    """The endpoint's live secrets as their owner has them, the newest first."""
    found = await netra.database.read(endpoints.live_secrets, netra.sealer, endpoint.id, scope=Scope(endpoint.tenant, "tester"))
    return [encode_secret(secret.key) for secret in found]


async def accept(netra: Netra, payload: Any, *, type: str = "thing.happened", idempotency_key: str | None = None, **options: Any) -> Any:
    """What intake answers to one message: `Accepted`, or the error."""
    new = netra.webhooks.new_message(TENANT, type, payload, **options)
    if idempotency_key is not None:
        new = netra.webhooks.checked(replace(new, idempotency_key=idempotency_key))
    (answer,) = await netra.webhooks.accept(SCOPE, [new])
    return answer


async def send(netra: Netra, payload: Any = None, **options: Any) -> bytes:
    """Send one message; its id."""
    answer = await accept(netra, payload or {"n": 1}, **options)
    assert isinstance(answer, Accepted), answer
    return answer.message.id


async def row(netra: Netra, message: bytes, endpoint: Endpoint) -> DeliveryRow:
    """The delivery as it stands."""
    found: DeliveryRow = await netra.database.read(store.delivery, message, endpoint.id, scope=SCOPE)
    return found


async def becomes(netra: Netra, message: bytes, endpoint: Endpoint, *states: str, within_s: float = WITHIN_S) -> DeliveryRow:
    """Wait until the delivery is in one of the states."""
    last: list[DeliveryRow] = []

    async def there() -> bool:
        last[:] = [await row(netra, message, endpoint)]
        return last[0].state in states

    try:
        await eventually(there, within_s)
    except AssertionError:
        raise AssertionError(f"it is {last} and not {states} after {within_s} s") from None
    return last[0]


async def attempts(netra: Netra, message: bytes) -> list[Any]:
    """The message's attempts, the oldest first."""
    found = await netra.database.read(store.attempts_of_message, message, None, 1000, scope=SCOPE)
    return list(reversed(found))


@asynccontextmanager
async def on_a_clock(folder: Path, clock: FakeClock, *, workers: bool = True, **settings: Any) -> AsyncIterator[Netra]:
    """A process with the breaker of a production system, whose time is turned by hand; it scans only in `turned`."""
    runtime = Runtime(clock=clock, chance=SeededChance())
    options = {"webhooks_breaker_failures": 10, "webhooks_breaker_open": "30s", "lease_ttl": "600s", "webhooks_timeout": "5s"}
    async with platform(
        folder, workers=workers, runtime=runtime, **{**options, "webhooks_schedule": "1s,1s,1s,1s,1s", **settings}
    ) as netra:
        if netra.webhooks.dispatcher is not None:
            netra.webhooks.dispatcher._scanning.cancel()
        yield netra


async def turned(clock: FakeClock, *netras: Netra, seconds: float = 0.0) -> None:
    """Time passes at a stroke, each process reads what others changed, and whatever may be sent by then is sent and written."""
    await clock.jump(seconds)  # every loop turns once, not at each of a thousand seconds
    for netra in netras:
        await eventually(lambda: not netra.membership.quiet)  # noqa: B023
        await netra.webhooks.snapshots.look()
        await netra.webhooks.sender.breakers.look()
    before = None
    while before != (before := await deliveries(netras[0])):
        for netra in netras:
            await netra.webhooks.dispatcher.scan()
            netra.webhooks.sender.pump()
            await eventually(lambda: not netra.webhooks.sender._tasks)  # noqa: B023


async def deliveries(netra: Netra) -> list[Any]:
    """Every delivery of the installation."""
    found: list[Any] = await netra.database.read(partial(query, statement=Q.every_delivery), scope=SYSTEM)
    return found


def arm(netra: Netra, failpoint: str, action: str | Callable[[], None], nth: int = 1) -> None:
    """Arm a failpoint of this Netra alone."""
    netra.runtime.failpoints.arm(failpoint, action, nth)


def arm_at_its_commit(netra: Netra, failpoint: str, action: Callable[[], None]) -> None:
    """Do it at the failpoint of the transaction that writes the next deliveries, whoever else commits meanwhile."""

    def written() -> None:
        task = running_task()

        def hit() -> None:
            if running_task() is task:
                action()
            else:
                arm(netra, failpoint, hit)

        arm(netra, failpoint, hit)

    arm(netra, "webhooks.deliveries_written", written)


def fail() -> None:
    """An action that raises what an armed failpoint raises."""
    raise FailpointError


def running_task() -> asyncio.Task[Any] | None:
    """The task that runs, None on SQLite's writer thread, where one transaction runs at a time."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def on_loop(event: asyncio.Event) -> Callable[[], None]:
    """An action that sets the event from whatever thread hits the failpoint."""
    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(event.set)
