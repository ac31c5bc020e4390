"""Histories become dates without a look into the future, and in the right unit (SPEC §1.3, §9)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.clock import date_start_ns, iso_to_ns, ns_to_date
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.factorfiles import FACTORS, factor_dates, read_factors
from dolphin.market.factorhistory import History, read_dvol, read_fear_greed, read_funding, read_histories
from dolphin.market.factorimport import FactorImport, by_date
from tests.support.shared import recorded

near = pytest.approx
D = date(2023, 7, 10)


def ms(text: str) -> int:
    return iso_to_ns(text) // 1_000_000


def pairs(path: Path, rows: Sequence[tuple[str, float]]) -> Path:
    path.write_text(json.dumps([[ms(stamp), value] for stamp, value in rows]))
    return path


def histories(folder: Path) -> Path:
    """Three days of every history, funding in percent, eight hours apart and some milliseconds late."""
    folder.mkdir()
    (folder / "fear_greed_index.csv").write_text(
        "timestamp,value,value_classification\n"
        "2023-07-08 00:00:00+00:00,20.0,Extreme Fear\n2023-07-09 00:00:00+00:00,30.0,Fear\n"
        "2023-07-10 00:00:00+00:00,60.0,Greed\n"
    )
    pairs(folder / "dvol_btc.json", [("2023-07-08", 51.0), ("2023-07-10", 90.0)])
    pairs(
        folder / "funding_rate_btc.json",
        [
            ("2023-07-09T00:00:00.005Z", 0.01), ("2023-07-09T08:00:00Z", 0.02), ("2023-07-09T16:00:00.001Z", -0.015),
            ("2023-07-10T00:00:00Z", 0.03), ("2023-07-10T08:00:00Z", 0.04),
        ],
    )  # fmt: skip
    return folder


def values_of(folder: Path, day: date) -> dict[str, float]:
    return {name: scans[0] for name, scans in read_factors(folder, day).items() if scans and scans[0] == scans[0]}


def test_a_date_by_hand(tmp_path: Path) -> None:
    report = FactorImport(histories(tmp_path / "src"), tmp_path / "out").run()
    out = tmp_path / "out"
    # 10 July: Fear & Greed of the 9th, the settlement of the 9th at 16:00 as a fraction, no DVOL of the 9th.
    assert values_of(out, D) == {"fng": 30.0, "funding_btc": near(-0.00015, rel=1e-12)}
    assert values_of(out, D - timedelta(days=1)) == {"fng": 20.0, "dvol_btc": 51.0}
    assert values_of(out, D + timedelta(days=1)) == {"fng": 60.0, "dvol_btc": 90.0, "funding_btc": near(0.0004)}
    assert (report.dates, report.first, report.last) == (3, D - timedelta(days=1), D + timedelta(days=1))
    assert report.have == {"funding_btc": 2, "dvol_btc": 2, "fng": 3, "taker": 0}
    assert report.missing == {"funding_btc": 1, "dvol_btc": 1, "fng": 0, "taker": 3}
    assert [p.name for p in sorted((out / str(D)).iterdir())] == ["scan_000001__Indicators.npz"]


def test_the_settlement_at_midnight_is_not_known_before_it(tmp_path: Path) -> None:
    """Neither the one stamped midnight sharp nor the one some milliseconds later is the new date's."""
    for stamp in ("2023-07-10T00:00:00Z", "2023-07-10T00:00:00.016Z"):
        stamps = (iso_to_ns("2023-07-09T16:00:00Z"), iso_to_ns(stamp))
        days = by_date([History("funding_btc", tmp_path, stamps, (1e-4, 9e-4))])
        assert days == {D: {"funding_btc": 1e-4}, D + timedelta(days=1): {"funding_btc": 9e-4}}
    just = by_date([History("funding_btc", tmp_path, (iso_to_ns("2023-07-09T23:59:59.999Z"),), (2e-4,))])
    assert just == {D: {"funding_btc": 2e-4}}


STAMPS = st.lists(
    st.integers(date_start_ns(date(2020, 1, 1)), date_start_ns(date(2020, 3, 1))), min_size=1, max_size=60, unique=True
).map(sorted)


