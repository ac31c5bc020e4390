"""A run's files: summary, trades and equity, in machine-readable form, and the tearsheet's data."""

from __future__ import annotations

import csv
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import dolphin
from dolphin.alpha.layout import Record
from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import Direction, ExitReason, Gate, Posture
from dolphin.core.params import champion_hash, overridden
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import BacktestResult
from dolphin.research.metrics import performance
from dolphin.research.reportdata import BarSeries, DailySeries, ReportData, Thresholds

STAMP = pa.timestamp("ns", tz="UTC")
EQUITY_SCHEMA = pa.schema(
    [
        ("timestamp", STAMP),
        ("equity", pa.float64()),
        ("capital", pa.float64()),
        ("vel_div", pa.float64()),
        ("regime_size_mult", pa.float64()),
        ("in_position", pa.bool_()),
        ("gate", pa.dictionary(pa.int8(), pa.string())),
        ("posture", pa.dictionary(pa.int8(), pa.string())),
        ("rm", pa.float64()),
    ]
)
_GATES, _POSTURES = (pa.array([code.name for code in codes]) for codes in (Gate, Posture))
_CSV_BLOCK = 512
"""Trades turned into text at a time, so that a year of them needs no more memory than a week."""


def stamps(ts_ns: NDArray[np.int64]) -> pa.Array:
    """UTC timestamps over the same memory; a cast would load Arrow's compute library, a fifth of a second."""
    return pa.Array.from_buffers(STAMP, len(ts_ns), [None, pa.py_buffer(np.ascontiguousarray(ts_ns, np.int64))])


class EquityWriter:
    """Streams `equity.parquet`, one row per bar, one row group per day."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, EQUITY_SCHEMA, compression="zstd")

    def __enter__(self) -> EquityWriter:
        """Open for writing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; whoever opened the folder removes it after a failure."""
        self._writer.close()

    def take(self, scans: ScanDay, events: Record) -> None:
        """Append one day's bars."""
        gate, posture = (
            pa.DictionaryArray.from_arrays(pa.array(np.asarray(events[name]).astype(np.int8)), names)
            for name, names in (("gate", _GATES), ("posture", _POSTURES))
        )
        columns = [
            stamps(scans.ts_ns),
            pa.array(np.ascontiguousarray(events.equity)),
            pa.array(np.ascontiguousarray(events.capital)),
            pa.array(np.ascontiguousarray(events.vel_div)),
            pa.array(np.ascontiguousarray(events.regime_size_mult)),
            pa.array(np.asarray(events.in_position) != 0),
            gate,
            posture,
            pa.array(np.ascontiguousarray(events.rm)),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=EQUITY_SCHEMA))


def trade_columns(trades: NDArray[Any], assets: Sequence[str]) -> dict[str, NDArray[Any]]:
    """TRADE records as named columns for people: asset, side and reason by name, stamps int64 ns."""
    columns: dict[str, NDArray[Any]] = {}
    for name in trades.dtype.names or ():
        values = np.ascontiguousarray(trades[name])
        if name == "asset":
            values = np.array(assets, dtype=str)[values]
        elif name == "side":
            values = np.array([Direction(v).name for v in values], dtype=str)
        elif name == "reason":
            values = np.array([ExitReason(v).name for v in values], dtype=str)
        elif name == "is_extreme":
            values = values != 0
        columns[name] = values
    return columns


