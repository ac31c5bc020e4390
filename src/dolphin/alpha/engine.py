"""NDAlphaEngine: days and bars around the compiled step (SPEC §12). It holds state; every rule is in the kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.books import BookEngine, Books, Shelves, check_shape, check_shapes, flat_shelves
from dolphin.alpha.daily import Breaker, DayPlan, Due, Forewarner, McReport
from dolphin.alpha.feed import NO_FEED, SensorFeed
from dolphin.alpha.layout import ASSET_BOOK, BAR, EVENT, F8, MARKET_BOOK, TRADE, Record, pack_params, records
from dolphin.alpha.replay import ACB_DAILY, ACB_SUBDAY, CLOSE, ENGINE, REPLAY, SETTLE
from dolphin.alpha.rows import Rows
from dolphin.alpha.selection import Ranking, new_ranking
from dolphin.alpha.snapshots import pack, unpack
from dolphin.alpha.step import EngineState, new_state
from dolphin.core.codes import AcbUpdate, Direction, ExitReason, Posture
from dolphin.core.errors import ConfigError
from dolphin.core.native import Flat
from dolphin.core.params import EngineParams, champion_hash
from dolphin.risk.acb import AcbAnswer

_BLOCK = 4096


class NDAlphaEngine:
    """The alpha engine over a fixed universe of N assets.

    `events` and `trades` of the latest call are the caller's to keep; the engine remembers only its state.

    Raises ConfigError for an empty universe, a repeated asset or a capital that is not finite.
    """

    def __init__(self, params: EngineParams, assets: Sequence[str], direction: Direction, capital: float) -> None:
        if not assets or len(set(assets)) != len(assets):
            raise ConfigError(f"universe: {len(assets)} assets with repetitions or none; expected distinct names")
        if not np.isfinite(capital):
            raise ConfigError(f"capital: {capital} is not a finite number of USDT")
        self.params = params
        self.assets = tuple(assets)
        self.direction = direction
        fallback = self.assets.index("BTCUSDT") if "BTCUSDT" in self.assets else -1
        self._packed: Record = pack_params(params, direction, fallback)
        self._state: EngineState = new_state(len(assets), float(capital))
        self._ranking: Ranking = new_ranking(len(assets))
        self._draws = Flat(np.empty(0))
        # Arguments that say nothing, and room for what nobody reads: taken apart once for all calls.
        self._no_books = Flat(records(MARKET_BOOK, 1), records(ASSET_BOOK, len(assets)).reshape(1, -1))
        self._spare_bar: Record = records(BAR, 1)
        self._nothing = Flat(self._spare_bar, np.empty((0, len(assets))))
        self._unread = Flat(records(EVENT, 1), records(TRADE, 1))
        self._feed = NO_FEED
        self._flat = self._flatten()
        self._plan = DayPlan()
        self._books = Books(self.assets)
        self._single: tuple[Rows, F8] | None = None

    @property
    def state(self) -> EngineState:
        """The live state: read it, do not keep it."""
        return self._state

    @property
    def packed_params(self) -> Record:
        """The parameters as the kernels read them."""
        return self._packed

    @property
    def ranking(self) -> Ranking:
        """The latest selection's profiles, one per asset."""
        return self._ranking

    @property
    def day(self) -> date | None:
        """The day begun last."""
        return self._plan.day

    @property
    def capital(self) -> float:
        """Realised capital, USDT."""
        return float(self._state.core.capital)

    @property
    def is_open(self) -> bool:
        """Whether a position is held."""
        return bool(self._state.core.open)

    @property
    def acb_answer(self) -> AcbAnswer | None:
        """What the circuit breaker said of this day; None before its first ten scans, or without one."""
        return self._plan.answer

    @property
    def mc_report(self) -> McReport | None:
        """What the forewarner said last on this day; None without one."""
        return self._plan.report

    def set_acb(self, acb: Breaker | None) -> None:
        """Let `acb` give each day's boost and beta once its first ten scans are stepped; None leaves them as set.

        The engine hands it those scans' w750 velocities; earlier dates and factors are the caller's to hand in.
        """
        self._plan.set_breaker(acb)

    def set_mc_forewarner(self, forewarner: Forewarner[McReport] | None, mc_base_cfg: Mapping[str, Any]) -> None:
        """Let `forewarner` judge `mc_base_cfg`, its max_leverage times the boost in force, at every begin_day and when
        the breaker has spoken: RED forbids the day's entries, ORANGE halves them. None switches it off.

        Raises ConfigError when `mc_base_cfg` has no max_leverage.
        """
        self._plan.set_forewarner(forewarner, mc_base_cfg)

    def begin_day(
        self,
        day: date,
        *,
        boost: float = 1.0,
        beta: float = 0.0,
        mc_scale: float = 1.0,
        mc_red: bool = False,
        contiguous: bool = True,
    ) -> NDArray[Any]:
        """Open a day: yesterday's halt and multipliers end, histories and position stay (SPEC §6, §23).

        With a forewarner its judgement stands in for `mc_scale` and `mc_red`. When `day` is not the day after the last
        one, or `contiguous` is false, an open position is closed first at its last price, reason DATA_GAP; the trade
        is returned (0 or 1 TRADE records). Raises ConfigError for values out of range.
        """
        if not 0.0 <= mc_scale <= 1.0:
            raise ConfigError(f"{day}: mc_scale {mc_scale}; expected 0 to 1")
        gate = self._plan.assess(boost) or (mc_scale, mc_red)
        # Refused before anything is closed or set: a day that cannot begin leaves the engine as it was.
        if not self._update_acb(ACB_DAILY, boost, beta):
            raise ConfigError(
                f"{day}: circuit breaker boost {boost}, beta {beta}; expected boost in [1, 3], beta in [0, 1]"
            )
        gap = self.day is not None and (not contiguous or day != self.day + timedelta(days=1))
        closed = self.close_open(ExitReason.DATA_GAP) if gap else records(TRADE, 0)
        self._plan.begin(day)
        self._set_mc(gate)
        return closed

    def end_day(self) -> dict[str, Any]:
        """The day's closing figures; the position, if any, stays open over midnight."""
        core = self._state.core
        return {
            "date": self.day.isoformat() if self.day else None,
            "capital": float(core.capital),
            "equity": float(core.equity),
            "boost": float(core.boost),
            "beta": float(core.beta),
            "mc_scale": float(core.mc_scale),
            "mc_red": bool(core.mc_red),
            "open": bool(core.open),
        }

    def _set_mc(self, gate: tuple[float, bool]) -> None:
        core = self._state.core
        core.mc_scale, core.mc_red = gate[0], int(gate[1])

    def update_acb_boost(self, boost: float, beta: float) -> bool:
        """Take a sub-day circuit-breaker update, effective from the next step; false when the values are refused."""
        return self._update_acb(ACB_SUBDAY, boost, beta)

    def set_survival(self, feed: SensorFeed | None) -> None:
        """Let `feed` set the posture of every bar from now on, over whatever the bars say; None ends that.

        The feed is not part of the snapshot: a live engine is told its posture by a service that has its own.
        """
        self._feed = NO_FEED if feed is None else feed
        self._single = None

    def set_ob_engine(self, ob: BookEngine | None) -> None:
        """Let `ob` give the order book of every bar whose caller gives none; None leaves such bars without a book.

        `step_bar` asks it for its bar, `process_bars` and `rows` for all theirs at once, which are then of one UTC day:
        the same bits either way. It is not part of the snapshot: it has its own. Raises ConfigError when its assets are
        not the engine's.
        """
        self._books.set(ob)

    def pre_bar_proxy_update(self, inst50: float, v750: float) -> None:
        """A hook before every step, for engines that size by a proxy of instability; this one has no use for it."""

    def step_bar(
        self,
        ts_ns: int,
        vel_div: float,
        prices: F8,
        *,
        v50: float = np.nan,
        v750: float = np.nan,
        vol_regime_ok: bool = True,
        posture: Posture = Posture.APEX,
        market: Record | None = None,
        books: Record | None = None,
    ) -> tuple[Record, Record | None]:
        """One bar through the step. Returns its EVENT record and, when a position was closed, the TRADE record.

        `prices` float64 (N,), missing = NaN; `market` one MARKET_BOOK record and `books` N ASSET_BOOK records, or None
        for what was set with `set_ob_engine`.
        Raises ConfigError when `prices` or `books` are not N.
        """
        check_shape("prices", np.shape(prices), (len(self.assets),))
        values = (ts_ns, vel_div, v50, v750, int(vol_regime_ok), int(posture), int(AcbUpdate.NONE), 0.0, 0.0)
        if self._books.is_asked(market, books):
            market, books = self._books.at_bar(int(self._state.core.bar_idx) + 1, ts_ns)
        if market is None and books is None:
            rows, closes = self._one_row()
            rows.bars.view(np.ndarray)[0] = values
            closes[0] = prices
            closed = rows.step()
            return rows.events.copy()[0], rows.trade.copy()[0] if closed else None
        if books is not None:
            check_shape("books", np.shape(books), (len(self.assets),))
        bar = records(BAR, 1)
        bar.view(np.ndarray)[0] = values
        given = None if market is None else np.asarray(market).reshape(1).view(np.recarray)
        shelf = None if books is None else books.reshape(1, -1)
        events, trades = self.process_bars(bar, np.asarray(prices, np.float64).reshape(1, -1), given, shelf)
        return events[0], trades[0] if len(trades) else None

    def _one_row(self) -> tuple[Rows, F8]:
        """Rows of one bar, to be written anew at every step, and the prices in them."""
        if self._single is None:
            closes = np.full((1, len(self.assets)), np.nan)
            self._single = self._rows_of(records(BAR, 1), closes, Shelves(None, None)), closes
        rows, _ = self._single
        if len(self._draws.keep[0]) <= int(self._state.core.draws) + 1:
            self._single = None  # the draws have moved
            return self._one_row()
        rows.rewind()
        return self._single

    def rows(self, bars: Record, closes: F8, markets: Record | None = None, books: Record | None = None) -> Rows:
        """T bars to be stepped one at a time, each at a small part of what `step_bar` costs; the same steps.

        Arguments as for `process_bars`; the arrays are kept. Raises ConfigError for other shapes.
        """
        check_shapes(len(self.assets), bars, closes, Shelves(markets, books))
        return self._rows_of(bars, closes, self._beside(bars, markets, books))

    def _rows_of(self, bars: Record, closes: F8, beside: Shelves) -> Rows:
        events, trade = records(EVENT, len(bars)), records(TRADE, 1)
        shelves = flat_shelves(beside, 0, len(bars), len(self.assets))
        bars, closes = np.ascontiguousarray(bars).view(np.recarray), np.ascontiguousarray(closes, np.float64)
        call = ENGINE.prepared(
            2,
            self._flat,
            self._feed.flat,
            Flat(bars, closes),
            self._no_books if shelves is None else shelves,
            self._draws_for(len(bars)),
            Flat(events, trade),
        )
        return Rows(bars, events, trade, call, self._plan, self._put_in_force)

    def process_bars(
        self, bars: Record, closes: F8, markets: Record | None = None, books: Record | None = None
    ) -> tuple[Record, Record]:
        """T bars through the same step, compiled end to end: (T EVENT records, the TRADE records closed).

        `bars` (T,) BAR records, `closes` float64 (T, N), `markets` (T,) and `books` (T, N), None for what was set with
        `set_ob_engine`. With a sensor feed the postures acted in are written into `bars`. Raises ConfigError for other
        shapes.
        """
        rows = len(bars)
        check_shapes(len(self.assets), bars, closes, Shelves(markets, books))
        beside = self._beside(bars, markets, books)
        events, trades = records(EVENT, rows), records(TRADE, max(rows, 1))
        done = closed = 0
        while done < rows:
            if self._plan.is_due():
                self._put_in_force(self._plan.ask())
            end = at = min(rows, done + self._plan.bars_until_due())
            self._plan.count(bars["v750"][done:at])
            due = self._plan.ask() if at < rows else None
            rides = due is not None and self._put_on(bars, at, due)
            if rides:
                end = rows
                self._plan.count(bars["v750"][at:rows])
            closed += self._enter(
                REPLAY,
                0,
                Flat(np.ascontiguousarray(bars[done:end]), np.ascontiguousarray(closes[done:end], np.float64)),
                flat_shelves(beside, done, end, len(self.assets)),
                Flat(events[done:end], trades[closed:]),
                end - done,
            )
            if rides:
                bars["acb_update"][at] = AcbUpdate.NONE
            elif due is not None:
                self._put_in_force(due)
            done = end
        # A copy: a view of the few trades would keep room for one a bar alive as long as they are.
        return events, trades[:closed].copy()

    def _put_on(self, bars: Record, at: int, due: Due) -> bool:
        """Let the day's boost and beta ride on the bar that they are due at, so that the day stays one call; false
        when more has to change there than a bar's record can carry."""
        core = self._state.core
        if due.gate is not None and due.gate != (float(core.mc_scale), bool(core.mc_red)):
            return False
        if bars["acb_update"][at] != AcbUpdate.NONE:
            return False
        bars["acb_update"][at], bars["acb_boost"][at], bars["acb_beta"][at] = AcbUpdate.DAILY, due.boost, due.beta
        return True

    def _put_in_force(self, due: Due) -> None:
        self._update_acb(ACB_DAILY, due.boost, due.beta)
        if due.gate is not None:
            self._set_mc(due.gate)

    def close_open(self, reason: ExitReason) -> Record:
        """Close what is open at its last valid price, on the last processed bar (SPEC §6); 0 or 1 TRADE records."""
        trades = records(TRADE, 1)
        room = Flat(records(EVENT, 1), trades)
        return trades[: self._enter(CLOSE, int(reason), self._nothing, None, room, 0)]

    def settle(self, net_pnl: float) -> bool:
        """What was open is closed on the last processed bar and brought `net_pnl` USDT; false when nothing was open.

        For positions whose result a venue determines; raises ConfigError when it is not finite."""
        if not np.isfinite(net_pnl):
            raise ConfigError(f"engine: a trade's result of {net_pnl}; expected a finite number of USDT")
        result = records(TRADE, 1)
        result.net_pnl[0] = net_pnl
        return self._enter(SETTLE, 0, self._nothing, None, Flat(records(EVENT, 1), result), 0) == 1

    def _update_acb(self, action: int, boost: float, beta: float) -> bool:
        bar = self._spare_bar[0]
        bar.acb_boost, bar.acb_beta = boost, beta
        return self._enter(action, 0, self._nothing, None, self._unread, 0) == 1

    def _beside(self, bars: Record, markets: Record | None, books: Record | None) -> Shelves:
        """The book given with `bars`, the next ones, else what `set_ob_engine` set says of them."""
        return self._books.beside(bars, int(self._state.core.bar_idx) + 1, Shelves(markets, books))

    def _enter(self, action: int, reason: int, bars: Flat, books: Flat | None, room: Flat, count: int) -> int:
        """Through the engine's door: `bars` with their closes, `room` for events and trades, `count` bars."""
        return ENGINE(
            action,
            reason,
            self._flat,
            self._feed.flat,
            bars,
            self._no_books if books is None else books,
            self._draws_for(count),
            room,
        )

    def _flatten(self) -> Flat:
        """The arguments that never move, taken apart once: parameters, state, work space."""
        return Flat(self._packed, self._state, self._ranking)

    def snapshot(self) -> bytes:
        """The whole engine as one value: parameters, universe, day, state, draw counter."""
        return pack(
            self._blocks(),
            champion_hash=champion_hash(self.params.champion),
            params=self.params,
            direction=int(self.direction),
            assets=self.assets,
            day=self.day.isoformat() if self.day else None,
            day_bars=self._plan.bars,
            day_w750=tuple(self._plan.w750),
        )

    @classmethod
    def restore(cls, value: bytes) -> NDAlphaEngine:
        """The engine that `snapshot` described; continuing it is bit-identical to never having stopped.

        Raises ConfigError for a value that is torn, altered, of another version, or not a snapshot.
        """
        head, state = unpack(value)
        engine = cls(head.params, head.assets, Direction(head.direction), 0.0)
        wanted = tuple(len(b) for b in engine._blocks())
        if head.sizes != wanted or len(state) != sum(wanted):
            raise ConfigError(f"engine snapshot: {len(state)} bytes of state, expected {sum(wanted)}")
        engine._load(state)
        engine._plan.restore(date.fromisoformat(head.day) if head.day else None, head.day_bars, head.day_w750)
        return engine

    def __reduce__(self) -> tuple[Callable[[bytes], NDAlphaEngine], tuple[bytes]]:
        """Copying and pickling go through the snapshot: the addresses kept in `_flat` are this engine's alone."""
        return NDAlphaEngine.restore, (self.snapshot(),)

    def state_hash(self) -> str:
        """Thirty-two hex digits over the snapshot: equal hashes mean equal engines, bit for bit."""
        return hashlib.blake2b(self.snapshot(), digest_size=16).hexdigest()

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        s = self._state
        return (np.asarray(s.core).reshape(1), s.history, s.counts, s.vel_divs)

    def _blocks(self) -> list[bytes]:
        return [a.tobytes() for a in self._arrays()]

    def _load(self, raw: memoryview) -> None:
        core, *rings = self._arrays()
        loaded = np.frombuffer(raw[: core.nbytes], core.dtype).copy().view(np.recarray)
        at = core.nbytes
        for ring in rings:
            ring[...] = np.frombuffer(raw[at : at + ring.nbytes], ring.dtype).reshape(ring.shape)
            at += ring.nbytes
        self._state = self._state._replace(core=loaded[0])
        self._flat = self._flatten()

    def _draws_for(self, bars: int) -> Flat:
        """The draw sequence, long enough for `bars` more closes: the k-th value serves the k-th close (SPEC §7)."""
        need = int(self._state.core.draws) + bars + 1
        if len(self._draws.keep[0]) < need:
            size = -(-need // _BLOCK) * _BLOCK
            self._draws = Flat(np.random.RandomState(self.params.champion.seed).random_sample(size))
        return self._draws
