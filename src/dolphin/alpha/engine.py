"""NDAlphaEngine: days and bars around the compiled step (SPEC §12). It holds state; every rule is in the kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.layout import ASSET_BOOK, BAR, EVENT, F8, MARKET_BOOK, TRADE, Record, pack_params, records
from dolphin.alpha.replay import replay_nb
from dolphin.alpha.selection import Ranking, new_ranking
from dolphin.alpha.step import (
    EngineState,
    apply_acb_nb,
    close_position_nb,
    last_price_nb,
    new_state,
    step_nb,
)
from dolphin.core.codes import Direction, ExitReason, Posture
from dolphin.core.errors import ConfigError
from dolphin.core.params import EngineParams, champion_hash

SNAPSHOT_VERSION = 1
_BLOCK = 4096


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot says about itself before the raw arrays."""

    version: int
    champion_hash: str
    params: EngineParams
    direction: int
    assets: tuple[str, ...]
    day: str | None
    sizes: tuple[int, ...]


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
        self.day: date | None = None
        fallback = self.assets.index("BTCUSDT") if "BTCUSDT" in self.assets else -1
        self._packed: Record = pack_params(params, direction, fallback)
        self._state: EngineState = new_state(len(assets), float(capital))
        self._ranking: Ranking = new_ranking(len(assets))
        self._draws: F8 = np.empty(0)
        self._no_market: Record = records(MARKET_BOOK, 1)
        self._no_books: Record = records(ASSET_BOOK, len(assets)).reshape(1, -1)

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
    def capital(self) -> float:
        """Realised capital, USDT."""
        return float(self._state.core.capital)

    @property
    def is_open(self) -> bool:
        """Whether a position is held."""
        return bool(self._state.core.open)

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

        When `day` is not the day after the last one, or `contiguous` is false, an open position is closed first at its
        last price, reason DATA_GAP; the trade is returned (0 or 1 TRADE records).
        """
        gap = self.day is not None and (not contiguous or day != self.day + timedelta(days=1))
        closed = self.close_open(ExitReason.DATA_GAP) if gap else records(TRADE, 0)
        core = self._state.core
        if not apply_acb_nb(core, float(boost), float(beta), False):
            raise ConfigError(f"{day}: circuit breaker boost {boost}, beta {beta}; expected boost in [1, 3], beta in [0, 1]")
        if not 0.0 <= mc_scale <= 1.0:
            raise ConfigError(f"{day}: mc_scale {mc_scale}; expected 0 to 1")
        core.mc_scale = mc_scale
        core.mc_red = int(mc_red)
        self.day = day
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

    def update_acb_boost(self, boost: float, beta: float) -> bool:
        """Take a sub-day circuit-breaker update, effective from the next step; false when the values are refused."""
        return bool(apply_acb_nb(self._state.core, float(boost), float(beta), True))

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

        `prices` float64 (N,), missing = NaN; `market` one MARKET_BOOK record and `books` N ASSET_BOOK records, or None.
        """
        bar = records(BAR, 1)
        bar[0].ts_ns, bar[0].vel_div, bar[0].v50, bar[0].v750 = ts_ns, vel_div, v50, v750
        bar[0].vol_regime_ok, bar[0].posture = int(vol_regime_ok), int(posture)
        event, trade = records(EVENT, 1), records(TRADE, 1)
        closed = step_nb(
            self._packed,
            self._state,
            bar[0],
            np.ascontiguousarray(prices, np.float64),
            self._no_market[0] if market is None else market,
            self._no_books[0] if books is None else books,
            self._ranking,
            self._draws_for(1),
            event[0],
            trade[0],
        )
        return event[0], trade[0] if closed else None

    def process_bars(
        self, bars: Record, closes: F8, markets: Record | None = None, books: Record | None = None
    ) -> tuple[Record, Record]:
        """T bars through the same step, compiled end to end: (T EVENT records, the TRADE records closed)."""
        events, trades = records(EVENT, len(bars)), records(TRADE, len(bars))
        closed = replay_nb(
            self._packed,
            self._state,
            bars,
            np.ascontiguousarray(closes, np.float64),
            self._no_market if markets is None else markets,
            self._no_books if books is None else books,
            self._ranking,
            self._draws_for(len(bars)),
            events,
            trades,
        )
        return events, trades[:closed]

    def close_open(self, reason: ExitReason) -> Record:
        """Close what is open at its last valid price, on the last processed bar (SPEC §6); 0 or 1 TRADE records."""
        trade = records(TRADE, 1)
        core = self._state.core
        if not core.open:
            return trade[:0]
        price = float(last_price_nb(self._state, core.asset))
        close_position_nb(
            self._packed,
            self._state,
            price,
            int(reason),
            self._draws_for(1),
            trade[0],
        )
        core.equity = core.capital
        core.peak_equity = max(core.peak_equity, core.equity)
        core.max_drawdown = max(core.max_drawdown, 1.0 - core.equity / core.peak_equity)
        return trade

    def snapshot(self) -> bytes:
        """The whole engine as one value: parameters, universe, day, state, draw counter."""
        blocks = self._blocks()
        head = _Head(
            version=SNAPSHOT_VERSION,
            champion_hash=champion_hash(self.params.champion),
            params=self.params,
            direction=int(self.direction),
            assets=self.assets,
            day=self.day.isoformat() if self.day else None,
            sizes=tuple(len(b) for b in blocks),
        )
        packed = msgspec.json.encode(head)
        return b"".join((len(packed).to_bytes(8, "little"), packed, *blocks))

    @classmethod
    def restore(cls, value: bytes) -> NDAlphaEngine:
        """The engine that `snapshot` described; continuing it is bit-identical to never having stopped.

        Raises ConfigError for a value that is torn, of another version, or not a snapshot.
        """
        try:
            end = 8 + int.from_bytes(value[:8], "little")
            head = msgspec.json.decode(value[8:end], type=_Head)
        except (msgspec.MsgspecError, OverflowError) as error:
            raise ConfigError(f"engine snapshot: not readable ({error}); restore an older one") from None
        if head.version != SNAPSHOT_VERSION:
            raise ConfigError(f"engine snapshot: version {head.version}, expected {SNAPSHOT_VERSION}")
        engine = cls(head.params, head.assets, Direction(head.direction), 0.0)
        wanted = tuple(len(b) for b in engine._blocks())
        if head.sizes != wanted or len(value) != end + sum(wanted):
            raise ConfigError(f"engine snapshot: {len(value) - end} bytes of state, expected {sum(wanted)}")
        engine._load(memoryview(value)[end:])
        engine.day = date.fromisoformat(head.day) if head.day else None
        return engine

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

    def _draws_for(self, bars: int) -> F8:
        """The draw sequence, long enough for `bars` more closes: the k-th value serves the k-th close (SPEC §7)."""
        need = int(self._state.core.draws) + bars + 1
        if len(self._draws) < need:
            size = -(-need // _BLOCK) * _BLOCK
            self._draws = np.random.RandomState(self.params.champion.seed).random_sample(size)  # noqa: NPY002 (SPEC §7)
        return self._draws


VOL_REGIME_BARS = 100
"""The volatility regime counts as known from this bar of the day on, in replay (SPEC §12)."""


def day_bars(ts_ns: NDArray[np.int64], signals: Mapping[str, F8]) -> Record:
    """BAR records of one replayed day; `signals` names vel_div, v50 and v750, float64 (T,)."""
    bars = records(BAR, len(ts_ns))
    bars.ts_ns[:] = ts_ns
    for name in ("vel_div", "v50", "v750"):
        bars[name][:] = signals[name]
    bars.vol_regime_ok[:] = np.arange(len(ts_ns)) >= VOL_REGIME_BARS
    return bars
