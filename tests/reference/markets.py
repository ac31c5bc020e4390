"""Seeded adversarial inputs for the comparisons: prices, signals, books and days built to sit on every threshold.

Everything comes from `numpy.random.default_rng(seed)`: the same arguments give the same case. Nothing here claims
to look like a market; the point is that every branch of every rule is crossed, also exactly on its boundary.
"""

from __future__ import annotations

import math
from typing import Literal, TypedDict

import numpy as np

from dolphin.core.codes import Posture
from dolphin.core.params import Champion, EngineParams
from tests.reference.bars_ref import AssetBook, Bar, Book, MarketBook
from tests.reference.scanner_ref import Floats, Ints

START_NS = 1_700_000_000_000_000_000
BAD_PRICES = (math.nan, 0.0, -1.0, math.inf, -math.inf)
EDGE_VEL_DIVS = (
    *(-0.10, -0.075, -0.06, -0.05, -0.04, -0.035, -0.025, -0.02, -0.01, 0.0),
    *(0.01, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.10, 0.005, -0.005),
)
EDGE_IMBALANCES = (0.0, 0.10, -0.10, 0.15, -0.15, 0.2, -0.2, 0.6, -0.6, 1.0, -1.0)
EDGE_DEPTHS = (0.0, 0.19, 0.20, 0.35, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
EDGE_SHARES = (0.0, 0.5, 0.6, 0.61, 0.8, 1.0)
EDGE_WITHDRAWALS = (-0.9, -0.30, -0.20, -0.10, -0.02, 0.0, 0.1)
GOOD_BOOSTS = (1.0, 1.05, 1.0999, 1.10, 1.2, 1.25, 1.3466, 1.69, 3.0)
GOOD_BETAS = (0.0, 0.2, 0.8, 1.0)
BAD_UPDATES = ((math.nan, 0.2), (0.99, 0.2), (3.01, 0.2), (math.inf, 0.2), (1.0, math.nan), (1.0, -0.1), (1.0, 1.1))


class Day(TypedDict):
    """What `begin_day` takes."""

    boost: float
    beta: float
    mc_scale: float
    mc_red: bool


def asset_names(n_assets: int) -> list[str]:
    """Column names, BTCUSDT first."""
    return ["BTCUSDT", *(f"A{i:02d}USDT" for i in range(1, n_assets))][:n_assets]


def _pick(rng: np.random.Generator, values: tuple[float, ...]) -> float:
    return values[int(rng.integers(len(values)))]


def random_closes(
    rng: np.random.Generator, n_assets: int, n_bars: int, bad_rate: float = 0.02, drift: float = 0.0
) -> Floats:
    """(n_bars, n_assets) closes: walks of very different size, ramps, twins, jumps, holes, births and deaths."""
    vol = 10.0 ** rng.uniform(-4.5, -2.2, n_assets)
    steps = rng.standard_normal((n_bars, n_assets)) * vol + rng.standard_normal((n_bars, 1)) * vol * 0.7
    steps += drift * vol * rng.uniform(0.0, 1.5, n_assets)
    steps[rng.random(steps.shape) < 0.001] += math.log(2.5)
    steps[rng.random(steps.shape) < 0.001] -= math.log(1.3)
    level = 10.0 ** rng.uniform(-4.0, 4.5, n_assets)
    closes = np.asarray(np.round(level * np.exp(np.cumsum(steps, axis=0)), 9), dtype=np.float64)
    if n_assets > 2 and rng.random() < 0.5:
        closes[:, 1] = closes[:, -1]  # equal scores: the ranking must keep column order
    for a in range(n_assets):
        _scar(rng, closes[:, a], bad_rate)
    return closes


def _scar(rng: np.random.Generator, column: Floats, bad_rate: float) -> None:
    """Break one price column in place: scattered bad prices, a long hole, a late birth or an early death."""
    n_bars, kind = len(column), rng.random()
    if bad_rate <= 0.0:
        return
    for t in np.flatnonzero(rng.random(n_bars) < bad_rate * rng.random()):
        column[t] = _pick(rng, BAD_PRICES)
    where = int(rng.integers(n_bars))
    if kind < 0.15:
        column[where : where + int(rng.integers(2, 300))] = _pick(rng, BAD_PRICES)
    elif kind < 0.22:
        column[:where] = math.nan
    elif kind < 0.29:
        column[where:] = math.nan
    elif kind < 0.36:
        column[where : where + 60] = column[where]  # asleep


def random_signal(rng: np.random.Generator, n_bars: int, nan_rate: float = 0.02) -> list[tuple[float, float, float]]:
    """(vel_div, v50, v750) per bar: calm and violent spells, exact thresholds, runs of NaN."""
    out: list[tuple[float, float, float]] = []
    scale, nan_left = 0.02, 0
    for _ in range(n_bars):
        if rng.random() < 0.05:
            scale = _pick(rng, (0.004, 0.02, 0.06))
        if rng.random() < nan_rate:
            nan_left = int(rng.integers(1, 4))
        if nan_left > 0:
            nan_left -= 1
            out.append((math.nan, math.nan, math.nan))
            continue
        if rng.random() < 0.3:
            edge = _pick(rng, EDGE_VEL_DIVS)
            out.append((edge, edge, 0.0))
            continue
        v50, v750 = float(rng.normal(0.0, scale)), float(rng.normal(0.0, scale / 4.0))
        out.append((v50 - v750, v50, v750))
    return out


def random_book(rng: np.random.Generator, n_assets: int, snapshot_rate: float = 0.85) -> Book:
    """A usable book: features on and around every threshold, some assets without a snapshot."""
    market = MarketBook(
        median_imbalance=_near(rng, EDGE_IMBALANCES),
        agreement=_pick(rng, EDGE_SHARES),
        cascade_count=int(_pick(rng, (0, 0, 0, 0, 0, 0, 3, 7))),
        regime_signal=int(_pick(rng, (-1, 0, 1))),
        depth_velocity=_near(rng, EDGE_WITHDRAWALS),
    )
    assets = {a: _random_asset_book(rng) for a in range(n_assets) if rng.random() < snapshot_rate}
    return {"market": market, "assets": assets}


def _random_asset_book(rng: np.random.Generator) -> AssetBook:
    depth = _pick(rng, EDGE_DEPTHS) if rng.random() < 0.5 else float(rng.uniform(0.0, 2.0))
    return AssetBook(
        depth_quality=depth,
        fill_probability=1.0 - 0.38**depth,
        imbalance_ma5=_near(rng, EDGE_IMBALANCES),
        imbalance_persistence=_pick(rng, EDGE_SHARES),
        withdrawal_velocity=_near(rng, EDGE_WITHDRAWALS),
    )


def _near(rng: np.random.Generator, edges: tuple[float, ...]) -> float:
    """One of `edges`, exactly or moved a little."""
    edge = _pick(rng, edges)
    return edge if rng.random() < 0.5 else edge + float(rng.normal(0.0, 0.05))


def random_update(rng: np.random.Generator) -> tuple[Literal["daily", "subday"], float, float]:
    """An ACB update, one in five invalid."""
    kind: Literal["daily", "subday"] = "subday" if rng.random() < 0.8 else "daily"
    if rng.random() < 0.2:
        boost, beta = BAD_UPDATES[int(rng.integers(len(BAD_UPDATES)))]
        return kind, boost, beta
    return kind, _pick(rng, GOOD_BOOSTS), _pick(rng, GOOD_BETAS)


def random_case(
    seed: int,
    n_assets: int,
    n_bars: int,
    *,
    bad_rate: float = 0.02,
    nan_rate: float = 0.02,
    book_rate: float = 0.5,
    acb_rate: float = 0.03,
    posture_rate: float = 0.02,
    vol_off_rate: float = 0.02,
    drift: float = 0.0,
    bar_seconds: float = 5.0,
) -> list[Bar]:
    """`n_bars` bars for `ReferenceEngine.step`. Books and postures come in spells; drift < 0 makes falling markets."""
    rng = np.random.default_rng(seed)
    closes = random_closes(rng, n_assets, n_bars, bad_rate, drift)
    signal = random_signal(rng, n_bars, nan_rate)
    with_book, posture = rng.random() < book_rate, Posture.APEX
    bars: list[Bar] = []
    for t in range(n_bars):
        if rng.random() < 0.02:
            with_book = rng.random() < book_rate
        if rng.random() < (posture_rate if posture == Posture.APEX else 0.15):
            posture = Posture(int(rng.integers(4))) if posture == Posture.APEX else Posture.APEX
        bars.append(
            Bar(
                bar_idx=t,
                ts_ns=START_NS + round(t * bar_seconds * 1e9),
                vel_div=signal[t][0],
                v50=signal[t][1],
                v750=signal[t][2],
                prices=[float(p) for p in closes[t]],
                vol_ok=bool(rng.random() >= vol_off_rate),
                posture=int(posture),
                acb=random_update(rng) if rng.random() < acb_rate else None,
                book=random_book(rng, n_assets) if with_book else None,
            )
        )
    return bars


def random_days(seed: int, n_bars: int, day_bars: int = 500) -> dict[int, Day]:
    """`begin_day` arguments by the bar before which a day begins; bar 0 always begins one."""
    rng = np.random.default_rng([seed, 1])
    return {
        start: Day(
            boost=_pick(rng, GOOD_BOOSTS),
            beta=_pick(rng, GOOD_BETAS),
            mc_scale=_pick(rng, (1.0, 1.0, 1.0, 0.5)),
            mc_red=bool(rng.random() < 0.15),
        )
        for start in range(0, n_bars, day_bars)
    }


def random_gaps(seed: int, n_bars: int, rate: float = 0.005) -> set[int]:
    """Bars before which what is open is closed as DATA_GAP."""
    rng = np.random.default_rng([seed, 2])
    return {int(t) for t in np.flatnonzero(rng.random(n_bars) < rate) if t > 0}


def random_params(seed: int) -> EngineParams:
    """Parameters away from the champion's, every switch both ways; seed 0 is the champion itself."""
    if seed == 0:
        return EngineParams()
    rng = np.random.default_rng([seed, 3])
    champion = Champion(
        fixed_tp_pct=_pick(rng, (0.0095, 0.002, 0.03)),
        stop_pct=_pick(rng, (1.0, 0.05, 0.005)),
        max_hold_bars=int(_pick(rng, (120, 20, 7, 1))),
        leverage_convexity=_pick(rng, (3.0, 2.0, 1.5)),
        fraction=_pick(rng, (0.20, 0.02, 0.9)),
        max_leverage=_pick(rng, (5.0, 3.0, 9.0)),
        dc_lookback_bars=int(_pick(rng, (7, 1, 48))),
        dc_skip_contradicts=bool(rng.random() < 0.7),
        min_irp_alignment=_pick(rng, (0.45, 0.0, 0.55)),
        lookback=int(_pick(rng, (100, 60, 0))),
        seed=int(_pick(rng, (42, 7, 0))),
    )
    return EngineParams(
        champion=champion,
        dc_leverage_boost=_pick(rng, (1.0, 1.5)),
        use_asset_selection=bool(rng.random() < 0.85),
        irp_returns="relative" if rng.random() < 0.4 else "absolute",
        use_sp_fees=bool(rng.random() < 0.7),
        use_sp_slippage=bool(rng.random() < 0.7),
        use_ob_edge=bool(rng.random() < 0.7),
        vd_enabled=bool(rng.random() < 0.5),
        vd_bars=int(_pick(rng, (1, 2, 3))),
        tf_enabled=bool(rng.random() < 0.3),
    )


def random_scan_case(
    seed: int,
    n_assets: int,
    n_bars: int,
    *,
    bar_seconds: float = 60.0,
    bad_rate: float = 0.001,
    gap_rate: float = 0.001,
) -> tuple[Floats, Ints]:
    """(closes (n_bars, n_assets), ts_ns): a common factor that comes and goes, scars, short and long gaps in time."""
    rng = np.random.default_rng([seed, 4])
    tide = np.abs(np.sin(np.arange(n_bars) / rng.uniform(20.0, 200.0)))[:, None]
    beta = rng.uniform(0.2, 1.8, n_assets)
    common = rng.standard_t(3, (n_bars, 1)) * 8e-4 * (0.2 + tide)
    steps = common * beta + rng.standard_t(4, (n_bars, n_assets)) * 6e-4
    level = 10.0 ** rng.uniform(-3.0, 4.5, n_assets)
    closes = np.asarray(level * np.exp(np.cumsum(steps, axis=0)), dtype=np.float64)
    for a in range(n_assets):
        _scar(rng, closes[:, a], bad_rate)
    skipped = np.zeros(n_bars, dtype=np.int64)
    for t in np.flatnonzero(rng.random(n_bars) < gap_rate):
        skipped[t] = int(_pick(rng, (1, 5, 9, 10, 11, 60, 2000)))  # 9 more bars is a stamp difference of ten
    bars = np.arange(n_bars, dtype=np.int64) + np.cumsum(skipped)
    return closes, START_NS + bars * round(bar_seconds * 1e9)
