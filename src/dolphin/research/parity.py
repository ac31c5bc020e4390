"""Whether a venue run took the trades that the replay took: the same step over the same bars has to (SPEC §7, §13).

Lots make the venue's capital drift from the replay's by cents, and every later size with it. The notional is therefore
judged after that drift is taken out; docs/nautilus.md has the rule and decision 0034 its reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dolphin.core.codes import Direction, ExitReason
from dolphin.research.tworuns import Trades, check_runs

LISTED = 20
"""How many mismatches are put into words; the rest are counted."""

_SLACK = 1e-9
"""Share of the notional that rounding in float64 may add to a lot."""

_FIELDS = ("asset", "side", "entry_bar", "exit_bar", "reason")


@dataclass(frozen=True)
class Mismatch:
    """One field of one trade in which the runs differ; `trade` is the replay's number, the venue's where the replay
    has no such trade. `replay` and `venue` are the values in words."""

    trade: int
    field: str
    replay: str
    venue: str

    def __str__(self) -> str:
        """The mismatch as one line."""
        return f"trade {self.trade}: {self.field} is {self.replay} in the replay, {self.venue} at the venue"


@dataclass(frozen=True)
class Parity:
    """The verdict over two runs.

    `matched` counts trades that agree in every respect. `mismatches` are the first ones, `more` counts those not
    listed. Of the trades that agree in asset, side and entry bar: `notional_lots` and `notional_usd` are the largest
    difference of the notional after the capital's drift is taken out, in lots and in USDT; `raw_notional_usd` is the
    largest as it stands; `price_bps` is the largest difference of a decision price on the same bar. All ≥ 0.
    """

    replay_trades: int
    venue_trades: int
    matched: int
    mismatches: tuple[Mismatch, ...]
    more: int
    notional_lots: float
    notional_usd: float
    raw_notional_usd: float
    price_bps: float

    @property
    def ok(self) -> bool:
        """Whether nothing differs; two runs without trades agree, and prove nothing."""
        return not self.mismatches and not self.more

    def plain(self) -> dict[str, Any]:
        """For `summary.json`."""
        return {
            "ok": self.ok,
            "replay_trades": self.replay_trades,
            "venue_trades": self.venue_trades,
            "matched": self.matched,
            "mismatches": [str(mismatch) for mismatch in self.mismatches],
            "mismatches_not_listed": self.more,
            "largest_notional_difference_lots": self.notional_lots,
            "largest_notional_difference_usd": self.notional_usd,
            "largest_raw_notional_difference_usd": self.raw_notional_usd,
            "largest_price_difference_bps": self.price_bps,
        }


@dataclass
class _Largest:
    """The largest differences met so far."""

    lots: float = 0.0
    usd: float = 0.0
    raw_usd: float = 0.0
    price_bps: float = 0.0


def compare_trades(replay: Trades, venue: Trades, assets: Sequence[str], *, listed: int = LISTED) -> Parity:
    """Compare TRADE records of a replay without friction with ROUND_TRIP records of a venue run, trade by trade.

    Trades are taken in order and held together by their entry bar, so that one trade too many is one mismatch and not
    a cascade of them; between two such anchors the trades left over are compared in order, and what is still left is
    missing from the other run. Asset, side, entry bar, exit bar and reason must be equal, and the notional filled
    within one lot of the replay's, scaled by the capital before the entry:
    `|quantity·entry_fill − notional_usd·capital_before_venue/capital_before_replay| ≤ lot·entry_fill`.

    `assets` are the names of the universe's columns, for both runs. Raises DataError for runs that `check_runs`
    refuses. Complexity: linear.
    """
    check_runs(replay, venue, assets)
    found: list[Mismatch] = []
    largest = _Largest()
    matched = 0
    for mine, theirs in _pairs(replay["entry_bar"].tolist(), venue["entry_bar"].tolist()):
        before = len(found)
        if mine is None or theirs is None:
            found.append(_lone(replay, venue, mine, theirs, assets))
        else:
            found += _differences(replay[mine], venue[theirs], assets, largest)
        matched += len(found) == before
    return Parity(
        replay_trades=len(replay),
        venue_trades=len(venue),
        matched=matched,
        mismatches=tuple(found[:listed]),
        more=len(found[listed:]),
        notional_lots=largest.lots,
        notional_usd=largest.usd,
        raw_notional_usd=largest.raw_usd,
        price_bps=largest.price_bps,
    )


def _pairs(replay_bars: Sequence[int], venue_bars: Sequence[int]) -> Iterator[tuple[int | None, int | None]]:
    """Rows of both runs that belong together, None where one has nothing to set against the other."""
    row_at = {bar: row for row, bar in enumerate(venue_bars)}
    anchors = [(row, row_at[bar]) for row, bar in enumerate(replay_bars) if bar in row_at]
    i = j = 0
    for a, b in [*anchors, (len(replay_bars), len(venue_bars))]:
        both = min(a - i, b - j)
        yield from ((i + k, j + k) for k in range(both))
        yield from ((row, None) for row in range(i + both, a))
        yield from ((None, row) for row in range(j + both, b))
        if a < len(replay_bars):
            yield a, b
        i, j = a + 1, b + 1


def _lone(replay: Trades, venue: Trades, mine: int | None, theirs: int | None, assets: Sequence[str]) -> Mismatch:
    if mine is not None:
        return Mismatch(int(replay[mine]["trade_id"]), "trade", _described(replay[mine], assets), "missing")
    return Mismatch(int(venue[theirs]["trade_id"]), "trade", "missing", _described(venue[theirs], assets))


def _described(row: Any, assets: Sequence[str]) -> str:
    side = Direction(int(row["side"])).name
    return f"{side} {assets[int(row['asset'])]} from bar {row['entry_bar']} to {row['exit_bar']}"


def _differences(mine: Any, theirs: Any, assets: Sequence[str], largest: _Largest) -> Iterator[Mismatch]:
    """What differs within a pair; `largest` learns from pairs of the same asset, side and entry bar."""
    words: dict[str, Callable[[int], str]] = {
        "asset": lambda code: assets[code],
        "side": lambda code: Direction(code).name,
        "reason": lambda code: ExitReason(code).name,
    }
    number = int(mine["trade_id"])
    unlike = [name for name in _FIELDS if mine[name] != theirs[name]]
    for name in unlike:
        say = words.get(name, str)
        yield Mismatch(number, name, say(int(mine[name])), say(int(theirs[name])))
    if {"asset", "side", "entry_bar"} & set(unlike):
        return
    ends = ("entry_price",) if "exit_bar" in unlike or "reason" in unlike else ("entry_price", "exit_price")
    largest.price_bps = max(largest.price_bps, *(abs(theirs[end] / mine[end] - 1.0) * 1e4 for end in ends))
    mismatch = _notional(mine, theirs, largest)
    if mismatch is not None:
        yield mismatch


def _notional(mine: Any, theirs: Any, largest: _Largest) -> Mismatch | None:
    capital = float(mine["capital_after"] - mine["net_pnl"])
    scale = float(theirs["capital_before"]) / capital
    filled, lot_usd = float(theirs["quantity"] * theirs["entry_fill"]), float(theirs["lot"] * theirs["entry_fill"])
    wanted = float(mine["notional_usd"]) * scale
    off, raw = abs(filled - wanted), abs(filled - float(mine["notional_usd"]))
    largest.usd, largest.raw_usd = max(largest.usd, off), max(largest.raw_usd, raw)
    largest.lots = max(largest.lots, off / lot_usd)
    if off <= lot_usd + _SLACK * wanted:
        return None
    said = f"{wanted:,.2f} USDT ({float(mine['notional_usd']):,.2f} × {scale:.6f} for the capital)"
    return Mismatch(int(mine["trade_id"]), "notional", said, f"{filled:,.2f} USDT, {off / lot_usd:.2f} lots off")
