"""Measurements as Markdown tables, and their place in RESULTS.md."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

Report = dict[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others numbers."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rows))


def verdict(ok: bool) -> str:
    """How a goal fared."""
    return "met" if ok else "**missed**"


def scanner_table(part: Report) -> str:
    """µs per bar beside numpy; minimum (median) of the repeats."""
    rows = [
        [
            f"{r['market']}, {r['assets']}",
            both(r["batch_us"], 1.0, 1),
            both(r["stream_us"], 1.0, 1),
            both(r["numpy_us"], 1.0, 0),
            f"{r['ratio_batch']:.0f} ×",
            f"{r['ratio_stream']:.0f} ×",
            f"{r['error']:.1e}",
            " ".join(f"{x:.2f}" for x in r["eigenvalue_ratio"]),
        ]
        for r in part["rows"]
    ]
    head = ("market, assets", "batch µs/bar", "stream µs/bar", "numpy µs/bar", "batch", "stream", "error", "λ₁/λ₂")
    return table(head, rows)


def replay_table(part: Report) -> str:
    """The contenders over the same prices."""
    rows = [
        [
            f"{r['name']}: {r['rules']}",
            both(r["warm_s"], 1e3, 1),
            f"{r['bars_per_s'] / 1e6:.2f}",
            f"{r['cold_s']:.2f}",
            f"{r['peak_mb']:.0f}",
            str(r["trades"]),
        ]
        for r in part["rows"]
    ]
    text = table(("contender", "warm ms", "million bars/s", "cold s", "peak MB", "trades"), rows)
    return "\n\n".join([text, *(f"Left out: {line}." for line in part["missing"])])


def process_table(part: Report) -> str:
    """Whole processes."""
    rows = [
        [r["name"], both(r["wall_s"], 1.0, 2), both(r["cpu_s"], 1.0, 2), f"{r['peak_mb']:.0f}"] for r in part["rows"]
    ]
    return table(("process", "wall s", "processor s", "peak MB"), rows)


def growth_table(part: Report) -> str:
    """From a day to a year."""
    rows = [
        [
            str(r["days"]),
            f"{r['bars']:,}",
            both(r["wall_s"], 1.0, 2),
            f"{r['bars_per_s']:,.0f}",
            f"{r['inner_bars_per_s']:,.0f}",
            f"{r['peak_mb']:.0f}",
        ]
        for r in part["rows"]
    ]
    return table(("days", "bars", "wall s", "bars/s, process", "bars/s, scan and replay", "peak MB"), rows)


VENUE_MODES = {
    "ours": "quotes where they matter",
    "plain": "every instrument's bars through the matching engine",
}


def venue_table(part: Report) -> str:
    """Inside NautilusTrader, our feed beside the plain way."""
    rows = [
        [
            VENUE_MODES[r["mode"]],
            both(r["run_s"], 1.0, 2),
            f"{1e6 * r['run_s']['min'] / r['bars']:.1f}",
            both(r["wall_s"], 1.0, 2),
            f"{r['peak_mb']:.0f}",
            f"{r['matched']} of {r['trades']}",
        ]
        for r in part["rows"]
    ]
    head = ("feed", "run s", "µs/bar", "process s", "peak MB", "trades as in the replay")
    return table(head, rows)


def depth_table(part: Report) -> str:
    """Depth messages, ours beside plain Python."""
    rows = [[r["name"], both(r["s"], 1e6, 1), f"{1 / r['s']['min']:,.0f}", f"{r['messages']:,}"] for r in part["rows"]]
    lines = [f"Left out: {line}." for line in part["missing"]]
    if rows:
        grown = f"grew by {part['growth_mb']:.1f} MB over {part['resident_mb']:.0f}"
        memory = f"{part['ratio']:.0f} × the plain way. Memory {grown} in the passes after those measured."
        lines = [table(("contender", "µs/message", "messages/s", "messages"), rows), memory]
    return "\n\n".join(lines)


def book_table(part: Report) -> str:
    """The book's features: kernels beside NumPy, a live step, one question."""
    rows = [
        [
            str(r["assets"]),
            f"{r['kernel_us']:.2f}",
            f"{r['numpy_us']:.0f}",
            f"{r['numpy_us'] / r['kernel_us']:.0f} ×",
            f"{r['live_all_us']:.1f}",
            f"{r['live_one_by_one_us']:.1f}",
        ]
        for r in part["rows"]
    ]
    head = ("assets", "kernels µs/bar", "numpy µs/bar", "kernels", "live step µs", "asked one by one µs")
    asked = ", ".join(f"`{name}` {us:.2f}" for name, us in part["get_us"].items())
    return "\n\n".join([table(head, rows), f"One question, µs: {asked}."])


LIVE_PARTS = {
    "late": "begun late",
    "read": "books and prices read",
    "features": "features",
    "scan": "scan",
    "step": "step",
    "event_to_feature": "event to feature",
    "ready": "due to decision",
}


