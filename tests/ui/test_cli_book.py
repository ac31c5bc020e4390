"""`--book`, as a person meets it: a made market with its books, the run, its page, and a line for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dolphin.market.archive import Archive
from dolphin.market.bookarchive import BookArchive
from dolphin.research.warm import compile_steps
from dolphin.ui.cli import run
from tests.support.browser import dump_dom
from tests.support.runs import backtest

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    """Kernels ready, so that no line announces their compiling."""
    for step in compile_steps(scanning=True, book=True):
        step()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A market of three days and five assets, and its books."""
    root = tmp_path_factory.mktemp("made")
    command = ["data", "make", "--out", str(root / "market"), "--days", "3", "--assets", "5"]
    assert run([*command, "--books", str(root / "books")]) == 0
    return root / "market", root / "books"


def test_a_made_market_has_the_same_prices_with_and_without_books(
    made: tuple[Path, Path], tmp_path: Path, capsys: Capture
) -> None:
    command = ["data", "make", "--days", "3", "--assets", "5", "--json"]
    assert run([*command, "--out", str(tmp_path / "plain")]) == 0
    assert "books" not in json.loads(capsys.readouterr().out)
    assert Archive.open(tmp_path / "plain").identity() == Archive.open(made[0]).identity()
    assert run([*command, "--out", str(tmp_path / "m"), "--books", str(tmp_path / "b")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["books"]["content_hash"] == BookArchive.open(made[1]).identity()
    assert told["books"]["snapshots"] > 0.9 * 5 * told["bars"]


def test_from_made_books_to_a_page(made: tuple[Path, Path], tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    summary = backtest(made[0], out, "--book", str(made[1]))
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    book = summary["book"]
    assert book["hash"] == BookArchive.open(made[1]).identity()
    assert f"order book usable on {100.0 * book['bars_usable'] / book['bars']:.1f} % of bars" in told
    fired = ", ".join(f"{name[3:]}: {rule['fired']:,}" for name, rule in book["rules"].items())
    assert f"OB-1 to OB-5 fired {fired}" in told
    page = (out / "report.html").read_text()
    assert "<h2>Order book</h2>" in page
    assert "<h2>Rules of the order book</h2>" in page
    assert f"{book['rules']['OB-2']['refused']:,} refused" in page
    assert "No order book" not in page
    bare = backtest(made[0], tmp_path / "bare")
    assert bare["book"] is None
    page = (tmp_path / "bare" / "report.html").read_text()
    assert "This run had no order book" in page
    assert "the modelled edge of every close is the legacy draw" in page
    assert "order book" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_time_line_draws(made: tuple[Path, Path], tmp_path: Path) -> None:
    backtest(made[0], tmp_path / "run", "--book", str(made[1]))
    dom, console = dump_dom(tmp_path / "run" / "report.html", tmp_path)
    assert 'data-charts="drawn"' in dom
    part = dom.split('id="chart-book"')[1].split("</section>")[0]
    assert part.count('class="main-svg"') >= 2
    for name in ("no book", "calm", "neither", "stress", "imbalance", "cascade"):
        assert name in part
    assert not [line for line in console if "Uncaught" in line]


def test_runs_with_and_without_the_book_side_by_side(made: tuple[Path, Path], tmp_path: Path) -> None:
    summary = backtest(made[0], tmp_path / "both", "--book", "mock", "--compare", "none,book")
    assert [row["layers"] for row in summary["layers"]] == ["none", "book"]
    inner = json.loads((tmp_path / "both" / "book" / "summary.json").read_text())
    assert inner["book"]["source"] == "mock"
    page = (tmp_path / "both" / "report.html").read_text()
    assert "answers to no market" in page
    assert "order book: usable on 100.0 % of bars" in page


def test_why_shows_the_book(made: tuple[Path, Path], capsys: Capture) -> None:
    command = ["why", "--data", str(made[0]), "--at", "2024-01-02T14:31:00Z"]
    assert run([*command, "--book", str(made[1]), "--asset", "BTCUSDT"]) == 0
    said = capsys.readouterr().out
    assert "Order book:" in said
    assert "depth_quality" in said
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["book"] is None


def test_what_is_wrong_is_said_in_one_line(made: tuple[Path, Path], tmp_path: Path, capsys: Capture) -> None:
    market, books = made
    start = ["backtest", "--data", str(market), "--out", str(tmp_path / "run")]
    for options, words in (
        (["--book", str(tmp_path / "none")], "none: no such directory"),
        (["--book", str(market)], "manifest.json: not the manifest of recorded books"),
        (["--book", str(books / "manifest.json")], "not a directory"),
        (["--compare", "none,book"], "book needs --book; give it, or leave book out"),
    ):
        assert run([*start, *options]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
    make = ["data", "make", "--out", str(tmp_path / "m"), "--days", "1", "--assets", "2", "--bar-seconds", "900"]
    for options, words in (
        (["--books", str(tmp_path / "m")], "is the folder of --out"),
        (["--books", str(books)], "already holds 4 files"),
        (["--books", str(books / "manifest.json")], "is a file"),
    ):
        assert run([*make, *options]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
        assert not (tmp_path / "m").exists(), "nothing half-made"
    assert run([*make, "--books", str(tmp_path / "b")]) == 0
    assert run([*make, "--books", str(tmp_path / "b"), "--force"]) == 0
