"""Made-up sensor recordings, as values and as files; and a replay with sensors done slowly, one bar at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.feed import HEALTHY, SensorFeed
from dolphin.alpha.layout import EVENT, TRADE, Record, records
from dolphin.alpha.rows import day_bars
from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import Direction, Posture
from dolphin.core.params import EngineParams
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import replay_signals
from dolphin.risk.sensors import READING, SENSORS, Readings, put_reading
from dolphin.risk.survival import SurvivalStack

Recording = Sequence[tuple[int, Readings]]
"""(UTC nanoseconds, readings), times increasing."""

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def recording(first_ns: int, minutes: int, seed: int, *, every_s: float = 60.0) -> list[tuple[int, Readings]]:
    """Readings about every `every_s` seconds, off the minute: a thinning book, spikes, a grid that dies, holes of up to
    twenty minutes, and now and then a sensor that is not known."""
    rng = np.random.default_rng(seed)
    out, now, end = [], first_ns, first_ns + minutes * MINUTE
    depth, drawdown, spiked, thin, thin_until = 1.2, 0.0, -math.inf, 1.2, -math.inf
    while now < end:
        if now > thin_until and rng.random() < 0.02:
            thin, thin_until = float(rng.choice([0.8, 0.5])), now + int(rng.integers(20, 90)) * MINUTE
        depth += 0.3 * ((thin if now <= thin_until else 1.2) - depth) + rng.normal(0.0, 0.02)
        drawdown = max(0.0, drawdown + 0.02 * (0.015 - drawdown) + rng.normal(0.0, 0.002))
        if rng.random() < 0.001:
            spiked = now
        known: dict[str, Any] = {
            "depth_quality": max(0.0, depth),
            "fill_probability": min(1.0, 0.62 * max(0.0, depth)),
            "drawdown": drawdown,
            "dvol_spike": now - spiked < 120 * MINUTE,
            "dvol_spike_age_min": None if math.isinf(spiked) else (now - spiked) / MINUTE,
            "grid_nodes": 0 if rng.random() < 0.001 else 1,
            "mc_status": "ORANGE" if rng.random() < 0.005 else "OK",
        }
        if rng.random() < 0.002:
            known[str(rng.choice(sorted(known)))] = None
        out.append((now, msgspec.structs.replace(HEALTHY, **known)))
        hole = 20.0 * 60.0 if rng.random() < 0.001 else 0.0
        now += int((rng.uniform(0.4, 1.6) * every_s + hole) * 1e6) * 1000
    return out


def as_records(taken: Recording) -> Record:
    """(K,) READING records."""
    rows = records(READING, len(taken))
    for row, (ns, readings) in zip(rows, taken, strict=True):
        put_reading(row, readings)
        row.ts_ns, row.now_s = ns, ns / SECOND
    return rows


def write_recording(path: Path, taken: Recording, drop: Sequence[str] = ()) -> Path:
    """A .json or .jsonl file of these readings, without the sensors in `drop`."""
    names = [name for name in SENSORS if name not in drop]
    rows: list[Mapping[str, Any]] = [
        {"time": ns_to_iso(ns), **{name: getattr(readings, name) for name in names}} for ns, readings in taken
    ]
    text = "\n".join(map(json.dumps, rows)) + "\n" if path.suffix == ".jsonl" else json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return path


def compiled(
    days: Sequence[ScanDay], feed: SensorFeed, direction: Direction = Direction.SHORT, *, mc_scale: float = 1.0
) -> tuple[Record, Record, NDAlphaEngine]:
    """(events, trades, engine) of the replay with `feed`, at a boost that lets leverage pass every cap."""
    engine = NDAlphaEngine(EngineParams(), days[0].assets, direction, 25_000.0)
    engine.set_survival(feed)
    events, trades = [], [records(TRADE, 0)]
    for day in days:
        trades.append(engine.begin_day(day.day, boost=1.5, beta=0.8, mc_scale=mc_scale))
        happened, closed = engine.process_bars(day_bars(day.ts_ns, replay_signals(day)), day.closes)
        events.append(happened)
        trades.append(closed)
    return joined(events), joined(trades), engine


def by_hand(
    days: Sequence[ScanDay],
    taken: Recording | None,
    direction: Direction = Direction.SHORT,
    *,
    supplied: Sequence[str] = (),
    mc_scale: float = 1.0,
) -> tuple[Record, Record, NDAlphaEngine]:
    """The same, one bar at a time through `SurvivalStack` and `step_bar`; `taken` None: the replay's own sensors."""
    engine = NDAlphaEngine(EngineParams(), days[0].assets, direction, 25_000.0)
    stack, posture, newest, k = SurvivalStack.opening(), Posture.APEX, None, 0
    events, trades = [], [records(TRADE, 0)]
    rm = math.nan
    if taken is None:
        supplied = ("drawdown", "mc_status")

    def own(readings: Readings) -> Readings:
        core = engine.state.core
        values = {
            "drawdown": 1.0 - float(core.equity) / float(core.peak_equity),
            "mc_status": "RED" if core.mc_red else ("ORANGE" if core.mc_scale < 1.0 else "OK"),
        }
        return msgspec.structs.replace(readings, **{name: values[name] for name in supplied})

    for day in days:
        trades.append(engine.begin_day(day.day, boost=1.5, beta=0.8, mc_scale=mc_scale))
        bars = day_bars(day.ts_ns, replay_signals(day))
        for bar, closes in zip(bars, day.closes, strict=True):
            now = int(bar.ts_ns)
            due: list[tuple[float, Readings]] = []
            if taken is None:
                if newest is None or now - newest >= MINUTE:
                    due, newest = [(now / SECOND, HEALTHY)], now
            else:
                while k < len(taken) and taken[k][0] <= now:
                    newest = taken[k][0]
                    due.append((newest / SECOND, taken[k][1]))
                    k += 1
                if newest is not None and now - newest > 5 * MINUTE:
                    due.append((now / SECOND, Readings()))
            for seconds, readings in due:
                verdict = stack.update(own(readings), seconds)
                posture, rm = verdict.acting, verdict.rm
            ok = bool(bar.vol_regime_ok)
            signal = {name: float(bar[name]) for name in ("vel_div", "v50", "v750")}
            event, trade = engine.step_bar(now, prices=closes, vol_regime_ok=ok, posture=posture, **signal)
            event.rm = rm  # `step_bar` is told the posture alone
            events.append(np.asarray(event).reshape(1))
            if trade is not None:
                trades.append(np.asarray(trade).reshape(1))
    return joined(events or [records(EVENT, 0)]), joined(trades), engine


def joined(parts: Sequence[Record]) -> Record:
    """Records in one array."""
    return np.concatenate(parts).view(np.recarray)