@given(STAMPS)
def test_only_what_was_known_before_midnight(stamps: list[int]) -> None:
    """Each date holds the latest value published on the day before it; a value can name itself by its stamp."""
    days = by_date([History("fng", Path("x"), tuple(stamps), tuple(float(s) for s in stamps))])
    for day, values in days.items():
        midnight = date_start_ns(day)
        before = [s for s in stamps if s < midnight]
        assert values["fng"] == float(before[-1])
        assert ns_to_date(before[-1]) == day - timedelta(days=1)
    assert set(days) == {ns_to_date(s) + timedelta(days=1) for s in stamps}


@given(STAMPS, st.integers(0, 59))
def test_the_future_of_a_history_changes_no_earlier_date(stamps: list[int], at: int) -> None:
    def cut(kept: list[int]) -> dict[date, dict[str, float]]:
        return by_date([History("fng", Path("x"), tuple(kept), tuple(float(s) for s in kept))])

    at %= len(stamps)
    whole, part = cut(stamps), cut(stamps[:at])
    known = ns_to_date(stamps[at])  # the date during which the first cut value appears
    assert {d: v for d, v in part.items() if d <= known} == {d: v for d, v in whole.items() if d <= known}


# --- units ---


def test_percent_becomes_a_fraction(tmp_path: Path) -> None:
    path = pairs(tmp_path / "f.json", [("2023-07-09", 0.01), ("2023-07-10", -0.25)])
    assert read_funding(path).values == (near(0.0001), near(-0.0025))


def test_funding_beyond_belief_is_refused(tmp_path: Path) -> None:
    path = pairs(tmp_path / "f.json", [("2023-07-09", 0.01), ("2023-07-10T08:00:00Z", 3.1)])
    with pytest.raises(DataError, match=r"f\.json: entry 1, 2023-07-10T08:00:00Z, gives funding_btc 0\.031"):
        read_funding(path)


@pytest.mark.parametrize(("typical", "unit"), [(0.0001, "fractions"), (1.0, "basis points")])
def test_a_history_in_another_unit_is_refused(tmp_path: Path, typical: float, unit: str) -> None:
    start = datetime(2023, 7, 1, tzinfo=UTC)
    rows = [((start + timedelta(hours=8 * k)).isoformat(), typical * (1 + k % 3)) for k in range(90)]
    with pytest.raises(DataError, match=f"seems to hold {unit}, convert it to percent"):
        read_funding(pairs(tmp_path / "f.json", rows))


@pytest.mark.parametrize("value", [0.55, 4000.0, -3.0])
def test_dvol_in_another_unit_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(DataError, match="expected 5 to 400: check its unit"):
        read_dvol(pairs(tmp_path / "d.json", [("2023-07-09", value)]))


