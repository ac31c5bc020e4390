"""Depth messages of Binance USDT-M, typed: diffs and tickers from a stream, snapshots from REST (SPEC §8).

The envelope is decoded by msgspec; levels stay the bytes they came as, for the compiled reader in `depthlevels`. That
takes 2 µs for a recorded diff of 1.6 kB; with its 68 levels as Python strings it takes 9 µs, and as floats 17.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from dolphin.exchange.depthfaults import DepthError, FaultKind, shown

MAX_BYTES = 4 << 20
"""A longer message is refused unread; a snapshot of 1000 levels has 42 kB, the longest recorded diff 26 kB."""

Id = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Ms = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class DepthDiff(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="e", tag="depthUpdate"):
    """What changed of a book between two identifiers; quantities are what is there now, 0 for a level that is gone."""

    symbol: str = msgspec.field(name="s")
    event_ms: Ms = msgspec.field(name="E")
    transact_ms: Ms = msgspec.field(name="T")
    first_id: Id = msgspec.field(name="U")
    final_id: Id = msgspec.field(name="u")
    previous_id: Id = msgspec.field(name="pu")  # final_id of the diff before it
    bids: msgspec.Raw = msgspec.field(name="b")  # [["price","quantity"],…] as it came
    asks: msgspec.Raw = msgspec.field(name="a")


class BookTicker(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="e", tag="bookTicker"):
    """The best bid and ask after the change `update_id`; prices and quantities are text."""

    symbol: str = msgspec.field(name="s")
    update_id: Id = msgspec.field(name="u")
    event_ms: Ms = msgspec.field(name="E", default=0)
    transact_ms: Ms = msgspec.field(name="T", default=0)
    bid: str = msgspec.field(name="b")
    bid_qty: str = msgspec.field(name="B")
    ask: str = msgspec.field(name="a")
    ask_qty: str = msgspec.field(name="A")


class DepthSnapshot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The book as REST gives it; a side of as many levels as were asked for may go on behind its last one."""

    last_id: Id = msgspec.field(name="lastUpdateId")
    event_ms: Ms = msgspec.field(name="E")
    transact_ms: Ms = msgspec.field(name="T")
    bids: msgspec.Raw
    asks: msgspec.Raw


class Notice(msgspec.Struct, frozen=True, gc=False):
    """A sound message that says nothing of a book: another event (`name` is its type) or the reply to a request."""

    name: str


class _Wrapped(msgspec.Struct, frozen=True, gc=False):
    """A message of a combined stream."""

    data: DepthDiff | BookTicker


class _Loose(msgspec.Struct, frozen=True):
    """Enough of any message to say what it is."""

    e: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    result: Any = msgspec.UNSET
    code: int | None = None
    msg: str | None = None
    error: Any = None


_wrapped = msgspec.json.Decoder(_Wrapped).decode
_plain: Any = msgspec.json.Decoder(DepthDiff | BookTicker).decode
_loose = msgspec.json.Decoder(_Loose).decode
_snapshot = msgspec.json.Decoder(DepthSnapshot).decode
_BAD = (msgspec.MsgspecError, UnicodeError, RecursionError)
_KNOWN = ("depthUpdate", "bookTicker")


def decode_stream(raw: bytes | str) -> DepthDiff | BookTicker | Notice:
    """One WebSocket message, of a single stream or wrapped by a combined one.

    Fields that are not read are passed over, whatever they hold. Raises DepthError (malformed, wrong_type, too_large,
    venue_error, bad_sequence); levels are not looked at yet.
    """
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogatepass")
    if len(raw) > MAX_BYTES:
        raise DepthError(FaultKind.TOO_LARGE, f"depth stream: a message of {len(raw)} bytes; expected ≤ {MAX_BYTES}")
    try:
        found = _wrapped(raw).data if raw.startswith(b'{"stream"') else _plain(raw)
    except _BAD as error:
        found = _second_look(raw, error)
    if isinstance(found, DepthDiff) and not found.previous_id <= found.final_id >= found.first_id:
        raise DepthError(
            FaultKind.BAD_SEQUENCE,
            f"depth stream: {found.symbol}: U={found.first_id} u={found.final_id} pu={found.previous_id}; "
            "expected U ≤ u and pu ≤ u",
        )
    return found


def decode_rest_depth(raw: bytes | str) -> DepthSnapshot:
    """The body of `GET /fapi/v1/depth`. Raises DepthError (malformed, wrong_type, too_large, venue_error)."""
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogatepass")
    if len(raw) > MAX_BYTES:
        raise DepthError(FaultKind.TOO_LARGE, f"depth snapshot: {len(raw)} bytes; expected ≤ {MAX_BYTES}")
    try:
        return _snapshot(raw)
    except _BAD as error:
        _raise_if_error(raw, "depth snapshot")
        raise _fault(raw, error, "depth snapshot") from None


def _second_look(raw: bytes, error: Exception) -> Any:
    """What a message is that was no diff and no ticker at first sight: another event, a reply, or bad."""
    try:
        loose = _loose(raw)
        if bytes(loose.data):
            raw = bytes(loose.data)
            loose = _loose(raw)
        if loose.e in _KNOWN:
            return _plain(raw)  # a wrapper whose fields came in another order; the same fault again otherwise
    except _BAD as again:
        raise _fault(raw, again if isinstance(again, msgspec.ValidationError) else error, "depth stream") from None
    if loose.e is not None:
        return Notice(loose.e)
    _raise_if_error(raw, "depth stream")
    if loose.result is not msgspec.UNSET:
        return Notice("reply")
    raise _fault(raw, error, "depth stream")


def _raise_if_error(raw: bytes, what: str) -> None:
    """Raise venue_error when the message is the venue's own complaint: `{"code":…,"msg":…}`, alone or under "error"."""
    try:
        loose = _loose(raw)
    except _BAD:
        return
    if loose.code is not None or loose.error is not None:
        raise DepthError(FaultKind.VENUE_ERROR, f"{what}: the venue answered {shown(raw, width=160)}")


def _fault(raw: bytes, error: Exception, what: str) -> DepthError:
    """The fault that a failed decoding is."""
    typed = isinstance(error, msgspec.ValidationError)
    kind = FaultKind.WRONG_TYPE if typed else FaultKind.MALFORMED
    reason = ascii(str(error))[1:-1]
    return DepthError(kind, f"{what}: {len(raw)} bytes {shown(raw)}: {reason}; the message is passed over")