def live_table(part: Report) -> str:
    """The live loop against an exchange in another process; ms, median / 99 % / longest."""
    runs = part["rows"]
    rows = [
        [title, *(f"{r[name]['p50']:.2f} / {r[name]['p99']:.2f} / {r[name]['max']:.1f}" for r in runs)]
        for name, title in LIVE_PARTS.items()
    ]
    lines = [table(("ms: median / 99 % / longest", *(f"{r['assets']} contracts" for r in runs)), rows)]
    lines += [
        f"{r['assets']} contracts: {r['bars']} bars of {r['bar_seconds']:g} s, {r['missed']} missed, "
        f"{r['messages_per_s']:,.0f} messages/s for {r['core_share']:.2f} of a core, "
        f"`get_snapshot` {r['read_us']:.2f} µs."
        for r in runs
    ]
    return "\n\n".join(lines)


def grid_table(part: Report) -> str:
    """Puts and gets of one value; µs, median / 99 %."""

    def shown(measured: Report, call: str) -> str:
        return f"{measured[call]['p50']:,.1f} / {measured[call]['p99']:,.1f}" if call in measured else ""

    rows = [[name, shown(each, "put"), shown(each, "get"), shown(each, "heard")] for name, each in part.items()]
    return table(("µs: median / 99 %", "put", "get", "put to listener"), rows)


def both(spread: dict[str, float], scale: float, digits: int) -> str:
    """Minimum (median)."""
    return f"{spread['min'] * scale:,.{digits}f} ({spread['median'] * scale:,.{digits}f})"


def goals(parts: dict[str, Report]) -> list[list[str]]:
    """Every goal that the parts at hand can judge: what, goal, met, verdict. Minima are judged."""
    rows: list[list[str]] = []

    def judge(what: str, value: float, limit: float, unit: str, digits: int, at_least: bool = False) -> None:
        sign = "≥" if at_least else "≤"
        ok = value >= limit if at_least else value <= limit
        rows.append([what, f"{sign} {limit:g} {unit}".strip(), f"{value:,.{digits}f} {unit}".strip(), verdict(ok)])

    for r in parts.get("scanner", {}).get("rows", []):
        where = f"{r['market']}, {r['assets']} assets"
        limits = {("crowded", 50): (30.0, None), ("synthetic", 50): (6.0, 80.0), ("recorded", 50): (6.0, 80.0)}
        limit = {**limits, ("synthetic", 400): (180.0, 130.0)}.get((r["market"], r["assets"]))
        if limit:
            judge(f"scanner, {where}: time per bar", r["batch_us"]["min"], limit[0], "µs", 1)
            if limit[1]:
                judge(f"scanner, {where}: faster than numpy", r["ratio_batch"], limit[1], "×", 0, at_least=True)
    if "scanner" in parts:
        worst = max(r["error"] for r in parts["scanner"]["rows"])
        rows.append(["scanner: worst relative error of λ", "≤ 1e-9", f"{worst:.1e}", verdict(worst <= 1e-9)])
    for r in parts.get("replay", {}).get("rows", []):
        if r["name"] in ("dolphin, day by day", "dolphin, one call"):
            judge(f"replay ({r['name']})", r["bars_per_s"] / 1e6, 2.0, "million bars/s", 2, at_least=True)
    warm = {r["name"]: r["warm_s"]["min"] for r in parts.get("replay", {}).get("rows", [])}
    if "dolphin, every layer" in warm:
        judge(
            "every risk layer beside the bare replay",
            warm["dolphin, every layer"] / warm["dolphin, day by day"],
            1.25,
            "×",
            2,
        )
    limits_s = (
        ("dolphin --help", 0.3),
        ("forewarner: 2,000 trials", 120.0),
        ("backtest from prices, one day", 0.8),
        ("first-ever", 45.0),
    )
    for r in parts.get("process", {}).get("rows", []):
        for start, limit_s in (*limits_s, ("backtest from prices, 55 days", 2.0)):
            if r["name"].startswith(start):
                judge(r["name"], r["wall_s"]["min"], limit_s, "s", 2)
        if r["name"].startswith("backtest from prices, 55 days"):
            judge(f"{r['name']}: peak", r["peak_mb"], 400.0, "MB", 0)
    peaks = {r["days"]: r["peak_mb"] for r in parts.get("growth", {}).get("rows", [])}
    if 7 in peaks and 365 in peaks:
        judge("a year's peak beside a week's", peaks[365] / peaks[7], 1.1, "×", 2)
    for r in parts.get("venue", {}).get("rows", []):
        if r["mode"] == "ours" and parts["venue"]["days"] == 55:
            what = "NautilusTrader, 55 days of 60-s bars × 50 instruments"
            judge(what, r["run_s"]["min"], 2.5, "s", 2)
            judge(f"{what}: peak", r["peak_mb"], 700.0, "MB", 0)
    for r in parts.get("depth", {}).get("rows", [])[:1]:
        judge("depth messages to bands, one core", 1 / r["s"]["min"], 40_000, "messages/s", 0, at_least=True)
        judge("depth: memory grown by as many messages again", parts["depth"]["growth_mb"], 4.0, "MB", 1)
    goals_us = {50: (2.0, 60.0), 400: (12.0, 400.0)}
    for r in parts.get("book", {}).get("rows", []):
        if r["assets"] in goals_us:
            kernels, whole = goals_us[r["assets"]]
            judge(f"book, {r['assets']} assets: kernels per step", r["kernel_us"], kernels, "µs", 2)
            judge(f"book, {r['assets']} assets: `step_live` whole", r["live_all_us"], whole, "µs", 1)
    if "book" in parts:
        judge("book: the slowest `get_…`", max(parts["book"]["get_us"].values()), 1.0, "µs", 2)
    for r in parts.get("live", {}).get("rows", []):
        judge(f"live, {r['assets']} contracts: `get_snapshot`", r["read_us"], 1.0, "µs", 2)
        if r["assets"] == 400:
            judge("live, 400 contracts: event to feature, 99 %", r["event_to_feature"]["p99"], 5.0, "ms", 2)
        judge(f"live, {r['assets']} contracts: bars missed", r["missed"], 0, "", 0)
    if "grid" in parts:
        fast = parts["grid"]["embedded, fast, 3 at once"]
        heard = parts["grid"]["embedded, fast, 200 a second, one listener elsewhere"]["heard"]
        judge("embedded grid, three processes at once: get, median", fast["get"]["p50"], 5.0, "µs", 1)
        judge("embedded grid, three processes at once: put, median", fast["put"]["p50"], 20.0, "µs", 1)
        judge("embedded grid: put to listener, 99 %", heard["p99"] / 1e3, 2.0, "ms", 2)
    if "hazelcast" in parts:
        cluster = parts["hazelcast"]
        rate = next(each for name, each in cluster.items() if name.startswith("10,000"))
        judge("cluster: near get, 99 %", cluster["get"]["near"]["p99"], 3.0, "µs", 1)
        judge("cluster: put for its caller, 99 %", rate["put"]["p99"], 50.0, "µs", 1)
        judge("cluster: puts offered, a member going and coming", rate["offered a second"], 9_990, "a second", 0, True)
        judge("cluster: puts dropped meanwhile", rate["counts"]["dropped"], 0, "", 0)
    return rows