# --- bad histories ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read as JSON"),
        ("{}", "holds a dict"),
        ("[]", "holds no value"),
        ("[[1688860800000]]", "entry 0 is [1688860800000]"),
        ('[["2023", 50]]', "expected [milliseconds, value]"),
        ("[[1688860800000, null]]", "entry 0"),
        ("[[1688860800000, true]]", "entry 0"),
        ("[[1688860800000, NaN]]", "gives dvol_btc nan"),
        ("[[1688860800, 50]]", "expected milliseconds from 2009"),
        ("[[1688947200000, 50], [1688860800000, 50]]", "entry 1, 2023-07-09T00:00:00Z, is not later"),
        ("[[1688860800000, 50], [1688860800000, 51]]", "is not later"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_json_that_is_no_history(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "dvol_btc.json"
    path.write_text(text)
    with pytest.raises(DataError) as met:
        read_dvol(path)
    assert words in str(met.value)
    assert "dvol_btc.json" in str(met.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'timestamp'"),
        ("timestamp,fear\n2023-07-09,3\n", "no column 'value'"),
        ("timestamp,value\n", "holds no value"),
        ("timestamp,value\nyesterday,3\n", "line 2: 'yesterday' is not a time"),
        ("timestamp,value\n2023-07-09,\n", "line 2: value '' is no number"),
        ("timestamp,value\n2023-07-09\n", "line 2: value None is no number"),
        ("timestamp,value\n2023-07-09,101\n", "gives fng 101; expected 0 to 100"),
        ("timestamp,value\n2023-07-09,nan\n", "gives fng nan"),
        ("timestamp,value\n2023-07-09,5\n2023-07-09,5\n", "is not later"),
    ],
)
def test_csv_that_is_no_history(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "fear_greed_index.csv"
    path.write_text(text)
    with pytest.raises(DataError) as met:
        read_fear_greed(path)
    assert words in str(met.value)


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "fear_greed_index.csv"
    path.write_bytes(b"timestamp,value\n\xff\xfe,3\n")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_fear_greed(path)


def test_folders_without_histories(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such directory"):
        read_histories(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no history; expected one or more of fear_greed_index\.csv"):
        read_histories(tmp_path)


# --- the folder ---


def test_a_range_and_what_it_leaves(tmp_path: Path) -> None:
    src = histories(tmp_path / "src")
    report = FactorImport(src, tmp_path / "out", D, D).run()
    assert factor_dates(tmp_path / "out") == (D,)
    assert (report.first, report.last) == (D, D)
    with pytest.raises(DataError, match="the histories serve 2023-07-09 to 2023-07-11"):
        FactorImport(src, tmp_path / "x", date(2024, 1, 1))
    with pytest.raises(ConfigError, match="swap them"):
        FactorImport(src, tmp_path / "x", D, D - timedelta(days=1))
    with pytest.raises(ConfigError, match="is the source itself"):
        FactorImport(src, src)


def test_what_is_there_is_replaced_only_by_force_and_kept_aside(tmp_path: Path) -> None:
    task = FactorImport(histories(tmp_path / "src"), tmp_path / "out")
    task.run()
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(DataError, match="--force to replace"):
        task.run()
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    for _ in range(2):
        task.run(force=True, clock=lambda: iso_to_ns("2024-05-06"))
    kept = {"out.STALE_20240506", "out.STALE_20240506.1"}
    assert {p.name for p in tmp_path.iterdir()} == {*before, *kept}
    for name in ("out", *kept):
        assert len(factor_dates(tmp_path / name)) == 3


def test_other_people_s_files_are_never_touched(tmp_path: Path) -> None:
    task = FactorImport(histories(tmp_path / "src"), tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("mine")
    with pytest.raises(DataError, match=r"holds thesis\.doc"):
        task.run(force=True)
    assert (tmp_path / "out" / "thesis.doc").read_text() == "mine"
    (tmp_path / "file").write_text("")
    task.out = tmp_path / "file"
    with pytest.raises(DataError, match="is a file"):
        task.run(force=True)


def test_an_empty_folder_is_filled_and_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    src = histories(tmp_path / "src")
    counted: list[int] = []
    FactorImport(src, tmp_path / "out").run(counted.append)
    assert counted == [1, 1, 1]
    FactorImport(src, tmp_path / "a" / "b" / "out").run()
    assert len(factor_dates(tmp_path / "a" / "b" / "out")) == 3


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = FactorImport(histories(tmp_path / "src"), tmp_path / "a" / "out")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dolphin.market.factorimport._put", fails)
    with pytest.raises(DataError, match="No space left"):
        task.run()
    assert [p.name for p in tmp_path.iterdir()] == ["src"]


# --- recorded ---


def test_the_recorded_histories(tmp_path: Path) -> None:
    """Facts of the files: the gap of 11 November 2025 in DVOL, November 2022's shock, percent turned into fractions."""
    source = recorded("factors")
    task = FactorImport(source, tmp_path / "out", date(2022, 11, 4), date(2025, 11, 13))
    assert "dvol_btc" not in task.days[date(2025, 11, 12)]
    assert task.days[date(2022, 11, 10)]["dvol_btc"] == 114.72  # stamped the 9th
    assert task.days[date(2022, 11, 4)]["funding_btc"] == near(0.00006899, rel=0.9)
    first = json.loads((source / "funding_rate_btc.json").read_text())
    last_of_the_third = [v for stamp, v in first if date(2022, 11, 3) == ns_to_date(stamp * 1_000_000)][-1]
    assert task.days[date(2022, 11, 4)]["funding_btc"] == last_of_the_third / 100.0
    sizes = sorted(abs(v["funding_btc"]) for v in task.days.values() if "funding_btc" in v)
    assert 1e-5 < sizes[len(sizes) // 2] < 2e-4
    task = FactorImport(source, tmp_path / "out", date(2023, 7, 3), date(2023, 7, 23))
    report = task.run()
    assert report.dates == 21
    assert report.missing == {"funding_btc": 0, "dvol_btc": 0, "fng": 0, "taker": 21}
    assert set(values_of(tmp_path / "out", date(2023, 7, 10))) == set(FACTORS) - {"taker"}