def write_trades(folder: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """`trades.parquet` (stamps as UTC timestamps) and `trades.csv` (stamps as ISO 8601), the same rows."""
    arrays = {name: stamps(values) if name.endswith("_ts") else pa.array(values) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), folder / "trades.parquet", compression="zstd")
    with (folder / "trades.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(columns)
        for first in range(0, len(columns["trade_id"]), _CSV_BLOCK):
            block = {name: values[first : first + _CSV_BLOCK] for name, values in columns.items()}
            printable = [
                [ns_to_iso(int(v)) for v in values] if name.endswith("_ts") else values.tolist()
                for name, values in block.items()
            ]
            out.writerows(zip(*printable, strict=True))


def summarise(result: BacktestResult, columns: Mapping[str, NDArray[Any]], command: str) -> dict[str, Any]:
    """The content of `summary.json`; figures are defined in docs/metrics.md."""
    archive, changed = result.archive, overridden(result.params)
    return {
        "profile": result.spec.profile,
        "direction": result.direction.name,
        "champion_hash": champion_hash(result.params.champion),
        "is_champion": not changed,
        "overrides": changed,
        "friction": result.spec.friction,
        "data": {
            "path": str(result.spec.data),
            "kind": archive.kind,
            "manifest_hash": archive.identity(),
            "assets": len(result.assets),
            **_identities(result),
        },
        "from": result.days[0].isoformat(),
        "to": result.days[-1].isoformat(),
        "days": len(result.days),
        "bars": result.bars,
        "bar_seconds": archive.bar_seconds,
        **performance(
            trades=columns,
            daily_equity=result.day_equity,
            capital0=result.spec.capital,
            deepest_drawdown=result.max_drawdown,
            bars=result.bars,
            bars_in_position=result.bars_in_position,
        ),
        "gates": {gate.name: int(result.gates[gate]) for gate in Gate},
        **({} if result.breaker is None else {"acb": [day.plain() for day in result.breaker.days]}),
        **({} if result.gate is None else {"mc": [day.plain() for day in result.gate.days]}),
        **_survival(result, columns),
        "book": _book(result),
        **_venue(result),
        "state_hash": result.state_hash,
        "wall_s": round(result.wall_s, 4),
        "bars_per_s": round(result.bars / result.wall_s, 1) if result.wall_s > 0.0 else None,
        "versions": {
            "dolphin": dolphin.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "numba", "pyarrow")},
        },
        "command": command,
    }


def _identities(result: BacktestResult) -> dict[str, str]:
    """Where the layers' input came from, and a hash over the values used; nothing for a layer that is off."""
    told: dict[str, str] = {}
    if result.breaker is not None:
        told |= {"factors": str(result.spec.factors), "factors_hash": result.breaker.identity}
    if result.gate is not None:
        told |= {"forewarner": str(result.spec.forewarner), "forewarner_hash": result.gate.identity}
    return told


def _survival(result: BacktestResult, columns: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What the survival stack did; nothing without sensors."""
    if result.survival is None or result.spec.sensors is None:
        return {}
    halted = int(np.count_nonzero(columns["reason"] == ExitReason.HIBERNATE_HALT.name))
    return {"survival": result.survival.plain(result.spec.sensors, result.archive.bar_seconds, halted)}


def _book(result: BacktestResult) -> dict[str, Any] | None:
    """What the order book did; None without one."""
    if result.book is None or result.spec.book is None:
        return None
    return result.book.plain(result.spec.book, result.trades, has_edge=result.params.use_ob_edge)


def _venue(result: BacktestResult) -> dict[str, Any]:
    """What the venue did, and the bridge from the replay to it; nothing for a replay."""
    if result.venue is None:
        return {}
    crossed = result.venue.bridge
    return {"venue": result.venue.plain(), **({} if crossed is None else {"bridge": crossed.plain()})}


def report_data(result: BacktestResult, summary: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> ReportData:
    """What the tearsheet is drawn from."""
    c, p = result.params.champion, result.params
    short = result.direction == Direction.SHORT
    closes = np.array(result.day_equity)
    return ReportData(
        summary=summary,
        trades=columns,
        bars=BarSeries(**result.points),
        daily=DailySeries(
            dates=np.array(result.days, dtype="datetime64[D]"),
            equity_close=closes,
            pnl=np.diff(np.concatenate(([result.spec.capital], closes))),
        ),
        gates={gate.name: int(result.gates[gate]) for gate in Gate},
        thresholds=Thresholds(
            entry=c.vel_div_threshold if short else p.long_threshold,
            extreme=c.vel_div_extreme if short else p.long_extreme,
        ),
        notes=result.notes,
        survival=None if result.survival is None else result.survival.series,
        book=None if result.book is None else result.book.series,
        bridge=summary.get("bridge"),
    )
