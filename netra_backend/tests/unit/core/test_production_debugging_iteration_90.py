"""Iteration 90: production debugging."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from unittest.mock import AsyncMock, MagicMock

from netra_backend.kernel.debugging import watching
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.observability.audit import entry, merkle, note
from netra_backend.observability.audit.receipt import Receipt
from netra_backend.observability.audit.service import Audit
from netra_backend.observability.audit.verifying import verify_receipt
from netra_backend.observability.debug.hub import Hub
from netra_backend.observability.debug.model import Session
from netra_backend.observability.debug.settings import DebugSettings
from netra_backend.testing.clock import FakeClock


class TestProductionDebugging:
    async def test_debug_session_isolation(self):
        """A session of acme hears acme's work, without its secrets, and nobody else's; after its time it hears nobody."""
        clock = FakeClock()
        times = (60_000_000, clock.wall_us(), clock.wall_us() + 60_000_000)
        session = Session("acme", b"s" * 16, "active", "it fails", "ada", {}, ("log",), (), *times)
        hub = Hub(Runtime(clock=clock), DebugSettings())
        write = AsyncMock(return_value=1)
        hub.database = MagicMock(read=AsyncMock(return_value=[session]), write=write)
        await hub.look()
        for tenant in ("acme", "globex", "acme"):
            with watching(hub.watch(Scope(tenant, "ada"), {})):
                logging.getLogger("shop").debug("order of %s failed, token=%s", tenant, "hunter2")
                with watching(hub.watch(Scope("globex"), {})):
                    logging.getLogger("shop").debug("inside, for globex")
            await clock.advance(0.1)
        await clock.advance(60)
        hub.database.read.return_value = []
        with watching(hub.watch(Scope("acme"), {})):
            logging.getLogger("shop").debug("too late")
        await hub.look()
        await hub.stop()
        ((_, kept, records, dropped),) = [call.args for call in write.await_args_list]
        assert [record.data.count(b"order of acme failed, token=[redacted]") for record in records] == [1, 1]
        assert (kept, dropped) == (session.id, 0)

    async def test_complete_audit_trail_maintenance(self):
        """What was recorded is one entry in the caller's transaction, is provable, and loses its personal data without a change to any hash."""
        tx = MagicMock(scope=Scope("acme", "ada"), tenant="acme", now_us=1, execute=AsyncMock(return_value=1))
        tx.verb.side_effect, tx.new_id.side_effect = nullcontext, [bytes([number] * 16) for number in range(1, 4)]
        audit = Audit(MagicMock(), Runtime(), MagicMock())
        for number in range(3):
            await audit.record(tx, "invoice.approve", f"inv_{number}", after={"state": "approved"}, personal={"by": "ada@example.com"})
        kept = [call.kwargs for call in tx.execute.await_args_list if "action" in call.kwargs]
        columns = (
            "id", "at_us", "actor", "action", "target_table", "target", "outcome", "trace_id", "span_id", "before", "after", "personal",
        )  # fmt: skip
        entries = [entry.encode("acme", tuple(each[name] for name in columns)) for each in kept]
        assert [call.args[0] for call in tx.emit.call_args_list] == ["audit"] * 3
        assert not any(b"ada@example.com" in each for each in entries)
        growth = merkle.Growth(0, {})
        growth.append(b"".join(merkle.leaf_hash(each) for each in entries))
        proof = [merkle.range_root(growth.changed, *each) for each in merkle.inclusion_ranges(1, 3)]
        signed = note.sign(note.Checkpoint("netra.test/here/acme/1-0", 3, growth.root()), b"k" * 32)
        vkey = note.VerifierKey("netra.test/here/acme/1-0", note.public_of(b"k" * 32)).text
        assert verify_receipt(Receipt(entries[1], 1, proof, signed).text.encode(), vkey).ok
        assert not verify_receipt(Receipt(entries[2], 1, proof, signed).text.encode(), vkey).ok
