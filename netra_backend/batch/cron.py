"""When a schedule fires: crontab's five fields, read as POSIX `crontab` and Vixie's cron do, in a time zone.

`minute hour day-of-month month day-of-week`; each `*`, a number, a range `a-b`, a list, any of them with a step `/n`; months and days
of the week also by their English names; Sunday is 0 and 7. Where both days are given, one of them suffices (POSIX). Also
`@hourly @daily @weekly @monthly @yearly`.

Local times that a clock change leaves out fire when that hour would have been, and those that come twice fire once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from ..errors import InvalidInput

NAMED: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
MONTHS: Final = {
    name: number for number, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
DAYS: Final = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
FIELDS: Final[tuple[tuple[str, int, int, dict[str, int]], ...]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, MONTHS),
    ("weekday", 0, 7, DAYS),
)
FAR_DAYS: Final = 9 * 366
"""29 February comes within eight years, whichever the century."""


@dataclass(frozen=True, slots=True)
class Cron:
    """One expression, parsed. `any_day` and `any_weekday` say which of the two was left open."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool
    zone: tzinfo

    def next_us(self, after_us: int) -> int:
        """The first time behind `after_us`, microseconds since the epoch in UTC."""
        start = datetime.fromtimestamp(after_us / 1_000_000, UTC)
        day = start.astimezone(self.zone).date()
        for _ in range(FAR_DAYS):
            if self._fits(day.month, day.day, day.isoweekday() % 7):
                times = (
                    datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone) for hour in self.hours for minute in self.minutes
                )
                later = [found for local in times if (found := round(local.timestamp()) * 1_000_000) > after_us]
                if later:  # not in the order of the clock on the wall, where that is put forward
                    return min(later)
            day += timedelta(days=1)
        raise InvalidInput("this schedule never fires", fix="Give a day that its month has.")

    def _fits(self, month: int, day: int, weekday: int) -> bool:
        if month not in self.months:
            return False
        if self.any_day or self.any_weekday:
            return day in self.days and weekday in self.weekdays
        return day in self.days or weekday in self.weekdays


def parse(text: str, zone: str = "UTC") -> Cron:
    """The expression in that time zone (an IANA name); `InvalidInput` says what is wrong with it."""
    words = NAMED.get(text.strip().lower(), text).split()
    if len(words) != len(FIELDS):
        raise InvalidInput(f"{text!r} is no crontab expression", fix="Give five fields, such as '*/15 * * * *' or '0 3 * * mon-fri'.")
    minutes, hours, days, months, weekdays = (_values(word, *field) for word, field in zip(words, FIELDS, strict=True))
    weekdays = {day % 7 for day in weekdays}
    opens = (words[2].startswith("*"), words[4].startswith("*"))
    made = Cron(tuple(sorted(minutes)), tuple(sorted(hours)), frozenset(days), frozenset(months), frozenset(weekdays), *opens, _zone(zone))
    made.next_us(0)  # or it is refused now, and not when it is to fire
    return made


def _values(word: str, name: str, least: int, most: int, names: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for part in word.lower().split(","):
        span, slash, step = part.partition("/")
        low, dash, high = span.partition("-")
        if span == "*":
            first, last = least, most
        else:
            first = _number(low, name, names)
            last = _number(high, name, names) if dash else (most if slash else first)
        every = _number(step, name, {}) if slash else 1
        if not (least <= first <= last <= most) or every < 1:
            raise InvalidInput(f"{part!r} is no {name}", fix=f"Give numbers from {least} to {most}.")
        found.update(range(first, last + 1, every))
    return found


def _number(word: str, name: str, names: dict[str, int]) -> int:
    if word in names:
        return names[word]
    if not (word.isdecimal() and word.isascii() and len(word) < 4):
        raise InvalidInput(f"{word!r} is no {name}", fix="Give a number, a range, a list, a step, or an English name.")
    return int(word)


def _zone(name: str) -> tzinfo:
    if name == "UTC":  # also where no time zones are installed
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidInput(f"{name!r} is no time zone that this machine knows", fix="Give an IANA name, such as Europe/Zurich.") from error
