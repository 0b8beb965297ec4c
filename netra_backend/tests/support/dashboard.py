"""A tenant with something in every part, under names of the test's choice: what the pages are walked over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...batch import chunks, store
from ...batch.model import Chunk, Failure, Part
from ...batch.registry import Job
from ...kernel.ids import from_text, to_text
from ...kernel.scope import Scope, TraceContext, system_scope
from ...netra import Netra
from ...storage import api_keys, nodes, tenants
from ...webhooks import endpoints, tasks
from ...webhooks import store as webhooks
from ...webhooks.model import Attempt, Endpoint, TaskWanted

NODE = b"n" * 16
PASSED_US = 2_000_000


@dataclass(frozen=True, slots=True)
class Furnished:
    """Where the pages of one tenant are, and the texts that name what is its own."""

    tenant: str
    paths: tuple[str, ...]
    marks: tuple[str, ...]


async def furnish(netra: Netra, tenant: str, text: str = "") -> Furnished:
    """Endpoints, a message delivered and dead, a task, a run with dead letters, connections, cache entries, keys: each text has `text` in it."""
    mark = f"of-{tenant}"
    made = await netra.database.write(tenants.create, f"{tenant} {text}".strip(), scope=system_scope("tester"))
    scope = Scope(made.tenant, "tester")
    good, bad = [await netra.database.write(_endpoint, netra, f"{mark}-{name}", text, scope=scope) for name in ("good", "bad")]
    message = await netra.write(_message, netra, f"{mark} {text}".strip(), tenant=made.tenant)
    await netra.database.write(_attempts, made.tenant, from_text("msg", message), [good, bad], text, scope=system_scope("tester"))
    await netra.database.write(_task, scope=scope)
    run = await netra.write(_run, netra, f"{mark}-job {text}".strip(), text, tenant=made.tenant)
    await _vault(netra, made.tenant, mark, text)
    await netra.cache.set(f"{mark}:page {text}".strip(), 1, ttl=3600, depends_on=[f"{mark}:org {text}".strip()], tenant=made.tenant)
    await netra.database.write(_key, f"{mark} key {text}".strip(), scope=scope)
    paths = (
        "overview",
        "webhooks",
        f"webhooks/endpoints/{to_text('ep', bad)}",
        f"webhooks/{message}",
        "webhooks/dead",
        "connections",
        f"connections/{mark}-user",
        "batches",
        f"batches/{run}",
        "cache",
        "kpis",
        "audit",
    )
    return Furnished(made.tenant, paths, (mark, made.app_id, message, run, to_text("ep", good), to_text("ep", bad)))


async def _endpoint(tx: Any, netra: Netra, name: str, text: str) -> bytes:
    url = f"https://example.com/{name}?{text.replace(' ', '+')}"
    new = Endpoint(tx.tenant, b"", name, url, f"{name} {text}", None, None, False, None, {"note": text}, {})
    return (await endpoints.create(tx, netra.sealer, new, None)).id


async def _message(tx: Any, netra: Netra, words: str) -> str:
    sent: str = await netra.webhooks.send(
        tx, "invoice.paid", {"words": words, words: 1}, event_id=words[:200], channels=[words[:100]], tags=[words[:100]]
    )
    return sent


async def _attempts(tx: Any, tenant: str, message: bytes, targets: list[bytes], text: str) -> None:
    """One delivered, one dead, as senders would have left them."""
    await nodes.register(tx, NODE, "h", 1, "tester")
    await webhooks.claim(tx, NODE, [((tenant, target), 1) for target in targets])
    for endpoint, state, status, count in zip(targets, ("delivered", "dead"), (200, 500), (1, 3), strict=True):
        for number in range(1, count + 1):
            outcome = state if number == count and state == "delivered" else "failed"
            facts = (
                number,
                False,
                tx.now_us - PASSED_US,
                20_000 * number,
                outcome,
                status,
                "",
                "",
                f"answer {text}",
                f"https://example.com/{text}",
            )
            attempt = Attempt(tenant, message, tx.new_id(), endpoint, *facts, late=False, trace=TraceContext())
            await tx.execute(webhooks.Q.insert_attempts, rows=[webhooks._attempt_row(attempt, late=False)])
        row = (tenant, message, endpoint, NODE, state, count, tx.now_us, status, f"why {text}")
        await tx.execute(webhooks.Q.acknowledge, rows=[row])
    await nodes.remove(tx, NODE)


async def _task(tx: Any) -> None:
    await tasks.create(tx, "redrive", TaskWanted(None, 0, tx.now_us, states=("dead",)))


async def _run(tx: Any, netra: Netra, job: str, text: str) -> str:
    run = await netra.batch.start(tx, job, {"words": text})
    run_id = from_text("run", run)
    await store.plan(tx, run_id, [Part(None), Part(None)], 10)
    await nodes.register(tx, NODE, "h", 1, "tester")
    (lease,) = await store.claim(tx, run_id, NODE, 1)
    chunk = Chunk(
        0, None, [text, 2, 3], [1, 2, 3], [None, 2, 3], {0: Failure(f"cannot {text}", 1)}, last=True, keys=[f"k {text}", "2", "3"]
    )
    await chunks.commit(tx, lease, Job("job", read=None, write=_nothing), chunk, 1.0)
    await nodes.remove(tx, NODE)
    return str(run)


async def _nothing(tx: Any, rows: Any) -> None:
    """Writes no output."""


async def _vault(netra: Netra, tenant: str, mark: str, text: str) -> None:
    registration = {"client_id": f"id {text}".strip(), "client_secrets": ["s"], "endpoints": {"token": ["http://127.0.0.1:9/token"]}}
    await netra.oauth.set_client(tenant, f"{mark}-client {text}".strip().replace("/", "|"), registration)
    for name in (f"{mark}-user", f"{mark} {text}".strip().replace("/", "|")[:120]):
        grant = {"access_token": "a", "refresh_token": f"r-{name}".encode("ascii", "ignore").decode(), "expires_in": 3600}
        await netra.oauth.import_(tenant, name, f"{mark}-client {text}".strip().replace("/", "|"), grant)


async def _key(tx: Any, name: str) -> None:
    await api_keys.create(tx, tenant=tx.tenant, pepper=b"p" * 32, name=name, scopes=("tenant",))
