"""The tearsheet as a file: complete, self-contained, escaped, atomic, and honest about what is not there."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dolphin.core.codes import Gate
from dolphin.research.reportdata import ReportData, Thresholds
from dolphin.ui.report import write_report
from dolphin.ui.report.texts import CAVEATS, GATE_MEANINGS
from tests.support.report_data import drawn_charts, make_report_data, render

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """What a browser would load and run: elements, attributes that fetch, scripts, text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetches: list[str] = []
        self.handlers: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self.depth: list[str] = []
        self.csp = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.fetches += [found[k] or "" for k in ("src", "href", "data", "poster", "action", "srcset") if k in found]
        self.handlers += [k for k in found if k.startswith("on")]
        if tag == "script":
            self.scripts.append((found, ""))
        if found.get("http-equiv") == "Content-Security-Policy":
            self.csp = found["content"] or ""
        if tag not in VOID:
            self.depth.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.depth.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.depth and self.depth[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif not self.depth or self.depth[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """The words on the page."""
        return " ".join(" ".join(self.words).split())

    @property
    def charts(self) -> dict[str, Any]:
        """The charts' data, as the page's script reads it."""
        (block,) = [body for attrs, body in self.scripts if attrs.get("id") == "charts"]
        found: dict[str, Any] = json.loads(block)
        return found


@pytest.fixture(scope="module")
def run() -> ReportData:
    return make_report_data(days=12)


@pytest.fixture(scope="module")
def page(run: ReportData) -> Page:
    return Page(render(run))


def evil_run() -> ReportData:
    """A run whose every text tries to break out of the page."""
    data = make_report_data(days=3)
    trades = {**data.trades}
    for column in ("asset", "side", "reason"):
        trades[column] = np.array([EVIL] * len(trades["trade_id"]))
    group = next(iter(data.summary["by_asset"].values()))
    texts = dict.fromkeys(("profile", "direction", "champion_hash", "friction", "from", "to", "command"), EVIL)
    maps: dict[str, Any] = {name: {EVIL: EVIL} for name in ("data", "versions", "overrides")}
    maps |= {"by_asset": {EVIL: group}, "by_reason": {EVIL: group}}
    summary = {**data.summary, **texts, **maps, "is_champion": False}
    return dataclasses.replace(data, summary=summary, trades=trades, gates={EVIL: 3}, notes=(EVIL,))


class TestSelfContained:
    def test_nothing_is_fetched(self, page: Page) -> None:
        assert page.fetches == ["data:,"]
        assert not {"iframe", "object", "embed", "form", "base", "img", "video", "audio"} & set(page.tags)
        assert page.depth == []

    def test_styles_fetch_nothing(self, run: ReportData) -> None:
        style = "".join(re.findall(r"<style>(.*?)</style>", render(run), re.DOTALL))
        assert len(style) > 1000
        assert not re.search(r"url\(|@import|https?:", style)

    def test_the_policy_forbids_every_request(self, page: Page) -> None:
        rules = dict(rule.strip().split(" ", 1) for rule in page.csp.split(";"))
        assert rules["default-src"] == "'none'"
        assert set(rules) == {"default-src", "script-src", "style-src", "img-src"}
        assert "http" not in page.csp
        assert "'unsafe-inline'" not in rules["script-src"]

    def test_the_policy_names_exactly_the_scripts(self, page: Page) -> None:
        code = [body for attrs, body in page.scripts if attrs.get("type") != "application/json"]
        digests = {f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" for body in code}
        assert digests == set(re.findall(r"'sha256-[^']+'", page.csp))
        assert len(code) == 3

    def test_the_library_is_there_once(self, run: ReportData) -> None:
        assert render(run).count("plotly.js v") == 1

    def test_same_run_same_bytes(self, run: ReportData) -> None:
        assert render(run) == render(run)


class TestContents:
    def test_every_section(self, page: Page) -> None:
        for title in (
            "Equity and drawdown", "The signal", "Where the money went", "Hold times", "Results", "Leverage used",
            "Months and days", "By exit reason", "Why no trade", "By asset", "Trades", "Before believing the signal",
            "What this page does not claim", "How to get this page again",
        ):  # fmt: skip
            assert title in page.text

    def test_headline_figures(self, page: Page, run: ReportData) -> None:
        s = run.summary
        for shown in (f"{abs(s['roi']) * 100:.2f} %", f"{abs(s['sharpe']):.2f}", f"{s['max_drawdown'] * 100:.2f} %"):
            assert shown in page.text
        assert f"{s['trades']} trades" in page.text

    def test_identities(self, page: Page, run: ReportData) -> None:
        for known in (run.summary["champion_hash"], run.summary["data"]["manifest_hash"], run.summary["command"]):
            assert known in page.text
        for name, version in run.summary["versions"].items():
            assert f"version: {name} {version}" in page.text

    def test_the_caveats_are_said(self, page: Page) -> None:
        for head, words in CAVEATS:
            assert f"{head} {words}" in page.text
        for word in ("No funding.", "Friction is modelled.", "never money received", "private set of data"):
            assert word in page.text

    def test_every_chart_has_its_place(self, run: ReportData, page: Page) -> None:
        assert set(page.charts) == {"equity", "velocity", "bridge", "hold", "result", "leverage"}
        for name in page.charts:
            assert f'id="chart-{name}"' in render(run)

    def test_every_asset_reason_and_gate(self, page: Page, run: ReportData) -> None:
        for name in (*run.summary["by_asset"], *run.summary["by_reason"], *run.gates):
            assert name in page.text

    def test_every_gate_has_a_meaning(self) -> None:
        assert set(GATE_MEANINGS) == {gate.name for gate in Gate}

    def test_friction_off_is_said(self, run: ReportData) -> None:
        off = Page(render(dataclasses.replace(run, summary={**run.summary, "friction": "none"})))
        assert "No friction at all." in off.text
        assert "Friction is modelled." not in off.text

    def test_funding_is_not_denied_where_it_was_paid(self, run: ReportData) -> None:
        pnl = {**run.summary["pnl"], "funding": -12.0}
        assert "No funding." not in Page(render(dataclasses.replace(run, summary={**run.summary, "pnl": pnl}))).text

    def test_a_thinned_run_says_so(self) -> None:
        thin = Page(render(make_report_data(days=12, max_points=2_000)))
        assert re.search(r"of 17,280 bars are drawn", thin.text)
        assert "bars are drawn" not in Page(render(make_report_data(days=2))).text


class TestChampion:
    def test_the_champion_wears_no_banner(self, page: Page) -> None:
        assert "This is not the champion" not in page.text

    def test_an_override_is_loud(self) -> None:
        changed = Page(render(make_report_data(days=2, overrides={"max_hold_bars": 60})))
        assert "This is not the champion" in changed.text
        assert "not champion" in changed.text
        assert re.search(r"max_hold_bars = 60\s+champion:\s+120", changed.text)

    @pytest.mark.parametrize("claim", [None, 1, "yes", False])
    def test_only_a_plain_true_counts(self, run: ReportData, claim: object) -> None:
        odd = Page(render(dataclasses.replace(run, summary={**run.summary, "is_champion": claim})))
        assert "This is not the champion" in odd.text


class TestHostileText:
    def test_nothing_breaks_out(self) -> None:
        source = render(evil_run())
        page = Page(source)
        assert page.tags.count("script") == 4
        assert "img" not in page.tags
        assert page.handlers == []
        assert page.depth == []
        assert html.escape(EVIL) in source

    def test_charts_get_escaped_labels(self) -> None:
        hold = Page(render(evil_run())).charts["hold"]["data"][0]
        assert hold["name"] == html.escape(EVIL)
        assert "<script" not in json.dumps(Page(render(evil_run())).charts)


class TestThinRuns:
    def test_no_trades(self) -> None:
        page = Page(render(make_report_data(days=2, blind=True)))
        assert set(page.charts) == {"equity", "bridge"}
        assert page.text.count("No trade closed in this run.") == 5
        assert "the windows never filled" in page.text

    def test_one_trade_on_one_day(self) -> None:
        page = Page(render(make_report_data(days=1, trades=1)))
        assert "1 trade;" in page.text
        assert "1 day " in page.text
        assert len(page.charts) == 6

    def test_no_bars_at_all(self) -> None:
        data = make_report_data(days=0)
        page = Page(render(data))
        assert set(page.charts) == {"bridge"}
        assert "No day of this run has bars." in page.text

    def test_an_empty_summary_still_gives_a_page(self, run: ReportData) -> None:
        page = Page(render(dataclasses.replace(run, summary={}, gates={})))
        assert "This is not the champion" in page.text
        assert "bridge" not in page.charts

    def test_nan_inside_the_signal(self, run: ReportData) -> None:
        vel_div = run.bars.vel_div.copy()
        vel_div[5_000:5_500] = np.nan
        charts = drawn_charts(dataclasses.replace(run, bars=dataclasses.replace(run.bars, vel_div=vel_div)))
        drawn = sum(len(_column(trace["y"])) for trace in charts["velocity"]["data"][:2])
        assert drawn == np.isfinite(vel_div).sum()

    def test_ruin(self, run: ReportData) -> None:
        closes = np.linspace(20_000, -10_000, len(run.daily.dates))
        page = Page(render(dataclasses.replace(run, daily=dataclasses.replace(run.daily, equity_close=closes))))
        assert not re.search(r"\bnan\b", page.text.lower())


class TestFigures:
    def test_entries_sit_on_the_signal(self, run: ReportData) -> None:
        traces = [t for t in drawn_charts(run)["velocity"]["data"] if "entry" in t["name"] and t["type"] == "scattergl"]
        levels = np.concatenate([_column(trace["y"]) for trace in traces])
        assert len(levels) == run.summary["trades"]
        assert (levels < -0.02).all()

    def test_equity_comes_through_exactly(self, run: ReportData) -> None:
        equity, fall = drawn_charts(run)["equity"]["data"][:2]
        np.testing.assert_array_equal(_column(equity["y"]), run.bars.equity)
        np.testing.assert_array_equal(_column(fall["y"]), -run.bars.drawdown)
        np.testing.assert_array_equal(_column(equity["x"]) * 1e6, run.bars.ts_ns)

    def test_every_trade_is_in_both_histograms(self, run: ReportData) -> None:
        charts = drawn_charts(run)
        for name in ("hold", "result"):
            assert sum(sum(trace["y"]) for trace in charts[name]["data"]) == run.summary["trades"]

    def test_no_bar_mixes_wins_and_losses(self, run: ReportData) -> None:
        (bars,) = drawn_charts(run)["result"]["data"]
        won = sum(n for x, n in zip(bars["x"], bars["y"], strict=True) if x > 0)
        assert won == (run.trades["net_pnl"] >= 0).sum()

    def test_leverage_piles_hold_every_trade(self, run: ReportData) -> None:
        traces = drawn_charts(run)["leverage"]["data"]
        assert sum(sum(t["x"]) for t in traces if t["type"] == "bar") == run.summary["trades"]

    def test_the_bridge_lands_on_the_end(self, run: ReportData) -> None:
        chart = drawn_charts(run)["bridge"]
        tops = [trace["base"][0] + trace["y"][0] for trace in chart["data"]]
        pnl, start = run.summary["pnl"], run.summary["capital_start"]
        assert tops[0] == pytest.approx(start)
        assert tops[5] == pytest.approx(start + pnl["net"] - pnl["modelled_edge"])
        assert tops[7] == pytest.approx(start + pnl["net"])
        assert "pattern" in chart["data"][6]["marker"]
        assert "not money" in chart["data"][6]["x"][0]

    def test_a_long_run_points_up(self, run: ReportData) -> None:
        green = dataclasses.replace(run, thresholds=Thresholds(0.01, 0.04))
        symbols = {t["marker"].get("symbol") for t in drawn_charts(green)["velocity"]["data"]}
        assert "triangle-up" in symbols
        assert "above 0.01" in Page(render(green)).text

    def test_charts_over_time_share_one_span(self, run: ReportData) -> None:
        spans = {
            tuple(drawn_charts(run)[name]["layout"]["xaxis"]["range"]) for name in ("equity", "velocity", "leverage")
        }
        assert len(spans) == 1


class TestWriting:
    def test_a_file_readable_like_others(self, tmp_path: Path, run: ReportData) -> None:
        path = tmp_path / "report.html"
        write_report(path, run)
        assert path.read_text(encoding="utf-8") == render(run)
        plain = tmp_path / "plain"
        plain.touch()
        assert path.stat().st_mode == plain.stat().st_mode
        assert sorted(p.name for p in tmp_path.iterdir()) == ["plain", "report.html"]

    def test_an_old_report_is_replaced(self, tmp_path: Path, run: ReportData) -> None:
        path = tmp_path / "report.html"
        path.write_text("old")
        write_report(path, run)
        assert path.stat().st_size > 1_000_000

    def test_a_failure_leaves_the_old_one(
        self, tmp_path: Path, run: ReportData, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "report.html"
        path.write_text("old")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_report(path, run)
        assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
        assert path.read_text() == "old"

    def test_no_folder(self, tmp_path: Path, run: ReportData) -> None:
        with pytest.raises(FileNotFoundError):
            write_report(tmp_path / "absent" / "report.html", run)

    def test_the_drawing_library_stays_out_until_needed(self) -> None:
        code = "import sys, dolphin.ui.report, dolphin.research.reportdata; print('plotly' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"


def _column(packed: dict[str, str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.frombuffer(base64.b64decode(packed["bdata"]), dtype="<f8")
