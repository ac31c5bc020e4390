"""The section that leads from the replay to the venue: charts that add up, tables that agree, and a loud remainder."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dolphin.research.bridge import COMPONENTS, bridge
from dolphin.research.reportdata import ReportData
from dolphin.ui.report import write_report
from tests.support.browser import Tab, launched, opened
from tests.support.report_data import drawn_charts, make_report_data, render, with_bridge
from tests.support.two_runs import ASSETS, changed, replayed, round_trips
from tests.ui.test_report import EVIL, Page

near = pytest.approx


@pytest.fixture(scope="module")
def run() -> ReportData:
    return with_bridge(make_report_data(days=12))


def told_by(data: ReportData) -> Mapping[str, Any]:
    assert data.bridge is not None
    return data.bridge


def with_plain(plain: Mapping[str, Any]) -> ReportData:
    return dataclasses.replace(make_report_data(days=2), bridge=plain)


def unpacked(column: dict[str, str]) -> list[float]:
    values: list[float] = np.frombuffer(base64.b64decode(column["bdata"]), "<f8").tolist()
    return values


def test_a_run_without_a_bridge_says_nothing() -> None:
    data = make_report_data(days=2)
    assert data.bridge is None
    assert "venue" not in drawn_charts(data)
    assert "From the replay to the venue" not in render(data)


class TestWaterfall:
    def test_every_step_starts_where_the_last_one_ended(self, run: ReportData) -> None:
        bars, told = drawn_charts(run)["venue"]["data"], told_by(run)
        assert len(bars) == len(COMPONENTS) + 2
        level = told["replay_net"]
        for bar, name in zip(bars[1:-1], COMPONENTS, strict=True):
            after = level + told["components"][name]
            low, high = bar["base"][0], bar["base"][0] + bar["y"][0]
            assert (low, high) == near((min(level, after), max(level, after)), abs=1e-6)
            level = after
        assert level == near(told["venue_net"], abs=1e-6)
        for bar, net in ((bars[0], told["replay_net"]), (bars[-1], told["venue_net"])):
            assert bar["base"][0] + bar["y"][0] == near(net)

    def test_losses_and_gains_have_their_colours(self, run: ReportData) -> None:
        bars, told = drawn_charts(run)["venue"]["data"], told_by(run)
        for bar, name in zip(bars[1:-1], COMPONENTS, strict=True):
            assert bar["marker"]["color"] == ("var(--gain)" if told["components"][name] > 0 else "var(--loss)")

    def test_lines_join_the_steps(self, run: ReportData) -> None:
        chart = drawn_charts(run)["venue"]
        lines, bars = chart["layout"]["shapes"], chart["data"]
        assert [line["x0"] for line in lines] == list(range(len(bars) - 1))
        for line, bar in zip(lines, bars[1:-1], strict=False):
            ends = (bar["base"][0], bar["base"][0] + bar["y"][0])
            assert min(abs(line["y0"] - end) for end in ends) < 1e-6

    @pytest.mark.parametrize(
        ("net", "fees", "cut"),
        [
            (10_000.0, -5.0, True),
            (-10_000.0, -5.0, True),
            (10.0, -5.0, False),
            (-10.0, -5.0, False),
            (3.0, -5.0, False),
        ],
    )
    def test_the_axis_is_cut_only_where_steps_would_vanish(self, net: float, fees: float, cut: bool) -> None:
        replay = replayed({"notional_usd": abs(net) * 100.0, "exit_price": 100.0 - np.sign(net)})
        told = bridge(replay, changed(round_trips(replay), fees=fees), ASSETS).plain()
        layout = drawn_charts(with_plain(told))["venue"]["layout"]
        low, high = layout["yaxis"]["range"]
        assert ("axis cut" in layout["yaxis"]["title"]["text"]) is cut
        assert (low <= 0.0 <= high) is not cut
        for level in (told["replay_net"], told["venue_net"]):
            assert low < level < high

    def test_nothing_to_tell(self) -> None:
        data = with_plain(bridge(replayed(), round_trips(replayed()), ASSETS).plain())
        low, high = drawn_charts(data)["venue"]["layout"]["yaxis"]["range"]
        assert low < high
        assert "venuedays" not in drawn_charts(data)
        assert "No trade differs." in Page(render(data)).text


class TestDays:
    def test_lines_end_at_the_totals(self, run: ReportData) -> None:
        chart, told = drawn_charts(run)["venuedays"], told_by(run)
        ends = [unpacked(trace["y"])[-1] for trace in chart["data"]]
        assert ends[:-1] == near(list(told["components"].values()))
        assert ends[-1] == near(told["difference"])
        for trace in chart["data"]:
            assert unpacked(trace["y"])[0] == 0.0
            assert len(unpacked(trace["x"])) == len(told["daily"]["dates"]) + 1

    def test_days_end_with_the_run(self, run: ReportData) -> None:
        x = unpacked(drawn_charts(run)["venuedays"]["data"][0]["x"])
        first, last = run.bars.ts_ns[0] / 1e6, run.bars.ts_ns[-1] / 1e6
        assert first <= x[0] < x[-1] <= last + 86_400_000.0


class TestTables:
    def test_components_with_their_shares(self) -> None:
        # 1,000 USDT in and 990 out: 1.99 of fees are 10 bps of 1,990, all of the difference.
        replay = replayed({})
        data = with_plain(bridge(replay, changed(round_trips(replay), fees=-1.99), ASSETS).plain())
        text = Page(render(data)).text
        assert "Fees what the venue charged on both legs −1.99 100.0 % −10.000" in text
        assert "Whole difference net PnL from +10.00 to +8.01 −1.99 100.0 % −10.000" in text

    def test_a_share_of_nothing_is_not_given(self) -> None:
        replay = replayed({})
        venue = changed(round_trips(replay), fees=-1.0, funding=1.0)
        assert "both legs −1.00 – −5.025" in Page(render(with_plain(bridge(replay, venue, ASSETS).plain()))).text

    def test_the_largest_trades_are_listed(self, run: ReportData) -> None:
        text = Page(render(run)).text
        for row in told_by(run)["largest"]:
            number = row["replay_trade"]
            label = f"#{row['venue_trade']} at the venue" if number is None else f"#{number}"
            assert f"{label} {row['asset']} SHORT" in text

    def test_counts_are_told(self, run: ReportData) -> None:
        n, text = told_by(run)["trades"], Page(render(run)).text
        assert f"{n['replay']} trades in the replay, {n['venue']} at the venue; {n['matched']} made by both" in text
        assert f"{n['stopped']} positions closed by the protective stop" in text

    def test_hostile_names_stay_text(self) -> None:
        replay = replayed({})
        data = with_plain(bridge(replay, changed(round_trips(replay), fees=-1.0), (EVIL,)).plain())
        source = render(data)
        assert html.escape(EVIL) in source
        assert Page(source).tags.count("script") == 4


class TestRemainder:
    def test_one_that_closes_is_quiet(self, run: ReportData) -> None:
        text = Page(render(run)).text
        assert "The bridge does not close" not in text
        assert "where this is not zero 0.00" in text

    def test_one_that_does_not_is_loud(self) -> None:
        replay = replayed({})
        venue = round_trips(replay)
        venue["net_pnl"] -= 3.0
        data = with_plain(bridge(replay, venue, ASSETS).plain())
        text = Page(render(data)).text
        assert "The bridge does not close The components leave −3.00 USDT unexplained" in text
        last = drawn_charts(data)["venue"]["data"][-2]
        assert last["x"] == ["<b>Unexplained</b>"]
        assert last["y"] == [near(3.0)]


LABELS = """(() => {
  const boxes = [...document.querySelectorAll('#chart-venue .xtick text, #chart-venue .bartext')]
    .map((text) => text.getBoundingClientRect()).filter((box) => box.width > 0);
  const crossed = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  return [boxes.length, boxes.flatMap((a, k) => boxes.slice(k + 1).filter((b) => crossed(a, b))).length];
})()"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 1000, 420])
def test_in_a_browser_no_label_covers_another(run: ReportData, tmp_path: Path, width: int) -> None:
    async def session(port: int) -> tuple[Any, Any]:
        async with opened(tmp_path / "report.html", port) as tab:
            answer = await tab.value("document.documentElement.dataset.charts"), await labels_at(tab, width)
            assert tab.complaints == []
            return answer

    write_report(tmp_path / "report.html", run)
    with launched(tmp_path) as port:
        state, (labels, crossed) = asyncio.run(session(port))
    assert state == "drawn"
    assert labels == 2 * (len(COMPONENTS) + 2)
    assert crossed == 0


async def labels_at(tab: Tab, width: int) -> Any:
    await tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    await tab.until(f"innerWidth === {width}")
    await tab.value("Plotly.Plots.resize('chart-venue').then(() => 0)")
    return await tab.value(LABELS)
