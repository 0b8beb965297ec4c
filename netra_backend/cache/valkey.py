"""The shared tier on Valkey or Redis: hints only, checked at each answer. Losing all of it costs latency, never data.

Under one hash tag: `m` (epoch, history, pos, floor), `i` (each name's last event, a sorted set), `e:<name>` (entries), `l:<name>` (who
loads).
Invariants, each held by a script, for a script is atomic there: `pos` advances by one or all is begun anew under another epoch (C3, C4);
no entry is answered, nor taken, that an event up to `pos` has passed (C1); what the sorted set has forgotten is below `floor`.

An answer counts only if the tier has seen at least the events that this process had seen when it asked. A server that was rolled back to an
older state, or restarted empty, has not: it is handed the missing events from the log, in order, or is begun anew where they are trimmed.

Dangers: a policy that evicts keys without a TTL (`allkeys-*`) would take `i` away and leave `m`: refused at start. A server that stalls
is passed by after a quarter of a second, and after three failures in a row, or a fifth of the answers within 10 s, for a while (the
breaker), so that it delays no look and no load for long. So is one that answers more slowly than loading would: when of the last 200
answers the slowest hundredth took longer than half a median load, and more than 5 ms. One probe then finds out whether it is well again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from importlib import import_module
from typing import Any, Final

import orjson

from ..errors import CannotStart, NetraError, UsageError
from ..kernel.runtime import Runtime
from ..kernel.scope import system_scope
from ..resilience.circuit_breaker import CircuitBreaker, Outcome, Policy
from ..storage.database import Database
from . import store
from .model import LogRow, Look
from .node import Ticket
from .shared import Found
from .stats import Stats

ANSWER_S: Final = 0.25
MOST_REMEMBERED: Final = 200_000
CATCH_UPS: Final = 20
POLICY: Final = Policy(failures=3, ratio=0.2, window_s=10.0, open_s=1.0, open_cap_s=30.0, probe_s=2.0, ceiling=64)
POLICY_FIX: Final = "Set maxmemory-policy to noeviction or volatile-lru there."
FACTS_S: Final = 3.0
SLOW_S: Final = 0.005
SLOW_SHARE: Final = 0.5
JUDGED: Final = 200
_SCOPE: Final = system_scope("cache")

READ: Final = """
local m = redis.call('HMGET', KEYS[1], 'epoch', 'history', 'pos', 'floor')
if not m[1] then return {} end
local e = redis.call('HMGET', KEYS[3], 'v', 'c', 'p', 'd', 'e', 's')
if not e[1] or e[5] ~= m[1] or tonumber(e[3]) < tonumber(m[4]) then return {m[1], m[2], m[3]} end
for _, name in ipairs(cjson.decode(e[4])) do
  local seq = redis.call('ZSCORE', KEYS[2], name)
  if seq and tonumber(seq) > tonumber(e[3]) then return {m[1], m[2], m[3]} end
end
return {m[1], m[2], m[3], e[1], e[2], e[3], e[4], e[6], redis.call('PTTL', KEYS[3])}
"""

FILL: Final = """
local m = redis.call('HMGET', KEYS[1], 'epoch', 'floor')
if m[1] ~= ARGV[1] or tonumber(ARGV[2]) < tonumber(m[2]) then return 0 end
for _, name in ipairs(cjson.decode(ARGV[5])) do
  local seq = redis.call('ZSCORE', KEYS[2], name)
  if seq and tonumber(seq) > tonumber(ARGV[2]) then return 0 end
end
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[3], 'e', ARGV[1], 'p', ARGV[2], 'v', ARGV[3], 'c', ARGV[4], 'd', ARGV[5], 's', ARGV[6])
redis.call('PEXPIRE', KEYS[3], ARGV[7])
return 1
"""

APPLY: Final = """
local m = redis.call('HMGET', KEYS[1], 'epoch', 'history', 'pos', 'floor')
if not m[1] or m[2] ~= ARGV[1] or ARGV[6] == '1' then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'history', ARGV[1], 'pos', ARGV[5], 'floor', ARGV[5])
  return {ARGV[2], ARGV[5]}
end
local pos, floor = tonumber(m[3]), tonumber(m[4])
for at, names in ipairs(cjson.decode(ARGV[4])) do
  local seq = tonumber(ARGV[3]) + at - 1
  if seq == pos + 1 then
    for _, name in ipairs(names) do redis.call('ZADD', KEYS[2], seq, name) end
    pos = seq
  end
