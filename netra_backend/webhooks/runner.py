"""The runner: finds tasks that nobody works on, claims some, and walks them page by page beside everything else.

The table is the truth. One loop looks whenever anything was committed, and once a second anyway, because a node's death is seen
by nobody's commit. Each claimed task is walked by an asyncio task of its own, its pages in the bulk lane. A page whose endpoints
changed between the look and the write is looked at again; a database that takes nothing just now is asked again; any other error
ends the task as failed, with its words, after a few tries. A process that ends, or has beaten too late, gives its tasks back, or
leaves them to the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Final

from ..errors import NetraError, OutcomeUnknown, Unavailable
from ..kernel.rounds import Rounds
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope, system_scope
from ..storage.database import Database
from ..storage.membership import Membership
from . import tasks
from .errors import TaskLost
from .intake import StaleSnapshot
from .model import Task
from .settings import WebhookSettings
from .snapshots import Snapshots
from .tasks import Page

LOOK_EVERY_S: Final = 0.1
LOOK_ANYWAY_S: Final = 1.0
AT_ONCE: Final = 4
"""Tasks that one process walks at the same time."""

SETTLE_S: Final = 60.0
"""The longest that a walk waits for transactions that were open before it; see `tasks.py`."""

AGAIN_S: Final = 0.25
TRIES: Final = 3
_SCOPE: Final = system_scope("webhooks")

_Key = tuple[str, bytes]
"""(tenant, task id)."""


class Runner:
    """See the module's docstring."""

    def __init__(
        self, database: Database, runtime: Runtime, settings: WebhookSettings, membership: Membership, snapshots: Snapshots
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._settings = settings
        self._membership = membership
        self._snapshots = snapshots
        self._walking: dict[_Key, asyncio.Task[None]] = {}
        self._stopping = False
        cannot = "tasks could not be looked for"
        self._rounds = Rounds(runtime, self._look, cannot, LOOK_EVERY_S, changes=database.version, anyway_s=LOOK_ANYWAY_S)

    async def start(self) -> None:
        """Look at once, then keep looking in the background."""
        self._membership.on_new_life.append(self._begin_again)
        self._membership.on_reaped.append(self._rounds.again)
        self._database.on_wake.append(self._rounds.wake)
        self._rounds.start()

    async def stop(self) -> None:
        """Claim nothing more, finish the pages that are being written, give the tasks back."""
        self._stopping = True
        await self._rounds.finish()
        await asyncio.gather(*self._walking.values(), return_exceptions=True)

    def _begin_again(self) -> None:
        """What this process held belongs to its former life; the fence keeps its walks from changing anything."""
        for walk in self._walking.values():
            walk.cancel()
        self._walking = {}
        self._rounds.again()

    async def _look(self) -> None:
        for tenant, task_id in await self._database.read(tasks.claimable, self._membership.id, scope=_SCOPE):
            if self._stopping or self._membership.quiet or len(self._walking) >= AT_ONCE:
                return
            if (tenant, task_id) not in self._walking:
                await self._claim((tenant, task_id))

    async def _claim(self, key: _Key) -> None:
        node, scope = self._membership.id, Scope(key[0], "task")
        task: Task | None = await self._database.write(tasks.claim, key[1], node, scope=scope)
        if task is not None:
            walk = asyncio.create_task(self._work(task, node, Scope(task.tenant, f"task:{task.text_id}", task.trace)))
            self._walking[key] = walk
            walk.add_done_callback(partial(self._ended, key))

    def _ended(self, key: _Key, walk: asyncio.Task[None]) -> None:
        if self._walking.get(key) is walk:
            del self._walking[key]
        self._rounds.again()

    async def _work(self, task: Task, node: bytes, scope: Scope) -> None:
        try:
            if await self._walk(task, node, scope):
                return
        except TaskLost as lost:
            self._runtime.log.info("%s", lost)
            return
        except OutcomeUnknown as error:  # this life ends with it, and the task is anybody's
            self._runtime.log.warning("%s: %s", task.text_id, error)
            return
        except Exception as error:
            self._runtime.log.exception("%s cannot go on", task.text_id)
            with contextlib.suppress(NetraError):
                await self._database.write(tasks.fail, task, node, f"{type(error).__name__}: {error}", scope=scope)
                return
        with contextlib.suppress(NetraError):  # it is this node's still, which looks for it again, or lapses with it
            await self._database.write(tasks.release, task.id, node, scope=scope)

    async def _walk(self, task: Task, node: bytes, scope: Scope) -> bool:
        """Page after page; whether the task has ended, and not this process's time for it."""
        await self._settled()
        tries, limit = 0, tasks.MESSAGES_A_PAGE
        while not self._stopping and not self._membership.quiet:
            try:
                page: Page = await self._database.read(tasks.look, task, self._snapshots.peek(task.tenant), limit, scope=scope)
                _, state = await self._database.write(tasks.advance, task, node, page, self._settings.deadline_s, scope=scope, lane="bulk")
            except StaleSnapshot:
                self._snapshots.forget(task.tenant)
            except (TaskLost, OutcomeUnknown):
                raise
            except Unavailable as error:
                self._runtime.log.warning("%s waits: %s", task.text_id, error)
                limit = max(1, limit // 2)  # if it was the page's size that took too long, the next one is smaller
                await self._runtime.clock.sleep(AGAIN_S)
            except NetraError:
                tries += 1
                if tries == TRIES:
                    raise
                await self._runtime.clock.sleep(AGAIN_S)
            else:
                tries, limit = 0, min(tasks.MESSAGES_A_PAGE, 2 * limit)
                if state != "running":
                    return True
                task = await self._database.read(tasks.get, task.id, scope=scope)
                if page.is_last:  # once more from the beginning, for what was under way
                    await self._runtime.clock.sleep(AGAIN_S)
        return False

    async def _settled(self) -> None:
        """Wait until every transaction has ended that is open now: after that nothing appears behind the walk's cursor."""
        ends = self._runtime.clock.monotonic() + SETTLE_S
        horizon, oldest = await self._database.read(tasks.writers_in_progress, scope=_SCOPE)
        while oldest < horizon and not self._stopping:
            if self._runtime.clock.monotonic() > ends:
                self._runtime.log.warning("a transaction is open for longer than %g s; a task goes on without what it will store", SETTLE_S)
                return
            await self._runtime.clock.sleep(LOOK_EVERY_S / 2)
            _, oldest = await self._database.read(tasks.writers_in_progress, scope=_SCOPE)
