"""Time: UTC nanoseconds inside, ISO 8601 outside, and round trips between them."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.clock import (
    NS_PER_DAY,
    NS_PER_S,
    date_start_ns,
    iso_to_ns,
    ns_to_date,
    ns_to_iso,
    parse_date,
    system_clock_ns,
)
from dolphin.core.errors import ConfigError

dates = st.dates(date(1970, 1, 1), date(2262, 4, 10))
instants = st.integers(0, 2**63 - 1)


@given(dates)
def test_dates_round_trip(day: date) -> None:
    start = date_start_ns(day)
    assert parse_date(day.isoformat()) == day
    assert ns_to_date(start) == ns_to_date(start + NS_PER_DAY - 1) == day
    assert ns_to_date(start - 1) == day - timedelta(days=1)
    assert iso_to_ns(day.isoformat()) == start


@given(instants)
def test_stamps_round_trip_to_the_microsecond(ts_ns: int) -> None:
    text = ns_to_iso(ts_ns)
    assert text.endswith("Z")
    assert iso_to_ns(text) == ts_ns - ts_ns % 1000, "Python's parser ends at the microsecond"
    assert ns_to_iso(ts_ns - ts_ns % NS_PER_S) == f"{text[:19]}Z"


@given(instants, instants)
def test_stamps_sort_as_their_text_does_within_a_second_of_whole_seconds(a: int, b: int) -> None:
    whole = [t - t % NS_PER_S for t in (a, b)]
    assert (whole[0] < whole[1]) == (ns_to_iso(whole[0]) < ns_to_iso(whole[1]))


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)), st.integers(-23, 23))  # noqa: DTZ001 (zones are added)
def test_zones_are_turned_into_utc(stamp: datetime, hours: int) -> None:
    shifted = f"{stamp.isoformat()}{hours:+03d}:00"
    assert iso_to_ns(shifted) == iso_to_ns(stamp.isoformat()) - hours * 3600 * NS_PER_S
    assert iso_to_ns(stamp.isoformat()) == iso_to_ns(stamp.replace(tzinfo=UTC).isoformat())


def test_by_hand() -> None:
    assert date_start_ns(date(1970, 1, 2)) == NS_PER_DAY == 86_400 * NS_PER_S
    assert ns_to_iso(0) == "1970-01-01T00:00:00Z"
    assert ns_to_iso(1_500_000_000) == "1970-01-01T00:00:01.5Z"
    assert ns_to_iso(1) == "1970-01-01T00:00:00.000000001Z"
    assert iso_to_ns("2021-04-05T12:00:00Z") == iso_to_ns("2021-04-05T14:00+02:00") == 1_617_624_000 * NS_PER_S


@pytest.mark.parametrize(
    "text", ["", "2021-4-5", "20210405", "2021-02-30", "tomorrow", "2021-04-05T00:00", "２０２１-04-05"]
)
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--from: .* is not a calendar date; write it as YYYY-MM-DD"):
        parse_date(text, "--from")


@pytest.mark.parametrize("text", ["", "noon", "2021-04-05T25:00:00Z", "1617624000", "2021-04-05 noon"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--at: .* is not a time; write it as 2021-04-05T12:00:00Z"):
        iso_to_ns(text, "--at")


def test_the_wall_clock() -> None:
    before = time.time_ns()
    assert before <= system_clock_ns() <= time.time_ns()
