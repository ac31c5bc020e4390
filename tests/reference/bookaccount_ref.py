"""The account of OB-1 … OB-5 in plain Python: the reference engine, asking itself what it would do without a book."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from dolphin.core.clock import NS_PER_S
from dolphin.core.codes import Drop, ExitReason, Gate
from dolphin.market.bookfiles import BookDay
from tests.reference import rules_ref as rule
from tests.reference.bars_ref import Bar, Position
from tests.reference.book_ref import ReferenceBook, Snapshot
from tests.reference.engine_ref import Event, ReferenceEngine
from tests.reference.rules_ref import valid_price
from tests.reference.selection_ref import ob1_share


def blind(bar: Bar) -> Bar:
    """The same bar for somebody who cannot see the book."""
    return {**bar, "book": None}


class AccountingEngine(ReferenceEngine):
    """The plain twin, counting."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.counts: Counter[str] = Counter()
        self.sums: dict[str, float] = dict.fromkeys(("ob2_change", "ob3_mult", "ob3_notional", "ob4_notional"), 0.0)
        self.by_book: list[bool] = []
        self._changed = self._kept = self._stressed = False

    def step(self, bar: Bar) -> Event:
        self.counts["bars"] += 1
        market = bar["book"]["market"] if bar["book"] is not None else None
        if market is not None:
            self.counts["usable_bars"] += 1
            self.counts["stress_bars"] += market["regime_signal"] == 1
            self.counts["calm_bars"] += market["regime_signal"] == -1
            self.counts["cascade_bars"] += market["cascade_count"] > 0
        return super().step(bar)

    def _regime_size_mult(self, bar: Bar) -> float:
        market = bar["book"]["market"] if bar["book"] is not None else None
        stress = 0.0 if market is None else rule.book_stress(market["regime_signal"], market["depth_velocity"])
        self._stressed = stress > 0.0 and self.beta > 0.0
        self.counts["ob4_bars"] += self._stressed
        return super()._regime_size_mult(bar)

    def _close(self, price: float, reason: ExitReason, bar: Bar) -> Any:
        assert self.position is not None
        self.by_book.append(bar["book"] is not None and self.position.asset in bar["book"]["assets"])
        return super()._close(price, reason, bar)

    # --- OB-5 ---

    def _manage(self, bar: Bar) -> ExitReason:
        self.counts["ob5_asked"] += 1
        assert self.position is not None
        asset = self.position.asset
        if valid_price(bar["prices"][asset]):
            self._moved(bar, asset)
        return super()._manage(bar)

    def _moved(self, bar: Bar, asset: int) -> None:
        position = self.position
        assert position is not None
        pnl = rule.pnl_pct(bar["prices"][asset], position.entry_price, self.d)
        now, base = self._exit_params(bar, asset, pnl), self._exit_params(blind(bar), asset, pnl)
        if now == base or bar["book"] is None:
            return
        self.counts["ob5_fired"] += 1
        market, assets = bar["book"]["market"], bar["book"]["assets"]
        if market["cascade_count"] > 0:
            self.counts["ob5_cascade"] += 1
        elif market["regime_signal"] == 1:
            self.counts["ob5_stress"] += 1
        else:
            still = {a: {**book, "withdrawal_velocity": 0.0} for a, book in assets.items()}
            calm = self._exit_params({**bar, "book": {"market": market, "assets": still}}, asset, pnl)
            self.counts["ob5_calm"] += calm != base
            self.counts["ob5_withdrawal"] += calm != now

    def _exit_reason(self, bar: Bar, position: Position, price: float) -> ExitReason:
        done, plain = super()._exit_reason(bar, position, price), super()._exit_reason(blind(bar), position, price)
        if done == ExitReason.NONE and plain != ExitReason.NONE and not self._kept:
            self.counts["ob5_kept"] += 1
            self._kept = True
        self.counts["ob5_closed"] += done != ExitReason.NONE and plain == ExitReason.NONE
        self.counts["ob5_other"] += ExitReason.NONE not in (done, plain) and done != plain
        return done

    # --- OB-1, OB-2, OB-3, OB-4 ---

    def _choose(self, bar: Bar, event: Event) -> int:
        chosen, plain = super()._choose(bar, event), super()._choose(blind(bar), {})
        books = bar["book"]["assets"] if bar["book"] is not None else {}
        drops = event["drops"]
        dropped = drops.count(Drop.BOOK_DEPTH)
        moved = [a for a, book in books.items() if drops[a] == Drop.KEPT and ob1_share(book["depth_quality"]) != 0.0]
        self.counts["ob1_asked"] += 1
        self.counts["ob1_fired"] += bool(dropped or moved)
        self.counts["ob1_dropped"] += dropped
        self._changed = chosen != plain
        self.counts["ob1_changed"] += self._changed
        self.counts["ob1_to_none"] += self._changed and chosen < 0
        return chosen

    def _enter(self, bar: Bar, rsm: float, event: Event) -> Gate:
        capital = self.capital
        gate = super()._enter(bar, rsm, event)
        if gate in (Gate.ENTERED, Gate.BOOK_IMBALANCE):
            self._confidence(bar, event)
        if gate == Gate.ENTERED:
            self.counts["ob1_entries"] += self._changed
            self._sizes(bar, rsm, event, capital)
            self._kept = False
        return gate

    def _confidence(self, bar: Bar, event: Event) -> None:
        if bar["book"] is None or event["asset"] not in bar["book"]["assets"]:
            return
        book = bar["book"]["assets"][event["asset"]]
        plain = rule.signal_confidence(bar["vel_div"], self.d, self.params)
        eff = rule.effective_imbalance(book["imbalance_ma5"], self.d)
        leaning = rule.ob2(plain, eff, book["imbalance_persistence"])
        self.counts["ob2_asked"] += 1
        if leaning is None:
            self.counts["ob2_refused"] += 1
            return
        self.counts["ob2_raised"] += leaning > plain
        self.counts["ob2_lowered"] += leaning < plain
        self.sums["ob2_change"] += leaning - plain

    def _sizes(self, bar: Bar, rsm: float, event: Event, capital: float) -> None:
        champion, mult = self.params.champion, event["market_ob_mult"]
        base = rule.leverage(event["strength"], champion)
        if bar["book"] is not None:
            self.counts["ob3_asked"] += 1
            self.counts["ob3_raised"] += mult > 1.0
            self.counts["ob3_lowered"] += mult < 1.0
            self.sums["ob3_mult"] += mult
            plain = rule.final_leverage(base, 1.0, rsm, 1.0, bar["posture"], champion)
            self.sums["ob3_notional"] += capital * event["fraction"] * (event["leverage"] - plain)
        if self._stressed:
            self.counts["ob4_entries"] += 1
            calm = rule.regime_size_mult(bar["vel_div"], self.d, self.params, self.boost, self.beta, self.mc_scale, 0.0)
            plain = rule.final_leverage(base, 1.0, calm, mult, bar["posture"], champion)
            self.sums["ob4_notional"] += capital * event["fraction"] * (event["leverage"] - plain)


