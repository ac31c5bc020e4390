"""DolphinActor: the wire between NautilusTrader and the engine (SPEC §13). It decides nothing.

A scan comes in, one step is taken, and what the step wished goes to the order desk. Beside that the actor turns the
days over, passes on what other threads brought, and refuses orders whose reasons have gone stale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import msgspec
import numpy as np
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.events import OrderCanceled, OrderDenied, OrderExpired, OrderFilled, OrderRejected
from nautilus_trader.trading.strategy import Strategy

from dolphin.alpha.fills import Fills, Wanted
from dolphin.alpha.rows import Rows
from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import ExitReason, Gate, Posture
from dolphin.core.errors import ConfigError, GridError
from dolphin.core.params import DIRECTIONS, build_params, champion_hash
from dolphin.trade.acb_inbox import AcbInbox
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.engines import GateSnap, check_champion, create_boost_engine, set_forewarner
from dolphin.trade.nautilus.desk import OrderDesk
from dolphin.trade.nautilus.instruments import VENUE, Traded
from dolphin.trade.nautilus.scans import CUT_TYPE, SCAN_TYPE, Cut, Scan
from dolphin.trade.nautilus.settings import Counts, DolphinActorConfig, Hooks
from dolphin.trade.ports import FEATURES, GridPort, PostureReader

STALE_SCAN_S = 10.0
"""A live scan older than this, or than two bars, is stale (SPEC §13)."""

_ENTERED = int(Gate.ENTERED)
_DEAD = {OrderDenied: "denied", OrderRejected: "rejected", OrderCanceled: "canceled", OrderExpired: "expired"}


class DolphinActor(Strategy):
    """Runs the engine over the scans that reach it, and trades what it decides.

    `assets` are the config's assets in order, as the venue trades them; `grid` the shared memory, or None. `engine`,
    `desk` and `posture` exist from `on_start` on. Raises ConfigError at start for parameters that are not the expected
    champion's, or for an account without capital.
    """

    def __init__(
        self,
        config: DolphinActorConfig,
        assets: Sequence[Traded],
        grid: GridPort | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        super().__init__(config)
        if tuple(each.terms.symbol for each in assets) != tuple(config.assets):
            raise ConfigError(f"actor: {len(assets)} instruments for the assets {config.assets}; expected one for each")
        if config.profile not in DIRECTIONS:
            raise ConfigError(f"actor: profile {config.profile!r}; expected {' or '.join(DIRECTIONS)}")
        if config.unread_posture not in Posture.__members__:
            known = " or ".join(Posture.__members__)
            raise ConfigError(f"actor: unread_posture {config.unread_posture!r}; expected {known}")
        self.inbox = AcbInbox()
        self.counts = Counts()
        self.posture = Posture[config.unread_posture]
        self._traded, self._grid, self._hooks = tuple(assets), grid, hooks
        self._reader = PostureReader(grid, self.posture)
        self._stop_listening: Callable[[], None] | None = None
        self._unread = ""
        self._refused = 0
        self._block: ScanBlock | None = None
        self._rows: Rows | None = None
        self._day: date | None = None
        self._last_scan = -1
        self._day_stale = False
        self._day_trips = 0
        self._day_capital = 0.0
        self.left_behind: dict[str, Any] | None = None

    def on_start(self) -> None:
        """Make the engine with the account's capital, and listen."""
        config = self.config
        params = build_params(config.overrides, "none")
        check_champion(params, config.expected_hash)
        capital = self._account_capital()
        direction = DIRECTIONS[config.profile]
        self.engine = create_boost_engine(config.boost_mode, params, config.assets, direction, capital)
        self._last_scan, self._day_trips, self._day_stale, self._day_capital = -1, 0, False, capital
        self.msgbus.unsubscribe(f"events.order.{self.id}", self._on_late)
        set_forewarner(self.engine, config.mc_models_dir, self.log.warning)
        if self._hooks is not None:
            self._hooks.attach(self.engine)
        self.fills = Fills(self.engine)
        self.desk = OrderDesk(
            self,
            self.fills,
            self._traded,
            side=int(direction),
            leverage=config.leverage,
            stop_pct=config.stop_pct,
            largest_order=config.largest_order,
        )
        core = self.engine.state.core.base.view(np.ndarray)
        self._boost, self._beta, self._red = (memoryview(core[name]) for name in ("boost", "beta", "mc_red"))
        self._listen()
        self.subscribe_data(SCAN_TYPE)
        self.subscribe_data(CUT_TYPE)

    def _account_capital(self) -> float:
        account = self.portfolio.account(VENUE)
        total = None if account is None else account.balance_total(USDT)
        capital = 0.0 if total is None else float(total.as_double())
        if not capital > 0.0:
            raise ConfigError(f"actor: the account at {VENUE} holds {capital:g} USDT; expected more than 0")
        return capital

    def _listen(self) -> None:
        if self._grid is None or self.config.boost_mode == "none" or self._stop_listening is not None:
            return
        try:
            self._stop_listening = self._grid.listen(FEATURES, "acb_boost", self.inbox.offer)
        except GridError as error:
            self._grid_failed(error)

    def on_data(self, data: Any) -> None:
        """A scan, or the end of recorded data."""
        if isinstance(data, Scan):
            self._on_scan(data)
        elif isinstance(data, Cut):
            self._leave(data.reason)

    def _on_scan(self, scan: Scan) -> None:
        update = self.inbox.drain()
        if update is not None:
            self.engine.update_acb_boost(update.boost, update.beta)
        if self.inbox.refused != self._refused:
            self._refused = self.inbox.refused
            self.log.warning(f"{self.inbox.last_refusal}; refused, what was in force stays")
        fresh = True
        if self.config.live_mode:
            number = int(scan.block.scan_number[scan.row])
            if number == self._last_scan:
                self.counts.repeated_scans += 1
                return
            self._last_scan = number
            fresh = self._is_fresh(scan)
        if scan.block is not self._block:
            self._open(scan.block)
        self.desk.retry()
        self._finish_bar()
        rows = self._rows
        if rows is None:
            return
        row = rows.next = scan.row  # where a scan was skipped, the next one is still its own row
        self.posture = rows_posture = self._read_posture()
        rows.posture[row] = rows_posture
        self.engine.pre_bar_proxy_update(math.nan, math.nan)
        rows.due()
        before = self._boost[0], self._beta[0], rows_posture, not self._red[0]
        self.fills.mark()
        closed = rows.step()
        self.counts.bars += 1
        if closed:
            self.fills.withdraw_exit()
            trade, bar_idx = rows.trade[0], int(rows.bar_idx[row])
            self.desk.leave(ExitReason(int(trade.reason)), float(trade.exit_price), bar_idx, scan.ts_event)
        elif rows.gate[row] == _ENTERED:
            self._enter(self.fills.withdraw_entry(), GateSnap(*before), fresh)

    def _enter(self, wanted: Wanted, before: GateSnap, fresh: bool) -> None:
        """Send the entry, unless what allowed it has changed or was old: then it is decided anew at the next bar."""
        self.desk.touched = True
        changed = before.changed(GateSnap(self._boost[0], self._beta[0], self._read_posture(), not self._red[0]))
        if changed:
            self.counts.stale_state_events += 1
            self.counts.withheld["stale_state"] += 1
            self._day_stale = True
            told = ", ".join(f"{name} {one} -> {other}" for name, (one, other) in changed.items())
            self.log.warning(f"[STALE_STATE] changed while the bar was decided: {told}; the entry is not sent")
        elif not fresh:
            self.counts.withheld["stale_scan"] += 1
        else:
            self.desk.enter(wanted)

    def _read_posture(self) -> Posture:
        """The posture now; the log hears when it cannot be read, and when it can again."""
        posture, reason = self._reader.read(), self._reader.reason
        if reason:
            self.counts.unread_postures += 1
        if reason != self._unread:
            self._unread = reason
            if reason:
                self.log.warning(f"{reason}; counts as {posture.name}")
            else:
                self.log.info(f"posture: {posture.name}, readable again")
                self._listen()  # a grid that was away at the start has not been asked yet
        return posture

    def _is_fresh(self, scan: Scan) -> bool:
        age_s = (self.clock.timestamp_ns() - scan.ts_event) / 1e9
        if age_s <= max(STALE_SCAN_S, 2.0 * self.config.bar_seconds):
            return True
        self.counts.stale_scans += 1
        self.log.warning(f"scan of {ns_to_iso(scan.ts_event)} is {age_s:.1f} s old; no entry on it")
        return False

    def _open(self, block: ScanBlock) -> None:
        """A new stretch of bars, and at midnight a new day."""
        self._close_block()
        if block.day != self._day:
            if self._day is not None:
                self._end_day()
            self._begin_day(block.day)
        if self._hooks is not None:
            self._hooks.begin_day(block)
        self._block, self._rows = block, self.engine.rows(block.bars, block.closes)

    def _begin_day(self, day: date) -> None:
        """Over a gap the engine closes what is open: it is held until the venue has closed it, like every exit."""
        self.fills.mark()
        if len(self.engine.begin_day(day)):
            self.fills.withdraw_exit()
            self._leave(ExitReason.DATA_GAP)
        self._day = day
        self.counts.days += 1

    def _leave(self, reason: ExitReason) -> None:
        """Close what is open at its last price, on the last bar."""
        core = self.engine.state.core
        if core.open:
            self.desk.leave(reason, self._last_price(int(core.asset)), int(core.bar_idx), int(core.last_ts_ns))

    def _finish_bar(self) -> None:
        """Let the last bar's event tell what the venue made of its decision."""
        rows = self._rows
        if not self.desk.touched or rows is None or rows.next == 0:
            return
        core, event = self.engine.state.core, rows.events[rows.next - 1]
        event.capital, event.equity, event.in_position = core.capital, core.equity, core.open
        self.desk.touched = False

    def _close_block(self) -> None:
        if self._rows is not None and self._block is not None:
            self._finish_bar()
            if self._hooks is not None:
                self._hooks.end_block(self._block, self._rows.events, self.engine)
        self._block = self._rows = None

    def _last_price(self, column: int) -> float:
        state = self.engine.state
        seen = int(state.counts[column])
        return float(state.history[(seen - 1) % len(state.history), column])

    def _end_day(self) -> None:
        self._write_day()
        self._day_capital, self._day_trips = self.engine.capital, self.desk.finished
        self._day_stale = False

    def _write_day(self) -> None:
        told = self.engine.end_day()
        result = {
            "date": told["date"],
            "pnl": told["capital"] - self._day_capital,
            "capital": told["capital"],
            "trades": self.desk.finished - self._day_trips,
            "boost": told["boost"],
            "beta": told["beta"],
            "mc_status": "RED" if told["mc_red"] else "ORANGE" if told["mc_scale"] < 1.0 else "OK",
            "posture": self.posture.name,
            "param_hash": champion_hash(self.engine.params.champion),
            **({"stale_state": True} if self._day_stale else {}),
        }
        color = self.config.profile.upper()
        self._put(f"DOLPHIN_PNL_{color}", f"{told['date']}_nautilus", result)
        self._put(f"DOLPHIN_STATE_{color}", "latest_nautilus", {**result, "strategy": self.config.profile})

    def _put(self, name: str, key: str, value: Any) -> None:
        if self._grid is None:
            return
        try:
            self._grid.put(name, key, msgspec.json.encode(value))
        except GridError as error:
            self._grid_failed(error)

    def _grid_failed(self, error: GridError) -> None:
        self.counts.grid_failures += 1
        self.log.warning(f"grid: {error}; going on without")

    def on_funding(self, column: int, paid: float) -> None:
        """A funding payment on the asset in `column`, signed USDT."""
        self.desk.on_funding(column, paid)

    def cancel_order(self, order: Any, *rest: Any, **more: Any) -> None:
        """Nautilus' verb. After the stop its client may be gone: then the order is told as left behind."""
        try:
            super().cancel_order(order, *rest, **more)
        except ValueError as error:
            if self.is_running:
                raise
            self.log.warning(f"{order.client_order_id} stays at the venue: {error}")

    def on_order_filled(self, event: Any) -> None:
        """Nautilus' handler."""
        self.desk.on_filled(event)

    def on_order_denied(self, event: Any) -> None:
        """Nautilus' handler: refused before it left."""
        self.desk.on_dead(event, "denied")

    def on_order_rejected(self, event: Any) -> None:
        """Nautilus' handler: refused by the venue."""
        self.desk.on_dead(event, "rejected")

    def on_order_canceled(self, event: Any) -> None:
        """Nautilus' handler."""
        self.desk.on_dead(event, "canceled")

    def on_order_expired(self, event: Any) -> None:
        """Nautilus' handler."""
        self.desk.on_dead(event, "expired")

    def on_stop(self) -> None:
        """Stop listening, close the day, and tell what is left at the venue."""
        if self._stop_listening is not None:
            try:
                self._stop_listening()
            except GridError as error:
                self._grid_failed(error)
            self._stop_listening = None
        if not hasattr(self, "desk"):
            return
        if self.config.flatten_on_stop:
            self._leave(ExitReason.HIBERNATE_HALT)
        self._close_block()
        if self._day is not None:
            self._write_day()
            self._day = None
        self._tell_left_behind()
        if self.left_behind is not None:
            self.msgbus.subscribe(f"events.order.{self.id}", self._on_late)

    def _tell_left_behind(self) -> None:
        """What is held or on its way at the venue, null for nothing, so that an earlier session's word is not kept."""
        self.left_behind = self.desk.left_behind()
        ours = (None, None, self.id)
        # One whose cancellation is under way is in both.
        standing = list(dict.fromkeys((*self.cache.orders_open(*ours), *self.cache.orders_inflight(*ours))))
        if self.left_behind is None and standing:
            self.left_behind = {"instrument": str(standing[0].instrument_id), "quantity": "0"}
        if self.left_behind is not None:
            self.left_behind["orders"] = [str(each.client_order_id) for each in standing]
        self._put(f"DOLPHIN_STATE_{self.config.profile.upper()}", "left_behind", self.left_behind)
        if self.left_behind is not None:
            self.log.warning(f"stopped with {self.left_behind['quantity']} {self.left_behind['instrument']} open")

    def _on_late(self, event: Any) -> None:
        """What comes of an order after the stop, which Nautilus tells running strategies only: the books follow it."""
        if isinstance(event, OrderFilled):
            self.desk.on_filled(event)
            if self.config.flatten_on_stop:  # an entry that was under way
                self._leave(ExitReason.HIBERNATE_HALT)
        elif type(event) in _DEAD:
            self.desk.on_dead(event, _DEAD[type(event)])
        else:
            return
        self._write_day()
        self._tell_left_behind()
