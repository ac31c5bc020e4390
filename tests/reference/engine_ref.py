"""The engine's plain-Python twin: one bar in, one event out, in the order of SPEC §12 and §23.

The rules are the free functions of `rules_ref`, `friction_ref` and `selection_ref`, the values those of `bars_ref`;
this module only composes them. It keeps whole histories and recomputes everything, so that what it does can be read
off the page.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dolphin.core.codes import Confirmation, ExitReason, Gate, Posture
from dolphin.core.params import EngineParams
from tests.reference import rules_ref as rule
from tests.reference.bars_ref import Bar, Position, Trade
from tests.reference.friction_ref import trade_pnl
from tests.reference.rules_ref import valid_price
from tests.reference.selection_ref import select

FALLBACK_ASSET = "BTCUSDT"
Event = dict[str, Any]


class ReferenceEngine:
    """The whole engine of SPEC §3–§7 and §12: `begin_day`, `step` per bar, `close_open` at gaps and at the end."""

    def __init__(self, params: EngineParams, direction: int, assets: list[str], capital: float) -> None:
        self.params = params
        self.d = int(direction)
        self.assets = list(assets)
        self.capital = capital
        self.position: Position | None = None
        self.trades: list[Trade] = []
        self.histories: list[list[float]] = [[] for _ in assets]
        self.vel_divs: list[float] = []
        self.bar_count = 0
        self.draws = 0
        self.last_exit_bar = -1
        self.last_bar: Bar | None = None
        self.subday_flag = False
        self._random = np.random.RandomState(params.champion.seed)
        self.begin_day()

    def begin_day(self, boost: float = 1.0, beta: float = 0.0, mc_scale: float = 1.0, mc_red: bool = False) -> None:
        """A new day's ACB and forewarner values; the RED halt is reset, histories and the sub-day flag are not."""
        self.boost, self.beta, self.mc_scale, self.mc_red = boost, beta, mc_scale, mc_red

    def step(self, bar: Bar) -> Event:
        """One bar: ACB, histories, regime_size_mult, exits, entry. Returns what happened (`asset` −1: none)."""
        self._apply_acb(bar)
        self._append(bar)
        rsm = self._regime_size_mult(bar)
        event: Event = {"asset": -1, "exit_reason": ExitReason.NONE, "regime_size_mult": rsm}
        if self.position is not None:
            event["asset"] = self.position.asset
            event["exit_reason"] = self._manage(bar)
        else:
            self.subday_flag = False
        if self.position is not None:
            event["gate"] = Gate.IN_POSITION
        elif bar["bar_idx"] <= self.last_exit_bar:
            event["gate"] = Gate.JUST_EXITED
        else:
            event["gate"] = self._enter(bar, rsm, event)
        event["capital"] = self.capital
        event["equity"] = self.equity()
        return event

    def close_open(self, reason: ExitReason) -> Trade | None:
        """Close at the asset's last valid price, dated the last processed bar (DATA_GAP, END_OF_DATA); None if flat."""
        if self.position is None or self.last_bar is None:
            return None
        return self._close(self.histories[self.position.asset][-1], reason, self.last_bar)

    def equity(self) -> float:
        """`capital + d·(last − entry)/entry·notional`, last being the held asset's last valid price."""
        if self.position is None:
            return self.capital
        last = self.histories[self.position.asset][-1]
        return self.capital + rule.pnl_pct(last, self.position.entry_price, self.d) * self.position.notional

    # --- before the decisions ---

    def _apply_acb(self, bar: Bar) -> None:
        """A valid update replaces boost and beta; a sub-day fall from ≥ 1.25 to < 1.10 flags the open position."""
        if bar["acb"] is None:
            return
        kind, boost, beta = bar["acb"]
        if not (math.isfinite(boost) and 1.0 <= boost <= 3.0 and math.isfinite(beta) and 0.0 <= beta <= 1.0):
            return
        if kind == "subday" and self.boost >= 1.25 and boost < 1.10:
            self.subday_flag = True
        self.boost, self.beta = boost, beta

    def _append(self, bar: Bar) -> None:
        for history, price in zip(self.histories, bar["prices"], strict=True):
            if valid_price(price):
                history.append(price)
        self.vel_divs.append(bar["vel_div"])
        self.bar_count += 1
        self.last_bar = bar

    def _regime_size_mult(self, bar: Bar) -> float:
        market = bar["book"]["market"] if bar["book"] is not None else None
        stress = 0.0 if market is None else rule.book_stress(market["regime_signal"], market["depth_velocity"])
        return rule.regime_size_mult(bar["vel_div"], self.d, self.params, self.boost, self.beta, self.mc_scale, stress)

    # --- exits ---

    def _manage(self, bar: Bar) -> ExitReason:
        """Test the exits in SPEC §6's order; close and return the reason, or NONE."""
        position = self.position
        assert position is not None
        turned = rule.adverse_turn(bar["vel_div"], self.d, self.params.vd_adverse)
        position.adverse_bars = position.adverse_bars + 1 if turned else 0
        price = bar["prices"][position.asset]
        if not valid_price(price):
            held = bar["bar_idx"] - position.entry_bar
            if held < 2 * self.params.champion.max_hold_bars:
                return ExitReason.NONE
            self._close(self.histories[position.asset][-1], ExitReason.STALE_PRICE, bar)
            return ExitReason.STALE_PRICE
        reason = self._exit_reason(bar, position, price)
        if reason != ExitReason.NONE:
            self._close(price, reason, bar)
        return reason

    def _exit_reason(self, bar: Bar, position: Position, price: float) -> ExitReason:
        if bar["posture"] == Posture.HIBERNATE:
            return ExitReason.HIBERNATE_HALT
        if self.subday_flag:
            return ExitReason.SUBDAY_ACB_NORMALIZATION
        pnl = rule.pnl_pct(price, position.entry_price, self.d)
        tp, sl, max_hold = self._exit_params(bar, position.asset, pnl)
        if pnl >= tp:
            return ExitReason.FIXED_TP
        if pnl <= -sl:
            return ExitReason.STOP_LOSS
        if self.params.vd_enabled and position.adverse_bars >= self.params.vd_bars:
            return ExitReason.VEL_DIV_ADVERSE
        if self.params.tf_enabled:
            reason = rule.tf_exit(bar["v50"] - bar["v750"], position.entry_spread, self.params)
            if reason != ExitReason.NONE:
                return reason
        if bar["bar_idx"] - position.entry_bar >= max_hold:
            return ExitReason.MAX_HOLD
        return ExitReason.NONE

    def _exit_params(self, bar: Bar, asset: int, pnl: float) -> tuple[float, float, int]:
        champion, book = self.params.champion, bar["book"]
        if book is None:
            return champion.fixed_tp_pct, champion.stop_pct, champion.max_hold_bars
        snapshot = book["assets"].get(asset)
        eff = 0.0 if snapshot is None else rule.effective_imbalance(snapshot["imbalance_ma5"], self.d)
        withdrawal = 0.0 if snapshot is None else snapshot["withdrawal_velocity"]
        market = book["market"]
        return rule.dynamic_exit_params(
            champion, pnl, market["cascade_count"], market["regime_signal"], eff, withdrawal
        )

    def _close(self, price: float, reason: ExitReason, bar: Bar) -> Trade:
        """Book the trade at unslipped `price`; the draw advances whatever the reason, friction or book."""
        position = self.position
        assert position is not None
        draw = float(self._random.random_sample())
        self.draws += 1
        snapshot = bar["book"]["assets"].get(position.asset) if bar["book"] is not None else None
        placement = None if snapshot is None else (snapshot["depth_quality"], snapshot["fill_probability"])
        booked = trade_pnl(price, position.entry_price, self.d, position.notional, reason, draw, placement, self.params)
        self.capital = self.capital + booked.net_pnl
        trade = Trade(
            asset=position.asset,
            side=self.d,
            entry_ts=position.entry_ts,
            exit_ts=bar["ts_ns"],
            entry_bar=position.entry_bar,
            exit_bar=bar["bar_idx"],
            entry_price=position.entry_price,
            exit_price=booked.exit_price,
            notional_usd=position.notional,
            leverage=position.leverage,
            fraction=position.fraction,
            bucket=position.bucket,
            confidence=position.confidence,
            is_extreme=position.is_extreme,
            reason=reason,
            pnl_price=booked.pnl_price,
            fees=booked.fees,
            slippage=booked.slippage,
            funding=0.0,
            modelled_edge=booked.modelled_edge,
            net_pnl=booked.net_pnl,
            capital_after=self.capital,
        )
        self.trades.append(trade)
        self.position, self.subday_flag, self.last_exit_bar = None, False, bar["bar_idx"]
        return trade

    # --- entry ---

    def _enter(self, bar: Bar, rsm: float, event: Event) -> Gate:
        """The gates in SPEC §23's order; ENTERED, or the first that refuses."""
        gate = self._gate_before_selection(bar)
        if gate is not None:
            return gate
        asset = self._choose(bar, event)
        if asset < 0:
            return Gate.SELECTION
        event["asset"] = asset
        champion = self.params.champion
        confirmed = rule.direction_confirmation(
            self.histories[asset], self.d, champion.dc_lookback_bars, champion.dc_min_magnitude_bps
        )
        event["dc"] = confirmed
        if confirmed == Confirmation.CONTRADICT and champion.dc_skip_contradicts:
            return Gate.DIRECTION_CONFIRMATION
        confidence: float | None = rule.signal_confidence(bar["vel_div"], self.d, self.params)
        snapshot = bar["book"]["assets"].get(asset) if bar["book"] is not None else None
        if snapshot is not None:
            assert confidence is not None
            eff = rule.effective_imbalance(snapshot["imbalance_ma5"], self.d)
            confidence = rule.ob2(confidence, eff, snapshot["imbalance_persistence"])
        if confidence is None:
            return Gate.BOOK_IMBALANCE
        self._open(bar, asset, rsm, confirmed, confidence, event)
        return Gate.ENTERED

    def _gate_before_selection(self, bar: Bar) -> Gate | None:
        if self.capital <= 0.0:
            return Gate.CAPITAL
        if self.bar_count < self.params.champion.lookback:
            return Gate.WARM_UP
        if self.mc_red or bar["posture"] in (Posture.TURTLE, Posture.HIBERNATE):
            return Gate.HALT
        if not bar["vol_ok"]:
            return Gate.VOL_REGIME
        if not rule.signal_valid(bar["vel_div"], self.d, self.params):
            return Gate.VEL_DIV
        return None

    def _choose(self, bar: Bar, event: Event) -> int:
        """Index of the asset to trade, −1 for none; without selection BTCUSDT, if it has a price at this bar."""
        if not self.params.use_asset_selection:
            index = self.assets.index(FALLBACK_ASSET) if FALLBACK_ASSET in self.assets else -1
            return index if index >= 0 and valid_price(bar["prices"][index]) else -1
        depths = {}
        if bar["book"] is not None:
            depths = {a: snapshot["depth_quality"] for a, snapshot in bar["book"]["assets"].items()}
        relative = self.params.irp_returns == "relative"
        alignment = self.params.champion.min_irp_alignment
        selection = select(self.histories, bar["prices"], self.d, alignment, relative, depths)
        event["drops"] = selection.drops
        if selection.profile is not None:
            event["ars"] = selection.profile.score
        return selection.asset

    def _open(self, bar: Bar, asset: int, rsm: float, confirmed: Confirmation, confidence: float, event: Event) -> None:
        """Size the trade (SPEC §5) and open it at this bar's price, without slip."""
        sizing = self._size(bar, rsm, confirmed)
        price = bar["prices"][asset]
        self.position = Position(
            asset=asset,
            entry_ts=bar["ts_ns"],
            entry_bar=bar["bar_idx"],
            entry_price=price,
            notional=sizing["notional_usd"],
            leverage=sizing["leverage"],
            fraction=sizing["fraction"],
            bucket=sizing["bucket"],
            confidence=confidence,
            is_extreme=sizing["is_extreme"],
            entry_spread=bar["v50"] - bar["v750"],
        )
        event.update(sizing, entry_price=price, confidence=confidence)

    def _size(self, bar: Bar, rsm: float, confirmed: Confirmation) -> Event:
        """Every number of the sizing, by the name it has in the event."""
        params, champion, vel_div = self.params, self.params.champion, bar["vel_div"]
        market_mult = 1.0
        if bar["book"] is not None:
            market = bar["book"]["market"]
            eff = rule.effective_imbalance(market["median_imbalance"], self.d)
            market_mult = rule.market_ob_mult(eff, market["agreement"])
        power, extreme = rule.strength(vel_div, self.d, params), rule.is_extreme(vel_div, self.d, params)
        level = rule.bucket(vel_div, self.d, params)
        past = [trade["net_pnl"] for trade in self.trades if trade["bucket"] == level]
        boost = rule.bucket_boost(sum(1 for net in past if net > 0.0), len(past))
        streak = rule.streak_mult([trade["net_pnl"] for trade in self.trades])
        trend = rule.trend_mult(self.vel_divs, self.d)
        fraction = rule.effective_fraction(power, extreme, trend, boost, streak, champion.fraction)
        dc_lev = params.dc_leverage_boost if confirmed == Confirmation.CONFIRM else 1.0
        base = rule.leverage(power, champion)
        final = rule.final_leverage(base, dc_lev, rsm, market_mult, bar["posture"], champion)
        return {
            "notional_usd": self.capital * fraction * final,
            "leverage": final,
            "fraction": fraction,
            "bucket": level,
            "is_extreme": extreme,
            "strength": power,
            "market_ob_mult": market_mult,
            "trend_mult": trend,
            "bucket_boost": boost,
            "streak_mult": streak,
        }