end
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[7])
if over > 0 then
  local gone = redis.call('ZPOPMIN', KEYS[2], over)
  floor = math.max(floor, tonumber(gone[#gone]))
end
redis.call('HSET', KEYS[1], 'pos', pos, 'floor', floor)
return {m[1], tostring(pos)}
"""

KEEP: Final = """
for at, name in ipairs(KEYS) do
  if redis.call('GET', name) == ARGV[at + 1] then redis.call('PEXPIRE', name, ARGV[1]) end
end
return 0
"""

YIELD: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class Valkey:
    """See the module's docstring, and `shared.Shared` for what each call promises. For the event loop of its Netra."""

    def __init__(self, url: str, namespace: str, runtime: Runtime, stats: Stats, most_remembered: int = MOST_REMEMBERED) -> None:
        self.epoch = ""
        self.history = ""
        self._prefix = f"netra:{{{namespace}}}:"
        self._all_stats = stats
        self._stats = stats.l2
        self._times_s: deque[float] = deque(maxlen=JUDGED)
        self._runtime = runtime
        self._most = most_remembered
        self._breaker = CircuitBreaker(runtime.clock, runtime.chance, POLICY)
        self._client = _client(url)
        self._read, self._fill, self._apply, self._keep, self._yield = (
            self._client.register_script(text) for text in (READ, FILL, APPLY, KEEP, YIELD)
        )

    async def check(self) -> None:
        """`CannotStart` where the server may evict what correctness needs. One that does not answer is passed by, as always."""
        memory = await self._ask(self._client.info("memory"))
        policy = memory.get("maxmemory_policy", "") if isinstance(memory, dict) else ""
        if forgets(policy):
            raise CannotStart(f"the cache's server evicts by {policy}", fix=POLICY_FIX)

    async def read(self, name: str, ticket: Ticket) -> Found | None:
        """See `Shared.read`."""
        answer = await self._ask(self._read(keys=self._keys(name)))
        if not answer or len(answer) < 9 or not self._is_current(answer, ticket):
            return None
        _, _, _, data, codec, p, deps, stale_ms, left_ms = answer
        left_s = int(left_ms) / 1000
        return Found(data, codec.decode(), int(p), frozenset(orjson.loads(deps)), left_s - int(stale_ms) / 1000, left_s)

    async def fill(self, name: str, found: Found, ticket: Ticket) -> bool:
        """See `Shared.fill`."""
        if not self.epoch or found.left_s <= 0.001:
            return False
        deps = orjson.dumps(sorted({name, *found.deps}))
        stale_ms, left_ms = int((found.left_s - found.fresh_s) * 1000), max(1, int(found.left_s * 1000))
        values = [self.epoch, ticket.p, found.data, found.codec, deps, stale_ms, left_ms]
        return bool(await self._ask(self._fill(keys=self._keys(name), args=values)))

    async def follow(self, look: Look, database: Database) -> None:
        """See `Shared.follow`."""
        pos = await self._hand_over(look.rows, look)
        for _ in range(CATCH_UPS):
            if pos is None or pos >= look.last_seq:
                return
            try:
                missing: Look = await database.read(store.look, pos, scope=_SCOPE)
            except NetraError:
                return  # the next look says so, and brings the rest
            if not missing.rows or missing.rows[0].seq != pos + 1:
                await self._hand_over((), look, anew=True)
                return
            pos = await self._hand_over(missing.rows, look)

    async def lead(self, name: str, limit_s: float) -> str | None:
        """See `Shared.lead`; an empty token where the tier does not answer: then everybody leads."""
        token = self._runtime.ids.new().hex()
        took = await self._ask(self._client.set(self._lead_of(name), token, nx=True, px=int(limit_s * 1000)), otherwise="lost")
        if took == "lost":
            return ""
        return token if took else None

    async def keep_leads(self, leads: Mapping[str, str], limit_s: float) -> None:
        """See `Shared.keep_leads`."""
        keys = [self._lead_of(name) for name in leads]
        await self._ask(self._keep(keys=keys, args=[int(limit_s * 1000), *leads.values()]))

    async def yield_lead(self, name: str, token: str) -> None:
        """See `Shared.yield_lead`."""
        await self._ask(self._yield(keys=[self._lead_of(name)], args=[token]))

    async def close(self) -> None:
        """See `Shared.close`."""
        await self._client.aclose()

    async def _hand_over(self, rows: tuple[LogRow, ...], look: Look, *, anew: bool = False) -> int | None:
        events = orjson.dumps([[name for event in row.events for name in event.names] or [""] for row in rows])
        first = rows[0].seq if rows else look.last_seq + 1
        fresh = self._runtime.ids.new().hex()
        values = [look.epoch or "-", fresh, first, events, look.last_seq, int(anew), self._most]
        answer = await self._ask(self._apply(keys=self._keys("")[:2], args=values))
        if not answer:
            return None
        self.epoch, self.history = answer[0].decode(), look.epoch or "-"
        return int(answer[1])

    def _is_current(self, answer: list[bytes], ticket: Ticket) -> bool:
        """Whether the tier has seen what this process has (C3), in the same history and life (C4)."""
        return answer[0].decode() == self.epoch and answer[1].decode() == self.history and int(answer[2]) >= ticket.p

    def _lead_of(self, name: str) -> str:
        return f"{self._prefix}l:{name}"

    def _keys(self, name: str) -> list[str]:
        return [f"{self._prefix}m", f"{self._prefix}i", f"{self._prefix}e:{name}"]

    async def _ask(self, question: Awaitable[Any], otherwise: Any = None) -> Any:
        """The answer; `otherwise` where there is none soon, or the tier is passed by."""
        if not self._breaker.try_begin():
            _never(question)
            return otherwise
        outcome = Outcome.FAILURE
        self._stats.asked += 1
        began = self._runtime.clock.monotonic()
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await question
            outcome = self._judged(self._runtime.clock.monotonic() - began)
        except asyncio.CancelledError:
            outcome = Outcome.NOT_SENT
            raise
        except Exception as error:  # noqa: BLE001  (whatever is wrong with this tier is nobody's error)
            self._stats.errors += 1
            self._runtime.log.info("the shared cache did not answer: %s", error)
            return otherwise
        finally:
            self._finish(outcome)
        return answer

    def _finish(self, outcome: Outcome) -> None:
        was = self._breaker.state.phase
        self._breaker.finish(outcome)
        if self._is_slow():
            self._breaker.open()
        if self._breaker.state.phase != was:
            self._times_s.clear()
            self._runtime.log.warning("the shared cache is %s", "passed by" if self._breaker.state.phase == "open" else "asked again")

    def _judged(self, took_s: float) -> Outcome:
        """What an answer says; to a probe, one that is slower than loading says that the tier is not well yet."""
        self._stats.answer_times_s.append(took_s)
        self._times_s.append(took_s)
        is_probe = self._breaker.state.phase == "half_open"
        return Outcome.FAILURE if is_probe and took_s > self._slow_s() else Outcome.SUCCESS

    def _is_slow(self) -> bool:
        """Whether to ask takes longer than to load."""
        if len(self._times_s) < JUDGED or self._breaker.state.phase != "closed":
            return False
        slow_s = self._slow_s()
        return sum(each > slow_s for each in self._times_s) > JUDGED // 100

    def _slow_s(self) -> float:
        load_s = self._all_stats.load_p50_s
        return float("inf") if load_s is None else max(SLOW_S, SLOW_SHARE * load_s)


def forgets(policy: str) -> bool:
    """Whether a server of this `maxmemory-policy` may evict keys without a TTL."""
    return policy.startswith("allkeys")


async def server_facts(url: str) -> tuple[str, tuple[int, ...], str]:
    """Which server it is, its version, and its `maxmemory-policy`, for `netra doctor`. Raises what the client raises."""
    client = _client(url)
    try:
        async with asyncio.timeout(FACTS_S):
            server, memory = await client.info("server"), await client.info("memory")
    finally:
        await client.aclose()
    name = "Valkey" if "valkey_version" in server else "Redis"
    version = server.get("valkey_version") or server.get("redis_version", "0")
    return name, tuple(int(part) for part in str(version).split(".")[:2]), str(memory.get("maxmemory_policy", ""))


def _never(question: Awaitable[Any]) -> None:
    close = getattr(question, "close", None)
    if close is not None:
        close()


def _client(url: str) -> Any:
    try:
        redis: Any = import_module("redis.asyncio")
        retry: Any = import_module("redis.asyncio.retry")
        backoff: Any = import_module("redis.backoff")
    except ImportError as error:
        raise UsageError("NETRA_CACHE_URL needs the redis client", fix="pip install 'netra-backend[redis]'") from error
    once = retry.Retry(backoff.NoBackoff(), 0)
    address = url.replace("valkeys://", "rediss://", 1).replace("valkey://", "redis://", 1)
    return redis.from_url(address, protocol=2, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, retry=once)
