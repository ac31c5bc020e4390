"""A snapshot as it travels: JSON under `asset_{SYMBOL}_ob`, as the switch-over document has it (SPEC §8)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from dolphin.book.layout import BANDS
from dolphin.book.snapshots import make_snapshot
from dolphin.core.clock import NS_PER_S, iso_to_ns
from dolphin.core.errors import ConfigError, DataError
from dolphin.core.records import Record

LATEST_S = 1e11
"""Stamps from here on are milliseconds or finer by mistake: as seconds they would be in the year 5138."""

Bands = Annotated[list[Annotated[float, msgspec.Meta(ge=0.0)]], msgspec.Meta(min_length=BANDS, max_length=BANDS)]


class _Payload(msgspec.Struct, frozen=True):
    """What is read of a value; `_pushed_at`, `_push_seq` and whatever else it holds is left alone."""

    timestamp: str | float
    bid_notional: Bands
    ask_notional: Bands
    bid_depth: Bands
    ask_depth: Bands


def snapshot_key(asset: str) -> str:
    """The key of an asset's snapshot."""
    return f"asset_{asset}_ob"


def seconds_of(ts_ns: int) -> float:
    """Nanoseconds as float seconds: the double nearest to them, to within its last bit."""
    return ts_ns // NS_PER_S + ts_ns % NS_PER_S / NS_PER_S


def normalised_timestamp(value: str | float, what: str = "timestamp") -> float:
    """ISO 8601 text (UTC when it names no zone) or a number of seconds, as float seconds since the epoch, UTC.

    Raises DataError for anything else, and for a number that can only be milliseconds or finer.
    """
    if isinstance(value, str):
        try:
            return seconds_of(iso_to_ns(value, what))
        except ConfigError as error:
            raise DataError(str(error)) from None
    if not 0.0 <= value < LATEST_S:
        raise DataError(f"{what}: {value} is no time in seconds since the epoch; write it in seconds or as ISO 8601")
    return float(value)


def decode_snapshot(value: bytes | str, where: str = "snapshot") -> Record:
    """The SNAPSHOT record that a JSON value holds. Raises DataError, naming `where`, for anything else."""
    try:
        payload = msgspec.json.decode(value, type=_Payload)
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{where}: not an order-book snapshot ({error}); expected timestamp, bid_notional, ask_notional, bid_depth "
            f"and ask_depth with {BANDS} bands each, none below 0"
        ) from None
    return make_snapshot(
        normalised_timestamp(payload.timestamp, f"{where}: timestamp"),
        payload.bid_notional,
        payload.ask_notional,
        payload.bid_depth,
        payload.ask_depth,
    )
