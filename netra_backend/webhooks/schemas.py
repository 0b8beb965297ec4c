"""JSON Schema on send: an event type's newest schema refuses what does not match it, before anything is stored.

Schemas belong to the operator and change rarely: a process keeps them for `KEPT_S`, which is how long a change takes to be
seen. They are applied by `jsonschema`, without the network: a reference that leads out of the schema is refused when the event type is
defined. A `pattern` is the operator's own regular expression and may be as slow as that is.

A schema that cannot be applied (a reference to nowhere inside it) refuses its messages too: the producer hears of it at once, and
nothing goes out that a receiver was promised not to get.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from ..errors import InvalidInput
from ..kernel.clock import Clock
from ..kernel.scope import SYSTEM_TENANT
from ..storage.statements import Statements
from ..storage.transaction import Tx
from .errors import SchemaMismatch
from .model import NewMessage

Q = Statements(__package__)

KEPT_S: Final = 0.5
LARGE_CHARACTERS: Final = 16 * 1024
"""From this length on a payload is judged beside the event loop."""
_WORDS: Final = 300
_DEPTH: Final = 200
LONGEST_VERSION: Final = 40
_FIX: Final = 'Give each version of an event type one JSON Schema, for example {"1": {"type": "object"}}.'


def newest(schemas: Mapping[str, Any] | None) -> Any:
    """The schema of the highest version, None where there is none."""
    return schemas[max(schemas, key=_version)] if schemas else None


def _version(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() and len(name) <= LONGEST_VERSION else (-1, name)


def check_schemas(schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what an event type may have as schemas, else raise."""
    from jsonschema.exceptions import SchemaError

    for version, schema in schemas.items():
        if len(version) > LONGEST_VERSION:
            raise InvalidInput(f"the version {version[:LONGEST_VERSION]!r}... is too long", fix=_FIX)
        if not isinstance(schema, dict | bool):
            raise InvalidInput(f"version {version!r} is not a JSON Schema but {type(schema).__name__}", fix=_FIX)
        for reference in _references(schema):
            if not reference.startswith("#"):
                raise InvalidInput(f"the reference {reference[:200]!r} leads out of the schema", fix="Put what it names into $defs.")
        try:
            _validator(orjson.dumps(schema)).check_schema(schema)
        except SchemaError as error:
            raise InvalidInput(f"version {version!r} is not a JSON Schema: {error.message[:_WORDS]}", fix=_FIX) from None
        except Exception as error:  # noqa: BLE001  (whatever the library makes of a schema that it cannot read)
            raise InvalidInput(f"version {version!r} is not a JSON Schema: {type(error).__name__}", fix=_FIX) from None
    return schemas


def _references(value: Any, depth: int = 0) -> list[str]:
    if depth > _DEPTH:
        raise InvalidInput("the schema is nested too deeply", fix=_FIX)
    if isinstance(value, list):
        return [found for each in value for found in _references(each, depth + 1)]
    if not isinstance(value, dict):
        return []
    own = [given for name in ("$ref", "$dynamicRef", "$recursiveRef") if isinstance(given := value.get(name), str)]
    return own + [found for each in value.values() for found in _references(each, depth + 1)]


class Schemas:
    """The schemas of one process. `load` and `refusals` may run on the loop and on the writer's thread: one assignment changes them."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._known: tuple[dict[str, bytes], float, int] = ({}, float("-inf"), -1)

    @property
    def fresh(self) -> bool:
        """Whether they were read a moment ago."""
        return self._monotonic() < self._known[1]

    async def load(self, tx: Tx) -> None:
        """Read the newest schema of every event type that has one, unless no event type was changed since they were read."""
        until = self._monotonic() + KEPT_S
        row = await tx.one(Q.get_version, tenant=SYSTEM_TENANT)
        known, version = self._known[0], int(row[0]) if row else 0
        if version != self._known[2]:
            rows = await tx.all(Q.schemas_of_event_types, tenant=SYSTEM_TENANT)
            found = {name: newest(orjson.loads(text)) for name, text in rows}
            known = {name: orjson.dumps(schema) for name, schema in found.items() if schema is not None}
        self._known = known, until, version

    def forget(self) -> None:
        """Event types were changed here: read them anew the next time."""
        self._known = (self._known[0], float("-inf"), self._known[2])

    def concern(self, news: Sequence[NewMessage]) -> bool:
        """Whether any of the messages has a schema."""
        return bool(self._known[0]) and any(new.event_type in self._known[0] for new in news)

    def refusals(self, news: Sequence[NewMessage]) -> dict[int, SchemaMismatch]:
        """What is wrong with which of the messages, by its place."""
        schemas = self._known[0]
        found = {}
        for place, new in enumerate(news):
            schema = schemas.get(new.event_type)
            if schema is not None and (words := _mismatch(schema, new.payload)):
                found[place] = SchemaMismatch(f"the payload does not match the schema of {new.event_type}: {words}")
        return found


def _mismatch(schema: bytes, payload: str) -> str:
    """What is wrong with a payload, in words; empty where nothing is."""
    from referencing.exceptions import Unresolvable

    try:
        mismatch = next(_validator(schema).iter_errors(orjson.loads(payload)), None)
    except Unresolvable as unresolvable:
        return f"the schema refers to {str(unresolvable)[:_WORDS]!r}, which it does not have"
    except RecursionError:
        return "it is nested too deeply to be judged"
    except Exception as error:  # noqa: BLE001  (a schema that its dialect lets pass and that cannot be applied)
        return f"the schema cannot be applied: {type(error).__name__}: {str(error)[:_WORDS]}"
    return "" if mismatch is None else f"{mismatch.json_path[:_WORDS]}: {mismatch.message[:_WORDS]}"


@lru_cache(maxsize=1024)
def _validator(schema: bytes) -> Any:
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    parsed = orjson.loads(schema)
    dialect = validator_for(parsed, default=Draft202012Validator) if isinstance(parsed, dict) else Draft202012Validator
    return dialect(parsed, registry=Registry())
