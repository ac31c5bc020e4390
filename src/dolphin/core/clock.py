"""Time: UTC, int64 nanoseconds inside, ISO 8601 outside.

Nothing in the pure rooms reads a clock; whoever needs "now" takes a `Clock` as an argument.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from dolphin.core.errors import ConfigError

NS_PER_S = 1_000_000_000
NS_PER_DAY = 86_400 * NS_PER_S

Clock = Callable[[], int]
"""A function of no arguments giving UTC nanoseconds since the epoch."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def system_clock_ns() -> int:
    """Wall clock, UTC nanoseconds since the epoch: the only place where the package reads it."""
    return time.time_ns()


def parse_date(text: str, what: str = "date") -> date:
    """`YYYY-MM-DD` to a date; anything else is a ConfigError that names `what`."""
    if _DATE.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise ConfigError(f"{what}: {text!r} is not a calendar date; write it as YYYY-MM-DD")


def date_start_ns(day: date) -> int:
    """UTC midnight that opens `day`, in nanoseconds."""
    return (day - date(1970, 1, 1)).days * NS_PER_DAY


def ns_to_date(ts_ns: int) -> date:
    """The UTC calendar day that holds `ts_ns`."""
    return date(1970, 1, 1) + timedelta(days=int(ts_ns) // NS_PER_DAY)


def ns_to_iso(ts_ns: int) -> str:
    """ISO 8601 with a trailing Z; fractions of a second only where there are any."""
    seconds, frac = divmod(int(ts_ns), NS_PER_S)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{frac:09d}".rstrip("0") + "Z" if frac else f"{text}Z"


def iso_to_ns(text: str, what: str = "timestamp") -> int:
    """ISO 8601 (or a bare date) to nanoseconds; a stamp without a zone is UTC."""
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{what}: {text!r} is not a time; write it as 2021-04-05T12:00:00Z") from None
    stamp = stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)
    delta = stamp - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * NS_PER_S + delta.microseconds * 1000
