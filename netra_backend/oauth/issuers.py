"""What issuers publish about themselves: metadata and signing keys, fetched once for all who ask, and kept through an outage.

- A key set is fetched in one flight for all who wait. Within `FRESH_S` nothing is asked; after that it is fetched again in the background
  and the known keys serve meanwhile. Known keys serve for `STALE_S` while the issuer cannot be asked.
- A key id that is not in the set may be a key that was made a moment ago, or a stranger's invention. It causes one fetch in
  `COOLDOWN_S` per issuer, whatever number of them comes; the first one after a quiet time fetches at once, so that a rotation just before
  signing is seen by the first token under the new key. Who comes while that fetch is under way waits for it.
- A fetch that failed is not repeated within `OUTAGE_PAUSE_S`. Where no keys are known, whoever asks meanwhile is told so at once.
- All ages are measured on the monotonic clock: a step of the wall clock makes no key too old.

Sources: RFC 8414 section 3 and OpenID Connect Discovery 4 for metadata, RFC 7517 section 5 for key sets. The issuer that is named in the
metadata must be the one that was asked (RFC 8414 section 3.3). Rejected: keeping keys for as long as `cache-control` says, which would let
an issuer's slip of a header keep a withdrawn key for a year.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit

import orjson

from ..errors import InvalidInput, NetraError, Unavailable
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from ..resilience.egress import Egress, EgressError, Reply
from ..resilience.single_flight import SingleFlight
from .errors import IssuerUnknown, IssuerUnreachable
from .keys import Keys

FRESH_S: Final = 600.0
STALE_S: Final = 24 * 3600.0
COOLDOWN_S: Final = 30.0
OUTAGE_PAUSE_S: Final = 5.0
METADATA_S: Final = 3600.0
MOST_ISSUERS: Final = 1000
MOST_BYTES: Final = 256 * 1024

_generations: Final = itertools.count(1)
"""Of no two key sets the same: an issuer that was forgotten and asked anew may have other keys, and no verdict of before holds."""

Place = tuple[str, str]
"""A tenant and an issuer: what one tenant has caused to be fetched is never another's."""


@dataclass(slots=True)
class Known:
    """What is known of one issuer. Instants are monotonic; `generation` is another one, in the whole process, whenever its keys change."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    metadata_at: float = float("-inf")
    keys: Keys | None = None
    digest: bytes = b""
    generation: int = 0
    fetched_at: float = float("-inf")
    failed_at: float = float("-inf")
    searched_at: float = float("-inf")
    failure: str = ""


class Issuers:
    """See the module's docstring. One event loop."""

    def __init__(self, runtime: Runtime, egress: Egress, deadline_s: float) -> None:
        self._runtime = runtime
        self._egress = egress
        self._deadline_s = deadline_s
        self._known: OrderedDict[Place, Known] = OrderedDict()
        self._flights: SingleFlight[Place, None] = SingleFlight()
        self._background: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """End what is fetched in the background."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def peek(self, tenant: str, issuer: str) -> Known | None:
        """What is known and fresh enough to judge by without asking anybody; None where `known` must be awaited."""
        found = self._known.get((tenant, issuer))
        if found is None or found.keys is None or self._runtime.clock.monotonic() - found.fetched_at >= FRESH_S:
            return None
        return found

    async def known(self, scope: Scope, issuer: str) -> Known:
        """The issuer's keys, fetched if they are not known or too old; `IssuerUnreachable` where there are none to judge by."""
        place = (scope.tenant, issuer)
        found = self._entry(place)
        age = self._runtime.clock.monotonic() - found.fetched_at
        if found.keys is None or age >= STALE_S:
            await self._fetched(scope, place, found)
            if found.keys is None or self._runtime.clock.monotonic() - found.fetched_at >= STALE_S:
                raise IssuerUnreachable(f"{issuer} has no keys that could be fetched: {found.failure}")
        elif age >= FRESH_S and not self._is_paused(found):
            self._in_background(scope, place, found)
        return found

    async def search(self, scope: Scope, issuer: str) -> Known | None:
        """Look for a key that is not in the set: what is known after one more fetch, or None where there was one a moment ago."""
        place = (scope.tenant, issuer)
        found = self._entry(place)
        now = self._runtime.clock.monotonic()
        if place not in self._flights:  # else it is asked at this very moment, and may be about to say so
            if now - found.searched_at < COOLDOWN_S or self._is_paused(found):
                return None
            found.searched_at = now
        await self._flights.run(place, lambda: self._fetch(scope, place, found))
        return found

    async def metadata(self, scope: Scope, issuer: str) -> Mapping[str, Any]:
        """What the issuer publishes about itself; kept for an hour, and for as long as it cannot be asked."""
        place = (scope.tenant, issuer)
        found = self._entry(place)
        if not found.metadata or self._runtime.clock.monotonic() - found.metadata_at >= METADATA_S:
            await self._fetched(scope, place, found)
        if not found.metadata:
            raise IssuerUnreachable(f"{issuer} cannot be asked about itself: {found.failure}")
        return found.metadata

    def forget(self, tenant: str, issuer: str) -> None:
        """Ask anew at the next need: the issuer's registration was changed."""
        self._known.pop((tenant, issuer), None)

    def _entry(self, place: Place) -> Known:
        found = self._known.get(place)
        if found is None:
            found = self._known[place] = Known()
            if len(self._known) > MOST_ISSUERS:
                self._known.popitem(last=False)
        return found

    def _is_paused(self, found: Known) -> bool:
        return self._runtime.clock.monotonic() - found.failed_at < OUTAGE_PAUSE_S

    async def _fetched(self, scope: Scope, place: Place, found: Known) -> None:
        if not self._is_paused(found):
            await self._flights.run(place, lambda: self._fetch(scope, place, found))

    def _in_background(self, scope: Scope, place: Place, found: Known) -> None:
        if self._background and place in self._flights:
            return
        task = asyncio.get_running_loop().create_task(self._fetched(scope, place, found))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _fetch(self, scope: Scope, place: Place, found: Known) -> None:
        """Ask once. A failure leaves what is known, and is told by whoever needs what is not there."""
        began = self._runtime.clock.monotonic()
        try:
            if not found.metadata or began - found.metadata_at >= METADATA_S or found.failed_at > found.fetched_at:
                found.metadata = await discovered(self._egress, scope, place[1], self._deadline_s)
                found.metadata_at = began
            self._take(found, await self._key_set(scope, found.metadata), began)
            found.failed_at, found.failure = float("-inf"), ""
            self._count("fetched")
        except NetraError as error:
            found.failed_at = self._runtime.clock.monotonic()
            found.failure = str(error)
            self._count("failed")
            self._runtime.log.warning("the keys of %s could not be fetched: %s", place[1], error)

    async def _key_set(self, scope: Scope, metadata: Mapping[str, Any]) -> bytes:
        address = metadata.get("jwks_uri")
        if not is_address(address):
            raise Unavailable("it publishes no address of its keys (`jwks_uri`)")
        reply = await asked(self._egress, scope, address, self._deadline_s)
        if reply.status != 200 or reply.truncated:
            raise Unavailable(f"its keys were answered with status {reply.status}{' and too much' if reply.truncated else ''}")
        return reply.body

    def _take(self, found: Known, body: bytes, began: float) -> None:
        """Keep the set. An empty one is a mistake of the issuer's far more often than a withdrawal of every key, and is not taken."""
        digest = hashlib.sha256(body).digest()
        if digest != found.digest:
            try:
                keys = Keys.of(body)
            except InvalidInput as error:
                raise Unavailable("its keys are no JSON Web Key Set") from error
            if not len(keys):
                raise Unavailable("its key set has no key that can be used")
            found.keys, found.digest = keys, digest
            found.generation = next(_generations)
        found.fetched_at = began

    def _count(self, outcome: str) -> None:
        self._runtime.metrics.count("netra_sso_key_fetches_total", outcome=outcome)