def hazelcast_table(part: Report) -> str:
    """Microseconds of a call, and what became of 10,000 puts a second while a member was away."""
    rows = [
        [f"{what}, {how}", *(f"{measured[each]:,.1f}" for each in ("p50", "p99", "max"))]
        for what in ("put", "get", "reference")
        for how, measured in part[what].items()
    ]
    text = table(("call", "p50 µs", "p99 µs", "largest µs"), rows)
    (name, rate), *_ = [(name, each) for name, each in part.items() if name.startswith("10,000")]
    counts = ", ".join(f"{number:,} {what}" for what, number in rate["counts"].items())
    return (
        f"{text}\n\n{name}: {rate['offered a second']:,} a second offered; {counts}; a put took its caller "
        f"{rate['put']['p50']:.1f} µs (p99 {rate['put']['p99']:.1f}); memory grew by {rate['memory grew by MB']} MB."
    )


SECTIONS = (
    ("scanner", "Scanner, one thread", scanner_table),
    ("replay", "Replay, one thread", replay_table),
    ("process", "Whole processes", process_table),
    ("growth", "From a day to a year (whole processes)", growth_table),
    ("venue", "Inside NautilusTrader, without friction", venue_table),
    ("depth", "Depth messages to books and bands, one thread", depth_table),
    ("book", "Features of order books, one thread", book_table),
    ("live", "The live loop at 100 ms, against an exchange in another process", live_table),
    ("grid", "The embedded grid, values of 200 bytes", grid_table),
    ("hazelcast", "The grid on a Hazelcast cluster of three", hazelcast_table),
)


def render(report: Report) -> str:
    """The whole block: facts, goals, one table per part."""
    facts, parts = report["machine"], report["parts"]
    kind = "a quick run, too short to quote" if report["quick"] else "a full run"
    machine = (
        f"{facts['cores']} cores ({facts['machine']}), load {facts['load_before']} before, {facts['load_after']} after"
    )
    software = f"Python {facts['python']}, numpy {facts['numpy']}, numba {facts['numba']}, BLAS {facts['blas']}"
    notes = "One BLAS thread for scanner and replay. Minimum (median) of the repeats; MB are 10⁶ bytes."
    lines = [f"Measured {facts['date']}, {kind}: {machine}; {software}. {notes}"]
    judged = goals(parts)
    if judged:
        lines += ["### Goals", table(("what", "goal", "measured (minimum)", ""), judged)]
    for name, title, make in SECTIONS:
        if name in parts:
            lines += [f"### {title}", make(parts[name])]
    return "\n\n".join(lines)


def write_block(path: Path, block: str) -> None:
    """Put `block` between the markers of `path`, atomically; ValueError when they are not there once and in order."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{path.name}: expected one line {BEGIN} and, after it, one line {END}")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    handle, temp = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{before}\n{block}\n{after}")
            file.flush()
            os.fsync(file.fileno())
        Path(temp).chmod(0o644)
        Path(temp).replace(path)
    finally:
        Path(temp).unlink(missing_ok=True)
