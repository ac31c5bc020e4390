"""From the replay's result to the venue's: every dollar of the difference has a name (SPEC §7, §13).

Of one venue trade, with d its side, q the quantity filled, E and X the decision prices of entry and exit, Em and Xm the
middle of the market when the orders were filled, Ef and Xf the prices paid, W the notional that the engine asked for:

    net = d·q·(Xf − Ef) + fees + funding

    d·q·(Xf − Ef) = d·q·[(Xf − Xm) − (Ef − Em)]       spread and slippage
                  + d·q·[(Xm − X) − (Em − E)]         latency
                  + d·(q − W/E)·(X − E)               lot rounding, partial fills
                  + W·r,   r = d·(X − E)/E            the trade as it was decided

Replayed without friction, the same trade brought N·r', so that of a pair (same entry bar, same asset)

    W·r − N·r' = (W − N)·r'                           sizing: capital and streaks had become others
               + W·(r − r')                           protective stop, if that closed it; else timing

A trade that only the venue run made has no r' and no N: its W·r is timing, and so is −N·r' of one that only the replay
made. Nothing is estimated and no term is a residual: the remainder is what the recorded nets leave unexplained, zero up
to rounding unless a record contradicts itself. The split is exact; its order is a choice (decision 0035).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.layout import F8, I8
from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import Direction, ExitReason
from dolphin.research.tworuns import Trades, check_runs, matched_rows, returns

COMPONENTS = (
    *("fees", "spread_slippage", "latency", "lot_rounding", "funding"),
    *("protective_stops", "sizing", "timing"),
)
"""What the difference is made of, in the order of the report: first what the venue took, then what followed from it."""

BRIDGE_TRADE = np.dtype(
    [
        ("replay_row", "i8"),  # row in the replay's records; −1: only the venue run made this trade
        ("venue_row", "i8"),  # row in the venue's; −1: only the replay made it
        ("replay_id", "i8"),  # trade_id in each run, −1 likewise
        ("venue_id", "i8"),
        ("asset", "i8"),
        ("side", "i8"),
        ("entry_bar", "i8"),
        ("entry_ts", "i8"),  # stamps of the decisions, int64 ns UTC: the venue's, else the replay's
        ("exit_ts", "i8"),
        ("replay_net", "f8"),  # USDT; 0 where that run has no such trade
        ("venue_net", "f8"),
        *((name, "f8") for name in COMPONENTS),
        ("remainder", "f8"),  # venue_net − replay_net − the components
    ]
)

LARGEST = 10
CENT = 0.005
"""USDT from which on a remainder is no rounding any more."""


@dataclass(frozen=True, eq=False)
class Bridge:
    """The difference between two runs, trade by trade.

    `trades` are records of BRIDGE_TRADE (K,), every trade that either run made, in order of entry. `assets` are the
    names of the columns. `traded_usd` is what the venue run bought and sold, both legs at the prices paid.
    `moved` counts pairs that left on another bar, `stopped` those of the venue's trades that its protective stop
    closed.
    """

    trades: NDArray[Any]
    assets: tuple[str, ...]
    traded_usd: float
    moved: int
    stopped: int

    @property
    def replay_net(self) -> float:
        """Net PnL of the replay, USDT."""
        return math.fsum(self.trades["replay_net"])

    @property
    def venue_net(self) -> float:
        """Net PnL of the venue run, USDT."""
        return math.fsum(self.trades["venue_net"])

    @property
    def difference(self) -> float:
        """The venue's net less the replay's, USDT."""
        return self.venue_net - self.replay_net

    @property
    def components(self) -> dict[str, float]:
        """The total of each component, USDT, signed: negative where the venue run earned less."""
        return {name: math.fsum(self.trades[name]) for name in COMPONENTS}

    @property
    def remainder(self) -> float:
        """What the components leave unexplained, USDT."""
        return math.fsum([self.difference, *(-value for value in self.components.values())])

    @property
    def closes(self) -> bool:
        """Whether the components explain the difference, as a whole and in every trade, to half a cent."""
        worst = float(np.max(np.abs(self.trades["remainder"]), initial=0.0))
        return abs(self.remainder) < CENT and worst < CENT

    def largest(self, count: int = LARGEST) -> NDArray[Any]:
        """The `count` trades whose nets differ most, the largest difference first; trades that agree are left out."""
        off = np.abs(self.trades["venue_net"] - self.trades["replay_net"])
        order = np.argsort(-off, kind="stable")[:count]
        rows: NDArray[Any] = self.trades[order[off[order] > 0.0]]
        return rows

    def daily(self) -> tuple[NDArray[np.datetime64], dict[str, F8]]:
        """The difference and its components added up day by day.

        The UTC days on which a trade closed, (D,), and per name of COMPONENTS, and for `difference`, the sum so far,
        USDT, float64 (D,). A trade counts on the day on which the venue run decided to leave it, one that only the
        replay made on the replay's.
        """
        dates = self.trades["exit_ts"].astype("datetime64[ns]").astype("datetime64[D]")
        days, place = np.unique(dates, return_inverse=True)
        columns = {name: self.trades[name] for name in COMPONENTS}
        columns["difference"] = self.trades["venue_net"] - self.trades["replay_net"]
        sums = {name: np.bincount(place, values, len(days)) for name, values in columns.items()}
        return days, {name: np.cumsum(values) for name, values in sums.items()}

    def plain(self) -> dict[str, Any]:
        """For `summary.json` and the report: totals in USDT, the largest trades, and the daily sums."""
        days, sums = self.daily()
        mine, theirs = self.trades["replay_row"] >= 0, self.trades["venue_row"] >= 0
        return {
            "replay_net": self.replay_net,
            "venue_net": self.venue_net,
            "difference": self.difference,
            "components": self.components,
            "remainder": self.remainder,
            "closes": self.closes,
            "traded_usd": self.traded_usd,
            "trades": {
                "replay": int(mine.sum()),
                "venue": int(theirs.sum()),
                "matched": int((mine & theirs).sum()),
                "left_on_another_bar": self.moved,
                "stopped": self.stopped,
                "replay_only": int((mine & ~theirs).sum()),
                "venue_only": int((theirs & ~mine).sum()),
            },
            "largest": [self._told(row) for row in self.largest()],
            "daily": {"dates": days.astype(str).tolist(), **{name: values.tolist() for name, values in sums.items()}},
        }

    def _told(self, row: Any) -> dict[str, Any]:
        made = {run: int(row[f"{run}_row"]) >= 0 for run in ("replay", "venue")}
        return {
            **{f"{run}_trade": int(row[f"{run}_id"]) if made[run] else None for run in made},
            "asset": self.assets[int(row["asset"])],
            "side": Direction(int(row["side"])).name,
            "entry": ns_to_iso(int(row["entry_ts"])),
            "exit": ns_to_iso(int(row["exit_ts"])),
            **{f"{run}_net": float(row[f"{run}_net"]) if made[run] else None for run in made},
            "difference": float(row["venue_net"] - row["replay_net"]),
            "components": {name: float(row[name]) for name in COMPONENTS},
        }


def bridge(replay: Trades, venue: Trades, assets: Sequence[str]) -> Bridge:
    """Explain the venue run's net less the replay's by components that add up to it.

    `replay` are TRADE records of a replay without friction, `venue` ROUND_TRIP records of a run of the same engine over
    the same bars, `assets` the names of the universe's columns. Pairs are found by entry bar and asset. Raises
    DataError for runs that `check_runs` refuses. Determinism: a pure function of its records.
    """
    check_runs(replay, venue, assets)
    mine, theirs = matched_rows(replay, venue, len(assets))
    out = np.zeros(len(mine), dtype=BRIDGE_TRADE)
    out["replay_row"], out["venue_row"] = mine, theirs
    out["replay_id"], out["venue_id"] = -1, -1
    for name, rows, run in (("replay", mine, replay), ("venue", theirs, venue)):
        made = rows >= 0
        out[f"{name}_id"][made] = run["trade_id"][rows[made]]
        out[f"{name}_net"] = _laid_out(run["net_pnl"], rows)
        # The venue's come last and stand, where both runs made the trade.
        for column in ("asset", "side", "entry_bar", "entry_ts", "exit_ts"):
            out[column][made] = run[column][rows[made]]
    for name, values in _taken_by_the_venue(venue).items():
        out[name] = _laid_out(values, theirs)
    stopped = venue["reason"] == int(ExitReason.PROTECTIVE_STOP)
    _add_decided(out, replay, venue, stopped)
    out["remainder"] = out["venue_net"] - out["replay_net"] - sum(out[name] for name in COMPONENTS)
    both = (mine >= 0) & (theirs >= 0)
    return Bridge(
        trades=out,
        assets=tuple(assets),
        traded_usd=math.fsum(venue["quantity"] * (venue["entry_fill"] + venue["exit_fill"])),
        moved=int(np.count_nonzero(replay["exit_bar"][mine[both]] != venue["exit_bar"][theirs[both]])),
        stopped=int(stopped.sum()),
    )


def _taken_by_the_venue(venue: Trades) -> dict[str, F8]:
    """The components that need no replay, one value per venue trade."""
    d, q = venue["side"], venue["quantity"]
    entry, exit_ = venue["entry_price"], venue["exit_price"]
    slipped = (venue["exit_fill"] - venue["exit_mid"]) - (venue["entry_fill"] - venue["entry_mid"])
    waited = (venue["exit_mid"] - exit_) - (venue["entry_mid"] - entry)
    return {
        "fees": venue["fees"],
        "funding": venue["funding"],
        "spread_slippage": d * q * slipped,
        "latency": d * q * waited,
        "lot_rounding": d * (q - venue["wanted_usd"] / entry) * (exit_ - entry),
    }


def _add_decided(out: NDArray[Any], replay: Trades, venue: Trades, stopped: NDArray[np.bool_]) -> None:
    """Sizing, protective stops and timing: the trades as they were decided, W·r against N·r'."""
    mine, theirs = out["replay_row"], out["venue_row"]
    both = (mine >= 0) & (theirs >= 0)
    size, size0 = _laid_out(venue["wanted_usd"], theirs), _laid_out(replay["notional_usd"], mine)
    r, r0 = _laid_out(returns(venue), theirs), _laid_out(returns(replay), mine)
    # Where only one run made the trade, the other's size and return are zero here.
    elsewhere = np.where(both, size * (r - r0), size * r - size0 * r0)
    by_stop = both & (_laid_out(stopped.astype(np.float64), theirs) > 0.0)
    out["sizing"] = np.where(both, (size - size0) * r0, 0.0)
    out["protective_stops"] = np.where(by_stop, elsewhere, 0.0)
    out["timing"] = np.where(by_stop, 0.0, elsewhere)


def _laid_out(values: NDArray[Any], rows: I8) -> F8:
    """`values` at `rows`, 0 where the row is −1."""
    padded: F8 = np.append(np.asarray(values, dtype=np.float64), 0.0)
    return padded[rows]
