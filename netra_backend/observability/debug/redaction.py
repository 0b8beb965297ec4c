"""What leaves the process's memory for a capture: everything is judged first, and what cannot be judged is left out (D4).

Four judges, in this order: the name under which a value stands; its type (bytes that are no text are told by their length); the
shapes that secrets have (JWT, `Bearer`, PEM, credentials in a URL, known prefixes of keys, `name=value` under a telling name, text
of high entropy); and the fingerprints of the secrets that Netra itself holds (`held.py`). Text is cut to its limit before that, and a
cut takes the broken word at its end along, since half a secret has no shape.

Danger: a false alarm hides a value from whoever debugs, a miss shows a customer's secret to him. So the judges are greedy, and an
error of theirs hides the value.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

MASK: Final = "[redacted]"
CUT: Final = "[cut]"
UNJUDGED: Final = "[redacted: could not be judged]"
LONGEST_TEXT: Final = 16 * 1024
MOST_ITEMS: Final = 200
LONGEST_NAME: Final = 80
_LEAST: Final = 16
_MARKS: Final = re.compile(r"[=:@<%]|bearer|basic|digest|token|apikey|hawk|dpop|hmac|negotiate| is ", re.IGNORECASE)
"""What short text must have to need a look at its shape; known prefixes are asked for apart."""
MOST_REMEMBERED: Final = 4096
_CHOSEN_BY_US: Final = frozenset({"at", "function", "logger", "level", "where", "direction", "method"})
"""Members of records whose few values come again and again: their verdicts are remembered, as those of names are."""
DEEPEST: Final = 12
LEAST_ENTROPY: Final = 3.0
"""Bits per character above which a long token is taken for a secret; English has about 4.1 over its letters but no long tokens of
mixed classes, base64 of random bytes has 5 and more."""

_CONTAINS: Final = (
    "password", "passwd", "passphrase", "pwd", "secret", "token", "apikey", "accesskey", "privatekey", "signingkey", "encryptionkey",
    "masterkey", "rootkey", "sharedkey", "accountkey", "authorization", "cookie", "credential", "sessionid", "bearer", "signature",
    "jwt", "cardnumber", "creditcard", "securitycode", "iban", "ssn", "codeverifier", "authcode", "devicecode", "usercode",
    "connectionstring",
    "refreshtok", "clientassertion", "mnemonic", "recoverycode", "kennwort", "passwort", "motdepasse", "contrasena",
)  # fmt: skip
_EXACT: Final = frozenset(
    {"auth", "pass", "pin", "otp", "cvv", "cvc", "sid", "key", "dsn", "totp", "salt", "sig", "hmac", "seed", "pw", "pan"}
)
_SAFE_NAMES: Final = {"traceparent": re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z"), "traceid": re.compile(r"[0-9a-f]{32}\Z")}
_LETTERS: Final = re.compile(r"[^a-z0-9]")
_LEAST_NAME: Final = 2
_IS_NAME: Final = re.compile(r"[\w.\-\[\]]+\Z")
_NAMING: Final = frozenset({"name", "key", "Name", "Key", "header", "field", "option", "variable"})
"""Members of an object that say what another one of it, of those `_NAMED`, is: `{"name": "DB_PASSWORD", "value": ...}`."""
_NAMED: Final = frozenset({"value", "values", "val", "content", "data", "text"})
_SAYS_NOTHING: Final = frozenset({bool, type(None)})

_WORDS_TELL: Final = (
    "pass", "pwd", "kennwort", "secret", "token", "key", "auth", "cookie", "credential", "session", "sid", "sig", "jwt", "otp", "pin",
    "cvv",
    "cvc", "card", "iban", "ssn", "dsn", "verifier", "connection", "bearer", "pw",
)  # fmt: skip
_TELLING: Final = (
    r"(?:pass(?:word|wd|phrase|wort)?|pwd|kennwort|secret|token|api[_\- ]?key"
    r"|(?:access|private|signing|encryption|master|account|shared)[_\- ]?key"
    r"|authorization|auth|cookie|credential|session[_\- ]?id|sid|signature|sig|jwt|otp|pin|cvv|cvc|card[_\- ]?number|iban|ssn|dsn"
    r"|code[_\- ]?verifier|auth[_\- ]?code|connection[_\- ]?string|bearer|pw)[\w\-.\]]*"
)
_SCHEMES: Final = ("bearer", "basic", "digest", "negotiate", "token", "apikey", "dpop", "hawk", "hmac")

_PEM: Final = re.compile(r"-----BEGIN .*?(?:-----END[^-]*-----|\Z)", re.DOTALL)
_URL: Final = re.compile(r"(?<=://)[^/\s'\"<>]*@")
_SCHEME: Final = re.compile(
    rf"\b({'|'.join(_SCHEMES)}|aws4-hmac-sha256)(\s+|%20|\+)(?!\[redacted)[^\s'\"&,;<>][^\s'\"&;<>]*", re.IGNORECASE
)
_PREFIXED: Final = re.compile(
    r"(?:\b|(?<=_))(?:whsec_|whsk_|whpk_|netra_(?:op|tk)_|[srp]k_(?:live|test)_|sk-|gh[opusr]_|github_pat_|glpat-|xox[abeoprs]-|xapp-|AKIA|ASIA"
    r"|AIza|ya29\.|1//|SG\.|npm_|pypi-|dop_v1_|shp(?:at|ss)_|sq0[a-z]{3}-|EAAA|hv[sb]\.|lin_api_|key-|rubygems_|AGE-SECRET-KEY-|eyJ|FwoG|IQoJ)"
    r"[A-Za-z0-9_\-+/=.%]{6,}"
)
_PREFIXES: Final = (
    "whsec_", "whsk_", "whpk_", "netra_", "k_live_", "k_test_", "sk-", "gho_", "ghp_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-",
    "xox",
    "xapp-", "AKIA", "ASIA", "AIza", "ya29.", "1//", "SG.", "npm_", "pypi-", "dop_v1_", "shpat_", "shpss_", "sq0", "EAAA", "hvs.", "hvb.",
    "lin_api_", "key-", "rubygems_", "AGE-SECRET", "eyJ", "FwoG", "IQoJ",
)  # fmt: skip
_ANY_PREFIX: Final = re.compile("|".join(map(re.escape, _PREFIXES)))
"""Asked of short text, where it takes a quarter of the time of so many look-ups; in long text those are quicker."""
_ELEMENT: Final = re.compile(rf"<([\w:.-]*{_TELLING})((?:\s[^<>]{0, 400})?)>[^<]*", re.IGNORECASE)
_PAIR: Final = re.compile(r"(?<![\w\-.])([\w\-.\[\]]++)(?:\\*[\"'])?\s*(?:=>|:=|=|:|%3D|%3A|\bis\b)\s*", re.IGNORECASE)
_VALUE: Final = re.compile(
    r"(?:bearer|basic|digest)\s+[^\s\"']+|(\\*[\"'])(?:(?!\1).)*(?:\1|\Z)|\[[^\]]*(?:\]|\Z)|\{[^}]*(?:\}|\Z)|\([^)]*(?:\)|\Z)"
    r"|[^\s\"'&;,<>{}\]\)]+",
    re.IGNORECASE | re.DOTALL,
)
_LAST_WORDS: Final = frozenset({"id", "number", "code", "key", "string", "value", "val", "values"})
_WORD_BEFORE: Final = re.compile(r"([\w.\-]+)[\"'\s,;\\]*\Z")
_JSON_BEGINS: Final = frozenset("{[")
_PART_OF_FORM: Final = re.compile(
    rf"(name=\"[^\"]*{_TELLING}[^\"]*\"[^\r\n]*(?:\r?\n[^\r\n]+)*\r?\n\r?\n).*?(?=\r?\n--|\Z)", re.IGNORECASE | re.DOTALL
)
_CARD: Final = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_\-+/=.~%]{8,}")
_PART: Final = re.compile(r"[A-Za-z0-9+]+")
_OWN_ID: Final = re.compile(r"(?:msg|ep|app|run|atmpt|dbg|aud|node|key|task|conn|evt|flow|cli|oc|kpi)_[0-9a-hjkmnp-tv-z]{26}\Z")
_PLAIN: Final = (
    _OWN_ID,
    re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z"),  # a UUID names; one that is a key stands under a name
    re.compile(r"\d{4}-\d\d-\d\d[T ]?[\d:.+Z-]*\Z"),
    re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z"),  # a position in a trace
    re.compile(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?\Z"),
)
_WORDS: Final = re.compile(r"(?:[A-Z]?[a-z]{1,14}|[A-Z]{1,14}|\d{1,6})\Z")
_DIGITS: Final = re.compile(r"\d+")
_PIECES: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


@lru_cache(maxsize=4096)
def name_tells(name: str) -> bool:
    """Whether what stands under this name is a secret, whatever it looks like."""
    plain = _LETTERS.sub("", name.lower())
    return plain in _EXACT or any(word in plain for word in _CONTAINS)


class Redactor:
    """Judges values. `is_held` knows the secrets in this process's memory, by their fingerprints; `known` says how many there are."""

    def __init__(self, is_held: Callable[[str], bool], known: Callable[[], int] = int) -> None:
        self._is_held = is_held
        self._known = known
        self._remembered: dict[str, str] = {}
        self._remembered_at = 0

    def data(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """A record's data as it may be stored: JSON, judged throughout."""
        judged = self.value(value)
        return judged if isinstance(judged, dict) else {"data": judged}

    def value(self, value: Any, name: str = "", depth: int = 0) -> Any:
        """A plain value (what JSON knows, bytes, tuples) under a name, judged."""
        try:
            return self._value(value, name, depth)
        except Exception:  # noqa: BLE001  (fail closed: whatever went wrong, the value is not shown)
            return UNJUDGED

    def _value(self, value: Any, name: str, depth: int) -> Any:
        if value is None or value is True or value is False:
            return value
        if name and name_tells(name) and not self._is_safe(name, value):
            return MASK
        kind = type(value)
        if kind is str:
            return self.text(value)
        if kind is int or kind is float:
            return self._number(value)
        if kind is bytes:
            return self._bytes(value)
        if depth >= DEEPEST:
            return CUT
        if kind is dict:
            return dict(self._members(value, depth))
        if kind is list or kind is tuple:
            judged = list(self._elements(value[:MOST_ITEMS], depth))
            return [*judged, CUT] if len(value) > MOST_ITEMS else judged
        return f"<{kind.__name__}>"

    def _elements(self, values: list[Any] | tuple[Any, ...], depth: int) -> Iterator[Any]:
        """What follows a telling name in a row is its value: headers as pairs, options and what they are given."""
        told = False
        for each in values:
            yield MASK if told and type(each) not in _SAYS_NOTHING else self.value(each, "", depth + 1)
            told = _is_telling(each)

    def _members(self, value: dict[Any, Any], depth: int) -> Iterator[tuple[str, Any]]:
        named = not _NAMING.isdisjoint(value) and any(_is_telling(value[name]) for name in _NAMING if name in value)
        for number, (key, member) in enumerate(value.items()):
            if number >= MOST_ITEMS:
                yield CUT, len(value)
                return
            name = key if type(key) is str else repr(key) if type(key) in {int, float, bool, type(None)} else f"<{type(key).__name__}>"
            if named and name.lower() in _NAMED and type(member) not in _SAYS_NOTHING:
                yield self._name(name), MASK
                continue
            often = depth == 0 and name in _CHOSEN_BY_US and type(member) is str
            yield self._name(name), self._name(member) if often else self.value(member, name, depth + 1)

    def _name(self, text: str) -> str:
        """A verdict that is asked for often, until one more secret is known."""
        if len(text) > LONGEST_NAME:
            return self.text(text)
        known = self._known()
        if known != self._remembered_at or len(self._remembered) > MOST_REMEMBERED:
            self._remembered, self._remembered_at = {}, known
        verdict = self._remembered.get(text)
        if verdict is None:
            verdict = self._remembered[text] = self.text(text)
        return verdict

    def text(self, text: str) -> str:
        """Text of any kind: a body, a line of a log, a variable."""
        try:
            if len(text) < _LEAST and _is_harmless(text):
                return MASK if self._is_held(text) or any(map(self._is_held, text.split())) else text
            whole = self._parsed(text) if text[:1] in _JSON_BEGINS else text
            judged = _by_shape(shortened(whole))
            return _TOKEN.sub(self._token, judged)
        except Exception:  # noqa: BLE001  (as in `value`)
            return UNJUDGED

    def _parsed(self, text: str) -> str:
        """A whole JSON document judged by its members: no pattern sees which brace ends what stands under a name.

        The text as it was where nothing in it had to go.
        """
        if len(text) > LONGEST_TEXT:
            return text
        try:
            document = orjson.loads(text)
        except ValueError:
            return text
        judged = self.value(document)
        return text if judged == document else orjson.dumps(judged).decode()

    def _token(self, match: re.Match[str]) -> str:
        token = match[0]
        if self._is_held(token) or (not token.isalnum() and any(map(self._is_held, _parts(token)))):
            return MASK
        return MASK if len(token) >= _LEAST and looks_random(token) else token

    def _bytes(self, value: bytes) -> str:
        try:
            return self.text(value[: LONGEST_TEXT + 1].decode("utf-8", "strict" if len(value) <= LONGEST_TEXT else "ignore"))
        except UnicodeDecodeError:
            return f"<{len(value)} bytes>"

    def _number(self, value: Any) -> Any:
        if type(value) is float:
            return value if math.isfinite(value) else str(value)
        if not -(2**53) < value < 2**53:
            return MASK if value.bit_length() > 64 else str(value)
        return MASK if 10**12 <= abs(value) < 10**19 and _is_card(str(abs(value))) else value

    @staticmethod
    def _is_safe(name: str, value: Any) -> bool:
        safe = _SAFE_NAMES.get(_LETTERS.sub("", name.lower()))
        return safe is not None and type(value) is str and safe.match(value) is not None


def _is_telling(value: Any) -> bool:
    """Whether it is text that names a secret, and nothing else: a header's name, an option."""
    if type(value) is bytes:
        value = value[: LONGEST_NAME + 1].decode("latin-1")
    return type(value) is str and _LEAST_NAME <= len(value) <= LONGEST_NAME and _IS_NAME.match(value) is not None and name_tells(value)


def _by_shape(text: str) -> str:
    """What has the shape of a secret, or stands under a telling name. Each pattern runs only where its beginning occurs."""
    lower = text.lower()
    if "-----begin " in lower:
        text = _PEM.sub(MASK, text)
    if "://" in text and "@" in text:
        text = _URL.sub(MASK + "@", text)
    if any(map(lower.__contains__, _SCHEMES)):
        text = _SCHEME.sub(rf"\1 {MASK}", text)
    if any(map(text.__contains__, _PREFIXES)):
        text = _PREFIXED.sub(MASK, text)
    if any(map(lower.__contains__, _WORDS_TELL)):
        text = _by_name(text)
    return _CARD.sub(lambda match: MASK if _is_card(match[0].replace(" ", "").replace("-", "")) else match[0], text)


def _by_name(text: str) -> str:
    if "<" in text:
        text = _ELEMENT.sub(rf"<\1>{MASK}", text)
    pieces, reached = [], 0
    for match in _PAIR.finditer(text):
        if match.start() < reached or not _tells(text, match):
            continue
        value = _VALUE.match(text, match.end())
        if value is not None:
            quote = value[1] or ""
            pieces += [text[reached : match.end()], quote, MASK, quote]
            reached = value.end()
    text = "".join([*pieces, text[reached:]])
    return _PART_OF_FORM.sub(rf"\1{MASK}", text) if "name=" in text else text


def _tells(text: str, match: re.Match[str]) -> bool:
    """Whether the name in front of a value tells, by itself or together with the word before: `session id: ...`."""
    name = match[1]
    if name_tells(name):
        return True
    if name.lower() not in _LAST_WORDS:
        return False
    before = _WORD_BEFORE.search(text[max(0, match.start() - LONGEST_NAME) : match.start()])
    return before is not None and (name_tells(before[1] + name) or (name.lower() in _NAMED and name_tells(before[1])))


def _is_harmless(text: str) -> bool:
    """Whether short text has no shape and no telling name, without asking each pattern."""
    if text.isalnum():
        return not text.startswith(_PREFIXES)
    return not _MARKS.search(text) and not _ANY_PREFIX.search(text)


def shortened(text: str, limit: int = LONGEST_TEXT) -> str:
    """Text within the limit; where it is cut, its last word goes too."""
    if len(text) <= limit:
        return text
    kept = text[:limit]
    end = len(kept)
    while end and not kept[end - 1].isspace() and kept[end - 1] not in "\"'&,;<>{}":
        end -= 1
    return kept[:end] + CUT


def looks_random(token: str) -> bool:
    """Whether a token is more likely a key than a name: long, of mixed classes, and not made of words."""
    token = token.strip(".=~%-_/+")
    if len(token) < _LEAST or any(plain.match(token) for plain in _PLAIN):
        return False
    if "/" in token or "." in token:
        parts = [part for part in re.split(r"[/.]", token) if not _is_words(part) and not any(plain.match(part) for plain in _PLAIN)]
        return any(len(part) >= _LEAST and looks_random(part) for part in parts) or (
            sum(map(len, parts)) >= _LEAST and looks_random("".join(parts))
        )
    if _is_words(token):
        return False
    has = (any(c.isdigit() for c in token), any(c.islower() for c in token), any(c.isupper() for c in token))
    letters = [c for c in token if c.isalnum()]
    if len(letters) < _LEAST or sum(has) < 2:
        return len(letters) >= 24 and sum(has) >= 1 and not has[0] and _entropy(token) > 3.9
    return _entropy(token) >= LEAST_ENTROPY


def _is_words(token: str) -> bool:
    """Whether it is words and short numbers, with separators or in camel case: `order-service-2`, `paidInvoiceDelivered`."""
    parts = [part for part in re.split(r"[_\-+=~%.:]", token) if part]
    if any(len(part) >= _LEAST and len(_DIGITS.findall(part)) > 1 for part in parts):
        return False
    pieces = [piece for part in parts for piece in (_PIECES.findall(part) or [part])]
    lengths = [len(piece) for piece in pieces]
    whole = sum(lengths) >= len(re.sub(r"[_\-+=~%.:]", "", token))
    return whole and all(_WORDS.match(piece) for piece in pieces) and sum(lengths) / max(1, len(lengths)) >= 3.2


def _parts(token: str) -> set[str]:
    """Pieces of a token that could be a secret of their own."""
    parts = set(_PART.findall(token))
    for separators in ("[=]", "[/]", "[.]", "[=/.%~]"):
        parts.update(re.split(separators, token))
    parts.discard(token)
    return parts


def _entropy(token: str) -> float:
    """Shannon's, in bits per character of this token."""
    size = len(token)
    return -sum(count / size * math.log2(count / size) for count in Counter(token).values())


def _is_card(digits: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
