"""Trials: how they are drawn, how days are chained, and that each is the engine's own run of its days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.core.codes import Direction, ExitReason
from dolphin.core.errors import ConfigError, DataError
from dolphin.core.params import build_params
from dolphin.market.archive import Archive
from dolphin.research.backtest import BacktestSpec, bars_of, run_backtest
from dolphin.research.forewarner.design import (
    KEEP,
    TrainSpec,
    Trial,
    block_starts,
    bootstrap,
    design,
    latin_hypercube,
    spell,
)
from dolphin.research.forewarner.store import PART, TrialStore, store_of
from dolphin.research.forewarner.trials import (
    DayBank,
    Outcome,
    chained,
    load_days,
    run_trial,
    run_trials,
    seam_factors,
    usable_days,
)
from dolphin.risk.forewarner.space import MC_BASE_CFG, NAMES, SPACE
from tests.support.runs import FIRST, price_archive_of, scan_archive_of, scan_days, write_days

RISKY = {**MC_BASE_CFG, "max_leverage": 15.0, "abs_max_leverage": 15.0, "fraction": 0.6, "max_hold_bars": 40.0}


def day(k: int) -> date:
    return FIRST + timedelta(days=k)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scan_archive_of(tmp_path_factory.mktemp("trials") / "scans", 4, drift=0.1)


@pytest.fixture(scope="module")
def bank(archive: Path) -> DayBank:
    return load_days(TrainSpec(data=archive))


# --- drawing


def test_each_slice_of_every_axis_holds_one_point() -> None:
    points = latin_hypercube(50, 3, np.random.default_rng(1))
    assert points.shape == (50, 3)
    for axis in points.T:
        assert sorted((axis * 50).astype(int)) == list(range(50))
    assert abs(np.corrcoef(points.T)[0, 1]) < 0.4, "axes are shuffled apart"


def test_the_same_seed_gives_the_same_trials_and_another_gives_others() -> None:
    days = [day(k) for k in range(10)]
    spec = TrainSpec(data=Path("x"), trials=60)
    assert design(spec, days) == design(replace(spec, workers=9), days)
    assert design(spec, days)[:5] != design(replace(spec, seed=8), days)[:5]


def test_half_of_the_parameters_stay_the_champion_s_and_the_bets_never_do() -> None:
    trials = design(TrainSpec(data=Path("x"), trials=1000), [day(k) for k in range(10)])
    for p in SPACE:
        kept = np.mean([t.values[p.name] == MC_BASE_CFG[p.name] for t in trials])
        assert kept < 0.02 if p.riskier else KEEP - 0.06 < kept < KEEP + 0.08, p.name
        values = [t.values[p.name] for t in trials]
        assert p.low <= min(values) < max(values) <= p.high


def test_blocks_hold_consecutive_recorded_days() -> None:
    days = [day(k) for k in (0, 1, 2, 5, 6)]
    assert block_starts(days, 2) == [day(0), day(1), day(5)]
    assert block_starts(days, 3) == [day(0)]
    with pytest.raises(DataError, match=r"--block-days 4: the archive's 5 usable day\(s\) hold no 4 in a row"):
        block_starts(days, 4)
    seen = set()
    for seed in range(50):
        blocks = bootstrap(block_starts(days, 2), 5, 2, np.random.default_rng(seed))
        assert [len(b) for b in blocks] == [2, 2, 1]
        assert all(b[-1] - b[0] == timedelta(days=len(b) - 1) and set(b) <= set(days) for b in blocks)
        seen |= {b[0] for b in blocks}
    assert seen == {day(0), day(1), day(5)}
    assert spell(((day(0), day(1)), (day(5),))) == "2024-01-01 2024-01-02 | 2024-01-06"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": 39}, "--trials 39: expected 40 to 1000000"),
        ({"days_per_trial": 0}, "--days-per-trial 0"),
        ({"block_days": 6}, "--block-days 6: expected 1 to 5"),
        ({"workers": 0}, "--workers 0"),
        ({"seed": -1}, "--seed -1"),
        ({"capital": float("nan")}, "--capital nan"),
        ({"capital": 0.0}, "--capital 0: expected a positive number"),
        ({"first": day(2), "last": day(1)}, "--from 2024-01-03: after --to 2024-01-02"),
    ],
)
def test_bad_numbers_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        replace(TrainSpec(data=Path("x")), **changes).check()  # type: ignore[arg-type]


# --- chaining


def test_a_seam_by_hand() -> None:
    # The second block's first prices are 50 and (from its second day) 8; an asset without a price stays as recorded.
    last = np.array([100.0, 4.0, np.nan, 7.0])
    firsts = [np.array([50.0, np.nan, 3.0, np.nan]), np.array([60.0, 8.0, 3.0, np.nan])]
    assert seam_factors(last, firsts).tolist() == [2.0, 0.5, 1.0, 1.0]


def test_no_return_is_made_up_at_a_seam(bank: DayBank) -> None:
    blocks = ((day(2), day(3)), (day(0), day(1)), (day(3),))
    path, flags = [], []
    for follows, when, factors in chained(bank, blocks):
        closes = bank.days[when].closes
        path.append(closes if factors is None else closes * factors)
        flags.append(follows)
    assert flags == [True, True, False, True, False]
    for before, after, follows, recorded in zip(path[:-1], path[1:], flags[1:], (3, 0, 1, 3), strict=True):
        step = after[0] / before[-1] - 1.0
        if not follows:
            assert np.abs(step).max() < 1e-12
        inside = bank.days[day(recorded)].closes
        assert after[1:] / after[:-1] == pytest.approx(inside[1:] / inside[:-1], rel=1e-12)
    within = path[1][0] / path[0][-1]
    assert within == pytest.approx(bank.days[day(3)].closes[0] / bank.days[day(2)].closes[-1], rel=1e-12)


def test_stumps_are_no_days(tmp_path: Path) -> None:
    days = scan_days(4)
    short = replace(
        days[3], ts_ns=days[3].ts_ns[:150], closes=days[3].closes[:150],
        scan_number=days[3].scan_number[:150], signals=days[3].signals[:150],
    )  # fmt: skip
    folder = write_days(tmp_path / "a", [*days[:3], short])
    assert usable_days(Archive.open(folder)) == (day(0), day(1), day(2))
    assert list(load_days(TrainSpec(data=folder)).days) == [day(0), day(1), day(2)]


def test_prices_are_scanned_and_a_market_without_a_signal_is_refused(tmp_path: Path) -> None:
    prices = price_archive_of(tmp_path / "p", 2, assets=4)
    loaded = load_days(TrainSpec(data=prices))
    assert np.isfinite(loaded.days[day(1)].bars.vel_div).all()
    with pytest.raises(DataError, match="no bar has a signal"):
        load_days(TrainSpec(data=write_days(tmp_path / "q", [d_of(prices, 100)])))


def d_of(folder: Path, rows: int) -> object:
    whole = Archive.open(folder).read(day(0))
    return replace(whole, ts_ns=whole.ts_ns[:rows], closes=whole.closes[:rows])


# --- running


def test_a_trial_is_the_engine_run_by_hand(archive: Path, bank: DayBank) -> None:
    scans = {d.day: d for d in Archive.open(archive).iter_days()}
    engine = NDAlphaEngine(build_params({**texts(RISKY), "ob_edge_bps": "0"}), bank.assets, Direction.SHORT, 25_000.0)
    trades = 0
    scale = np.ones(4)
    before: np.ndarray | None = None
    for when, follows in ((day(1), True), (day(2), True), (day(0), False), (day(1), True)):
        if not follows and before is not None:
            scale = before / scans[when].closes[0]
        trades += len(engine.begin_day(when, contiguous=follows))
        closes = scans[when].closes * scale
        trades += len(engine.process_bars(bars_of(scans[when]), closes)[1])
        before = closes[-1]
    trades += len(engine.close_open(ExitReason.END_OF_DATA))
    outcome = run_trial(bank, Trial(0, RISKY, ((day(1), day(2)), (day(0), day(1)))), 25_000.0)
    assert trades > 20
    assert (outcome.roi, outcome.trades) == (engine.capital / 25_000.0 - 1.0, trades)
    assert outcome.max_drawdown == engine.state.core.max_drawdown > 0.0


def test_a_trial_of_one_block_is_a_backtest(archive: Path, bank: DayBank) -> None:
    outcome = run_trial(bank, Trial(0, RISKY, ((day(0), day(1), day(2), day(3)),)), 10_000.0)
    run = run_backtest(BacktestSpec(archive, capital=10_000.0, overrides={**texts(RISKY), "ob_edge_bps": "0"}))
    assert outcome == Outcome(0, run.capital_end / 10_000.0 - 1.0, run.max_drawdown, len(run.trades))


def texts(values: dict[str, float]) -> dict[str, str]:
    whole = {p.name for p in SPACE if p.integer}
    return {name: str(int(v)) if name in whole else repr(v) for name, v in values.items()}


@pytest.mark.parametrize(
    ("roi", "drawdown", "lost"),
    [
        (0.1, 0.1, False),
        (-0.25, 0.35, False),
        (-0.2500001, 0.1, True),
        (0.5, 0.3500001, True),
        (float("nan"), 0.1, True),
        (0.1, float("nan"), True),
        (float("inf"), 0.1, True),
    ],
)
def test_what_a_catastrophe_is(roi: float, drawdown: float, lost: bool) -> None:
    assert Outcome(0, roi, drawdown, 1).catastrophe is lost


def test_workers_do_not_change_a_trial(archive: Path, bank: DayBank) -> None:
    spec = TrainSpec(data=archive, trials=60)
    trials = design(spec, list(bank.days))
    alone = list(run_trials(bank, trials, replace(spec, workers=1)))
    assert list(run_trials(bank, trials, replace(spec, workers=3))) == alone
    assert [o.number for o in alone] == list(range(60))
    assert len({o.roi for o in alone}) > 40


# --- the store


def stopped(inner: Callable[..., object], after: int) -> Callable[..., object]:
    def compute(missing: object) -> object:
        for k, outcome in enumerate(inner(missing)):  # type: ignore[arg-type,var-annotated]
            if k == after:
                raise KeyboardInterrupt
            yield outcome

    return compute


def test_an_interrupted_training_goes_on_where_it_was(archive: Path, bank: DayBank, tmp_path: Path) -> None:
    spec = TrainSpec(data=archive, trials=130)
    trials = design(spec, list(bank.days))

    def compute(missing: list[Trial]) -> object:
        return run_trials(bank, missing, spec)

    whole = list(compute(trials))  # type: ignore[call-overload]
    store = TrialStore(tmp_path / "m.trials", {"seed": 7})
    store.open(force=False)
    with pytest.raises(KeyboardInterrupt):
        store.complete(trials, stopped(compute, 60))  # type: ignore[arg-type]
    assert len(store.finished(trials)) == 60, "one part of 50, and the ten that were done"
    again = TrialStore(tmp_path / "m.trials", {"seed": 7})
    again.open(force=False)
    asked: list[int] = []
    told: list[int] = []

    def counted(missing: list[Trial]) -> object:
        asked.extend(t.number for t in missing)
        return compute(missing)

    assert again.complete(trials, counted, told.append) == whole  # type: ignore[arg-type]
    assert asked == list(range(60, 130))
    assert (told[0], sum(told)) == (60, 130)
    assert len(list(again.folder.glob("part_*.parquet"))) == 4 == 2 + -(-70 // PART)
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_torn_part_is_computed_again(bank: DayBank, tmp_path: Path) -> None:
    trials = [Trial(k, RISKY, ((day(0),),)) for k in range(PART)]
    store = TrialStore(tmp_path / "s", {})
    store.open(force=False)
    whole = store.complete(trials, lambda missing: run_trials(bank, missing, TrainSpec(data=Path("x"))))
    (part,) = store.folder.glob("part_*")
    part.write_bytes(part.read_bytes()[:100])
    assert store.finished(trials) == {}
    assert store.complete(trials, lambda missing: run_trials(bank, missing, TrainSpec(data=Path("x")))) == whole


def test_another_training_s_store_is_refused(tmp_path: Path) -> None:
    TrialStore(tmp_path / "s", {"seed": 7, "data": {"hash": "a"}}).open(force=False)
    for identity, words in (
        ({"seed": 8, "data": {"hash": "a"}}, "seed 7, now 8"),
        ({"seed": 7, "data": {"hash": "b"}}, "another data"),
    ):
        other = TrialStore(tmp_path / "s", identity)
        with pytest.raises(DataError, match=f"holds trials of another training \\({words}\\).*--force"):
            other.open(force=False)
    other.open(force=True)
    other.open(force=False)
    (tmp_path / "s" / "store.json").write_text("{")
    with pytest.raises(DataError, match=r"store\.json cannot be read"):
        other.open(force=False)
    (tmp_path / "s" / "store.json").write_text("[]")
    with pytest.raises(DataError, match=r"store\.json holds no object"):
        other.open(force=False)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letters.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(DataError, match="is no store of trials"):
            TrialStore(foreign, {}).open(force=force)
    assert (foreign / "letters.txt").exists()


def test_a_store_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        TrialStore(tmp_path / "file" / "s", {}).open(force=False)


def test_the_store_lies_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_of(Path("a/m")) == Path("a/m.trials")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert store_of(Path()) == tmp_path / "here.trials"
    assert store_of(Path("..")).name == f"{tmp_path.name}.trials"


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)
