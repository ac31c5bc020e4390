"""The same days with and without each risk layer, side by side: what every layer costs and what it saves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.core.errors import ConfigError
from dolphin.research.backtest import Advance, BacktestResult, BacktestSpec, DaySink, Replay, stream_scans
from dolphin.research.layers import Layers
from dolphin.research.metrics import TradeTable

PARTS = ("acb", "mc", "survival", "book")
"""The layers by name: circuit breaker, forewarner, survival stack, order book."""


@dataclass(frozen=True)
class Difference:
    """How one run's trades differ from another's; trades match when they entered the same asset at the same bar.

    `dropped` are trades of the other run that this one did not take: `losses_avoided` (≥ 0) and `gains_missed` (≥ 0)
    are what they brought there. `added` are this run's own, bringing `added_pnl`. `changed` were taken by both with
    another result, `changed_pnl` being this run's less the other's. USDT, net. The four explain `net` exactly:
    losses_avoided − gains_missed + added_pnl + changed_pnl. `drawdown` is the change of the maximum drawdown.
    """

    dropped: int
    losses_avoided: float
    gains_missed: float
    added: int
    added_pnl: float
    changed: int
    changed_pnl: float
    net: float
    drawdown: float


def every_layer(*, book: bool) -> tuple[str, ...]:
    """What `full` stands for: all layers, the order book where there is one."""
    return PARTS if book else PARTS[:-1]


def parse_layers(text: str, *, book: bool = False) -> tuple[str, ...]:
    """`none,acb,acb+mc,full` as names in that order, each spelled in one way; `full` is all of them, with `book` the
    order book too.

    Raises ConfigError for a name that is none, one named twice, or fewer than two.
    """
    names = []
    for item in text.split(","):
        name = _spelled(item.strip(), text, every_layer(book=book))
        if name in names:
            raise ConfigError(f"--compare {text}: {item.strip()} is named twice; keep one of them")
        names.append(name)
    if len(names) < 2:
        raise ConfigError(f"--compare {text}: expected two or more to set side by side, such as none,acb,acb+mc,full")
    return tuple(names)


def _spelled(item: str, text: str, every: tuple[str, ...]) -> str:
    if item == "none":
        return item
    parts = every if item == "full" else tuple(item.split("+"))
    unknown = [part for part in parts if part not in PARTS]
    if unknown or len(set(parts)) != len(parts):
        what = repr(unknown[0]) if unknown else f"{item!r}, with a layer twice,"
        raise ConfigError(f"--compare {text}: {what} is no layer; expected none, {', '.join(PARTS)}, full, or some of "
                          "them joined by +, such as none,acb,acb+mc,full")  # fmt: skip
    chosen = tuple(part for part in PARTS if part in parts)
    return "full" if chosen == every else "+".join(chosen)


def layer_specs(spec: BacktestSpec, names: Sequence[str]) -> dict[str, BacktestSpec]:
    """One spec per name: `spec` with the layers that the name leaves out switched off.

    The survival stack needs no file: without one the replay reads its own sensors. Raises ConfigError when a name asks
    for a layer that `spec` has no input for.
    """
    specs = {}
    for name in names:
        parts = every_layer(book=spec.book is not None) if name == "full" else tuple(name.split("+"))
        for part, value, option in (
            ("acb", spec.factors, "--factors"), ("mc", spec.forewarner, "--forewarner"), ("book", spec.book, "--book"),
        ):  # fmt: skip
            if part in parts and value is None:
                raise ConfigError(f"--compare: {name} needs {option}; give it, or leave {name} out")
        specs[name] = replace(
            spec,
            factors=spec.factors if "acb" in parts else None,
            forewarner=spec.forewarner if "mc" in parts else None,
            sensors=(spec.sensors or "own") if "survival" in parts else None,
            book=spec.book if "book" in parts else None,
        )
    return specs


def run_comparison(
    specs: Mapping[str, BacktestSpec],
    advance: Advance | None = None,
    sinks: Mapping[str, DaySink] | None = None,
    layers: Mapping[str, Layers] | None = None,
) -> dict[str, BacktestResult]:
    """Replay every spec over one pass through the scans; the results by name, in the order given.

    The specs differ in their layers only. `advance`, `sinks` and `layers` are as in `run_backtest`. Determinism: each
    result is what `run_backtest` gives for its spec.
    """
    replays = {name: Replay(spec, None if layers is None else layers[name]) for name, spec in specs.items()}
    for scans in stream_scans(next(iter(specs.values()))):
        for name, replay in replays.items():
            events = replay.take(scans)
            if sinks is not None:
                sinks[name](scans, events)
        if advance is not None:
            advance(scans.rows)
    return {name: replay.result() for name, replay in replays.items()}


def difference(trades: TradeTable, base: TradeTable, drawdown: float, base_drawdown: float) -> Difference:
    """`trades` against those of `base`; both with the columns of `metrics.TRADE_COLUMNS`. Complexity: linear."""
    mine, theirs = dict(_keyed(trades)), dict(_keyed(base))
    dropped = np.array([pnl for key, pnl in theirs.items() if key not in mine])
    added = np.array([pnl for key, pnl in mine.items() if key not in theirs])
    both = np.array([pnl - theirs[key] for key, pnl in mine.items() if key in theirs])
    return Difference(
        dropped=len(dropped),
        losses_avoided=abs(float(dropped[dropped < 0.0].sum())),
        gains_missed=float(dropped[dropped > 0.0].sum()),
        added=len(added),
        added_pnl=float(added.sum()),
        changed=int(np.count_nonzero(both)),
        changed_pnl=float(both.sum()),
        net=float(_net(trades).sum() - _net(base).sum()),
        drawdown=drawdown - base_drawdown,
    )


def _keyed(trades: TradeTable) -> Iterator[tuple[tuple[int, str], float]]:
    """Bars hold at most one entry, but a bar number alone would match another asset's."""
    return (
        ((int(bar), str(asset)), float(pnl))
        for bar, asset, pnl in zip(trades["entry_bar"], trades["asset"], _net(trades), strict=True)
    )


def _net(trades: TradeTable) -> NDArray[np.float64]:
    return np.asarray(trades["net_pnl"], np.float64)


def compared(summaries: Mapping[str, Mapping[str, Any]], tables: Mapping[str, TradeTable]) -> list[dict[str, Any]]:
    """Per name its main figures, and how it differs from the run before it: what `summary.json` of a comparison holds
    as `layers`."""
    rows: list[dict[str, Any]] = []
    before: str | None = None
    for name, summary in summaries.items():
        row: dict[str, Any] = {"layers": name, **{figure: summary[figure] for figure in FIGURES}}
        row["net_pnl"] = summary["pnl"]["net"]
        row["mean_leverage"] = float(np.mean(tables[name]["leverage"])) if summary["trades"] else None
        row["against"] = before
        if before is not None:
            told = difference(tables[name], tables[before], summary["max_drawdown"], summaries[before]["max_drawdown"])
            row["difference"] = vars(told)
        rows.append(row)
        before = name
    return rows


FIGURES = (
    *("trades", "win_rate", "roi", "profit_factor", "sharpe", "sortino", "max_drawdown", "exposure"),
    *("capital_end", "state_hash"),
)