def is_address(value: Any) -> TypeGuard[str]:
    """Whether it is an http or https address that can be read. Whether it may be asked is decided when it is (`resilience.egress`)."""
    try:
        return isinstance(value, str) and urlsplit(value).scheme in {"http", "https"}
    except ValueError:  # of brackets without their other half, for one
        return False


async def asked(egress: Egress, scope: Scope, address: str, deadline_s: float) -> Reply:
    """One GET of a JSON document."""
    headers = {"accept": "application/json"}
    try:
        return await egress.request("GET", address, headers=headers, tenant=scope.tenant, timeout_s=deadline_s, read_limit=MOST_BYTES)
    except EgressError as error:
        raise Unavailable(f"{address} could not be asked: {error.kind}") from error


async def discovered(egress: Egress, scope: Scope, issuer: str, deadline_s: float) -> Mapping[str, Any]:
    """What the issuer publishes about itself (RFC 8414 section 3, OpenID Connect Discovery 4).

    `IssuerUnknown` where it answers and publishes nothing of its own; `Unavailable` where neither place could be asked.
    """
    failures: list[str] = []
    answered = False
    for place in places_of(issuer):
        try:
            reply = await asked(egress, scope, place, deadline_s)
        except Unavailable as error:
            failures.append(str(error))
            continue
        found = json_object(reply)
        if found is not None and found.get("issuer") == issuer:
            return found
        answered = answered or reply.status < 500
        failures.append(f"{place} answered {reply.status}" + ("" if found is None else " for another issuer"))
    if answered:
        raise IssuerUnknown(f"{issuer} publishes no metadata of its own: {'; '.join(failures)}")
    raise Unavailable("; ".join(failures), fix=IssuerUnreachable.fix)


def places_of(issuer: str) -> tuple[str, str]:
    """Where an issuer's metadata may be."""
    if not is_address(issuer):
        raise IssuerUnknown(f"{issuer[:80]!r} is not an http or https address")
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    base = f"{parts.scheme}://{parts.netloc}"
    return f"{base}/.well-known/oauth-authorization-server{path}", f"{base}{path}/.well-known/openid-configuration"


def json_object(reply: Reply) -> dict[str, Any] | None:
    """The JSON object of a whole, successful answer."""
    try:
        found = orjson.loads(reply.body)
    except ValueError:
        return None
    return found if reply.status == 200 and not reply.truncated and isinstance(found, dict) else None
