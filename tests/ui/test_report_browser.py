"""The tearsheet in a real browser: every chart draws, nothing is asked of a network, and the page answers clicks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dolphin.research.reportdata import ReportData
from dolphin.ui.report import write_report
from tests.support.browser import Tab, dump_dom, launched, opened
from tests.support.report_data import make_report_data
from tests.ui.test_report import evil_run

pytestmark = pytest.mark.slow

HARMLESS = ("software WebGL", "GL Driver Message")
"""What a browser without a graphics card says of itself; nothing about the page."""

CHARTS = ("equity", "velocity", "bridge", "hold", "result", "leverage")


def page_of(folder: Path, data: ReportData) -> Path:
    """The report of `data`, on disk."""
    path = folder / "report.html"
    write_report(path, data)
    return path


def ask(path: Path, scratch: Path, question: Callable[[Tab], Awaitable[Any]], *flags: str) -> Any:
    """Open the page, put one question to it, and give the answer."""

    async def session() -> Any:
        async with opened(path, port) as tab:
            answer = await question(tab)
            assert tab.complaints == []
            return answer

    with launched(scratch, *flags) as port:
        return asyncio.run(session())


def test_every_chart_draws(tmp_path: Path) -> None:
    dom, console = dump_dom(page_of(tmp_path, make_report_data(days=5)), tmp_path)
    assert 'data-charts="drawn"' in dom
    for name in CHARTS:
        # Up to the next panel: the chart library puts three drawings into each place.
        part = dom.split(f'id="chart-{name}"')[1].split("</section>")[0]
        assert part.count('class="main-svg"') >= 2, name
    assert dom.count("<canvas") >= 3
    assert [line for line in console if not any(word in line for word in HARMLESS)] == []
    markup = re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="(?!data:)([^"#][^"]*)"', markup) == []


@pytest.mark.parametrize(
    ("data", "charts"),
    [
        (make_report_data(days=2, blind=True), 2),
        (make_report_data(days=1, trades=1), 6),
        (make_report_data(days=0), 1),
        (make_report_data(days=90, overrides={"max_hold_bars": 60}), 6),
    ],
    ids=["no trades", "one trade", "no bars", "not champion"],
)
def test_thin_and_thick_runs(tmp_path: Path, data: ReportData, charts: int) -> None:
    async def question(tab: Tab) -> tuple[Any, Any, list[str]]:
        return (
            await tab.value("document.documentElement.dataset.charts"),
            await tab.value("document.querySelectorAll('.js-plotly-plot .plot-container').length"),
            tab.requests,
        )

    state, drawn, requests = ask(page_of(tmp_path, data), tmp_path, question)
    assert (state, drawn) == ("drawn", charts)
    assert {url.split(":")[0] for url in requests} <= {"file", "data", "blob"}


def test_hostile_text_runs_nothing(tmp_path: Path) -> None:
    async def question(tab: Tab) -> tuple[Any, Any, Any]:
        await tab.call("Page.enable")
        opened_alerts = [e for e in tab.events if e["method"] == "Page.javascriptDialogOpening"]
        images = await tab.value("document.querySelectorAll('img, iframe, a[href^=javascript]').length")
        return await tab.value("document.documentElement.dataset.charts"), images, opened_alerts

    assert ask(page_of(tmp_path, evil_run()), tmp_path, question) == ("drawn", 0, [])


def test_without_webgl_the_signal_is_drawn_all_the_same(tmp_path: Path) -> None:
    async def question(tab: Tab) -> Any:
        kinds = "JSON.stringify([...new Set(document.getElementById('chart-velocity').data.map((t) => t.type))])"
        points = "document.querySelectorAll('#chart-velocity .scatterlayer .point').length"
        return await tab.value(kinds), await tab.value(points)

    path = page_of(tmp_path, make_report_data(days=2))
    kinds, points = ask(path, tmp_path, question, "--disable-3d-apis")
    assert kinds == '["scatter"]'
    assert points > 1_000


def test_tables_sort_by_number(tmp_path: Path) -> None:
    column = "[...table.tBodies[0].rows].map((r) => Number(r.cells[3].dataset.key))"
    setup = (
        "var table = [...document.querySelectorAll('table.sortable')].find((t) => t.textContent.includes('BTCUSDT'))"
    )

    async def question(tab: Tab) -> tuple[Any, Any, Any]:
        await tab.value(f"{setup}; 0")
        click = "table.tHead.rows[0].cells[3].querySelector('button').click()"
        await tab.value(click)
        down = await tab.value(column)
        mark = await tab.value("table.tHead.rows[0].cells[3].getAttribute('aria-sort')")
        await tab.value(click)
        return down, mark, await tab.value(column)

    data = make_report_data(days=8)
    down, mark, up = ask(page_of(tmp_path, data), tmp_path, question)
    net = sorted(round(group["net_pnl"], 9) for group in data.summary["by_asset"].values())
    assert [round(v, 9) for v in up] == net
    assert down == up[::-1]
    assert mark == "descending"


def test_the_theme_recolours_the_charts(tmp_path: Path) -> None:
    async def question(tab: Tab) -> tuple[Any, ...]:
        colour = "document.getElementById('chart-equity').data[0].line.color"
        theme = "document.documentElement.dataset.theme"
        before = await tab.value(theme), await tab.value(colour)
        await tab.value("document.getElementById('theme').click()")
        await tab.until(f"{colour} !== '{before[1]}'")
        after = await tab.value(theme), await tab.value(colour)
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        await tab.value("document.getElementById('theme').click()")
        await tab.call("Emulation.setEmulatedMedia", features=dark)
        await tab.until(f"{theme} === 'dark' && {colour} === '{after[1]}'")
        return *before, *after

    answer = ask(page_of(tmp_path, make_report_data(days=2)), tmp_path, question)
    assert answer == ("light", "#0b7285", "dark", "#45c4d8")


def test_charts_over_time_zoom_together(tmp_path: Path) -> None:
    async def question(tab: Tab) -> tuple[Any, Any]:
        charts = "['equity', 'velocity', 'leverage'].map((n) => document.getElementById('chart-' + n))"
        spans = f"{charts}.map((chart) => chart.layout.xaxis.range + '')"
        zoom = "Plotly.relayout('chart-velocity', {'xaxis.range[0]': '2021-04-06', 'xaxis.range[1]': '2021-04-07'})"
        await tab.value(f"{zoom}.then(() => 0)")
        await tab.until(f"new Set({spans}).size === 1")
        zoomed = await tab.value(spans)
        await tab.value("Plotly.relayout('chart-equity', {'xaxis.autorange': true}).then(() => 0)")
        await tab.until(f"!{spans}[1].startsWith('2021-04-06')")
        return zoomed, await tab.value(spans)

    zoomed, freed = ask(page_of(tmp_path, make_report_data(days=4)), tmp_path, question)
    assert zoomed == ["2021-04-06,2021-04-07"] * 3
    assert all(span.startswith("2021-04-0") for span in freed)


def test_a_narrow_window_does_not_scroll_sideways(tmp_path: Path) -> None:
    async def question(tab: Tab) -> Any:
        await tab.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=False)
        await tab.until("innerWidth === 390")
        return await tab.value("document.documentElement.scrollWidth")

    assert ask(page_of(tmp_path, make_report_data(days=2)), tmp_path, question) <= 390


def test_charts_keep_their_height_when_the_window_changes(tmp_path: Path) -> None:
    heights = "[...document.querySelectorAll('.plot')].map((plot) => plot.querySelector('.svg-container').clientHeight)"
    drawn = "Number(document.querySelector('#chart-equity .main-svg').getAttribute('width'))"

    async def question(tab: Tab) -> tuple[Any, Any]:
        before, wide = await tab.value(heights), await tab.value(drawn)
        await tab.call("Emulation.setDeviceMetricsOverride", width=600, height=800, deviceScaleFactor=1, mobile=False)
        await tab.until(f"{drawn} < {wide}")
        return before, await tab.value(heights)

    before, after = ask(page_of(tmp_path, make_report_data(days=2)), tmp_path, question)
    assert len(before) == len(CHARTS)
    assert min(before) > 300
    assert after == before