def shown(days: Sequence[BookDay], assets: Sequence[str], ts_ns: Sequence[int]) -> Iterator[dict[str, Snapshot]]:
    """What recorded books show at these stamps: each asset's latest snapshot at or before it."""
    rows = sorted(
        (int(day.ts_ns[k]), day.assets[day.asset[k]], day.amounts[k].tolist()) for day in days for k in range(day.rows)
    )
    latest: dict[str, Snapshot] = {}
    at = 0
    for now in ts_ns:
        while at < len(rows) and rows[at][0] <= now:
            stamp, asset, amounts = rows[at]
            if asset in assets:
                latest[asset] = Snapshot(stamp // NS_PER_S + stamp % NS_PER_S / NS_PER_S, amounts[:5], amounts[5:10])
            at += 1
        yield dict(latest)


def books_of(days: Sequence[BookDay], assets: Sequence[str], ts_ns: Sequence[int]) -> list[Any]:
    """The books of `Bar`s at these stamps, by the plain twin of the features."""
    twin, found = ReferenceBook(assets), []
    for bar, (now, snapshots) in enumerate(zip(ts_ns, shown(days, assets, ts_ns), strict=True)):
        market, features = twin.bar(bar, now // NS_PER_S + now % NS_PER_S / NS_PER_S, snapshots)
        by_column = {i: dict(features[asset]) for i, asset in enumerate(assets) if asset in features}
        found.append(None if market is None else {"market": dict(market), "assets": by_column})
    return found
