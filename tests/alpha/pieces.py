"""Records for kernel tests, and an engine on one steadily moving asset: the stage of the engine's scenarios."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import ASSET_BOOK, BAR, HISTORY, MARKET_BOOK, STATE, Record, pack_params, records
from dolphin.core.codes import Direction, Gate
from dolphin.core.params import Champion, EngineParams

CAPITAL = 25_000.0
READY = 99  # the hundredth bar, the first on which the champion may enter
ENTRY = 1000.0 - READY / 64.0
BAR_NS = 60_000_000_000
DEEP = -0.06

vel_divs = st.one_of(
    st.floats(-0.2, 0.2),
    st.sampled_from([-0.075, -0.05, -0.035, -0.02, 0.0, 0.01, 0.025, 0.04, 0.06, float("nan")]),
)
shares = st.floats(0.0, 1.0)
imbalances = st.one_of(st.floats(-1.0, 1.0), st.sampled_from([0.1, -0.1, 0.15, -0.15, 0.0]))
directions = st.sampled_from(list(Direction))


def filled(dtype: np.dtype[Any], **values: Any) -> Record:
    """One record with some fields set, the others zero."""
    row = records(dtype, 1)[0]
    for name, value in values.items():
        setattr(row, name, value)
    return row


def market(**values: Any) -> Record:
    """A usable, neutral market book with `values`."""
    return filled(MARKET_BOOK, **{"usable": 1, "agreement": 1.0, **values})


def book(**values: Any) -> Record:
    """A usable, neutral asset book with `values`."""
    neutral = {"usable": 1, "depth_quality": 0.8, "fill_probability": 0.5, "imbalance_persistence": 0.5}
    return filled(ASSET_BOOK, **{**neutral, **values})


def no_market() -> Record:
    return filled(MARKET_BOOK)


def no_book() -> Record:
    return filled(ASSET_BOOK)


def held(**values: Any) -> Record:
    """The state of a position entered at bar 0 at 1000 with a notional of 25,000, at bar 1."""
    start = {"open": 1, "bar_idx": 1, "entry_bar": 0, "entry_price": 1000.0, "notional_usd": CAPITAL}
    return filled(STATE, **{**start, **values})


def a_bar(**values: Any) -> Record:
    return filled(BAR, **{"vol_regime_ok": 1, **values})


def packed(direction: Direction = Direction.SHORT, champion: dict[str, Any] | None = None, **changes: Any) -> Record:
    """The champion's parameters as the kernels read them, with changes."""
    return pack_params(EngineParams(champion=Champion(**(champion or {})), **changes), direction, 0)


def ring(prices: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """(history, counts) as the engine holds them after these prices, one list per asset, oldest first."""
    history, counts = np.full((HISTORY, len(prices)), np.nan), np.zeros(len(prices), np.int64)
    for i, column in enumerate(prices):
        for k, price in enumerate(column):
            history[k % HISTORY, i] = price
        counts[i] = len(column)
    return history, counts


def ring_of(values: list[float], size: int) -> np.ndarray:
    """A one-dimensional ring of `size` after these values."""
    out = np.full(size, np.nan)
    for k, value in enumerate(values):
        out[k % size] = value
    return out


class Stage:
    """An engine whose one asset falls by 1/64 a bar from 1000 (LONG: rises), so that every entry is welcome."""

    def __init__(
        self,
        params: EngineParams | None = None,
        direction: Direction = Direction.SHORT,
        capital: float = CAPITAL,
        upto: int = READY,
        assets: tuple[str, ...] = ("BTCUSDT",),
    ) -> None:
        self.engine = NDAlphaEngine(params or EngineParams(), assets, direction, capital)
        self.t = 0
        self.trades: list[Record] = []
        for _ in range(upto):
            self.step()

    def price(self) -> float:
        """What the asset would trade at now, untouched."""
        return 1000.0 + int(self.engine.direction) * self.t / 64.0

    def step(self, price: float | None = None, vel_div: float = 0.0, **rest: Any) -> Record:
        """One bar; gives its event, and keeps the trade it closed."""
        at = self.price() if price is None else price
        prices = np.full(len(self.engine.assets), at)
        event, trade = self.engine.step_bar(self.t * BAR_NS, vel_div, prices, **rest)
        self.t += 1
        if trade is not None:
            self.trades.append(trade)
        return event

    def enter(self, vel_div: float | None = None, **rest: Any) -> Record:
        """A bar that opens a position."""
        deep = DEEP * -int(self.engine.direction) if vel_div is None else vel_div
        event = self.step(vel_div=deep, **rest)
        assert Gate(event.gate) == Gate.ENTERED
        return event
