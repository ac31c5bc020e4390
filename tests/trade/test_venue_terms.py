"""What no venue can be asked for is refused in one line, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from nautilus_trader.common.component import set_backtest_force_stop

from dolphin.core.errors import ConfigError, DataError, DolphinError
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.nautilus.backtest import run_venue
from dolphin.trade.venue import FRICTIONLESS, VenueModel, check_leverage
from tests.support.venue_runs import DAY, LastEvent, after, block, instrument, model, spec


def untouched() -> Iterator[ScanBlock]:
    raise AssertionError("no day may be read before the terms are sound")
    yield


def one_line(error: pytest.ExceptionInfo[DolphinError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({"spread_bps": -1.0}, "--spread-bps -1: expected 0 or more and less than 1000"),
        ({"spread_bps": float("nan")}, "--spread-bps nan: expected 0 or more and less than 1000"),
        ({"spread_bps": 1000.0}, "--spread-bps 1000: expected 0 or more and less than 1000"),
        ({"slippage_bps": float("inf")}, "--slippage-bps inf: expected 0 or more and less than 1000"),
        ({"latency_ms": -0.1}, "--latency-ms -0.1: expected 0 or more and less than 60000"),
        ({"latency_ms": 60_000.0}, "--latency-ms 60000: expected 0 or more and less than 60000"),
        ({"leverage": 0}, "--account-leverage 0: expected 1 or more"),
        ({"stop_pct": 0.0}, "--protective-stop 0: expected a fraction between 0 and 1, or off"),
        ({"stop_pct": 1.0}, "--protective-stop 1: expected a fraction between 0 and 1, or off"),
        ({"stop_pct": float("nan")}, "--protective-stop nan: expected a fraction between 0 and 1, or off"),
    ],
)
def test_a_model_that_no_venue_has(terms: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        VenueModel(**terms).check(60.0)
    assert one_line(error) == told
    with pytest.raises(ConfigError) as error:
        run_venue(untouched(), spec(VenueModel(**terms)))
    assert one_line(error) == told


def test_latency_is_measured_against_the_bar() -> None:
    VenueModel(latency_ms=4_999.0).check(5.0)
    with pytest.raises(ConfigError, match=r"--latency-ms 5000: expected 0 or more and less than 5000"):
        VenueModel(latency_ms=5_000.0).check(5.0)


@pytest.mark.parametrize("terms", [VenueModel(), FRICTIONLESS, VenueModel(stop_pct=0.999, spread_bps=999.0)])
def test_sound_terms_pass_and_can_be_written_down(terms: VenueModel) -> None:
    terms.check(60.0)
    assert {"fill_model", "latency_model", "spread_bps", "leverage"} <= set(terms.plain())


def test_leverage_above_what_an_instrument_allows() -> None:
    assets = [instrument(f"A{k}USDT", max_leverage=20 - k) for k in range(8)]
    check_leverage(assets, model(leverage=13))
    with pytest.raises(ConfigError) as error:
        check_leverage(assets, model(leverage=14))
    assert one_line(error) == ("--account-leverage 14: above the venue's limit for A7USDT 13; expected at most 13")
    with pytest.raises(ConfigError) as error:
        run_venue(untouched(), spec(model(leverage=50), assets))
    assert one_line(error) == (
        "--account-leverage 50: above the venue's limit for A7USDT 13, A6USDT 14, A5USDT 15, A4USDT 16, A3USDT 17 and "
        "3 more; expected at most 13"
    )


def test_no_day() -> None:
    with pytest.raises(DataError) as error:
        run_venue(iter([]), spec(model()))
    assert one_line(error) == "venue run: no day to trade; expected at least one"


def test_an_account_without_capital() -> None:
    with pytest.raises(ConfigError) as error:
        run_venue(iter([block([100.0, 101.0])]), spec(model(), capital=0.0))
    assert one_line(error) == "actor: the account at BINANCE holds 0 USDT; expected more than 0"


def test_a_profile_that_there_is_not() -> None:
    with pytest.raises(ConfigError) as error:
        run_venue(iter([block([100.0, 101.0])]), spec(model(), profile="red"))
    assert one_line(error) == "actor: profile 'red'; expected blue or green"


class Breaks(LastEvent):
    """Stops Nautilus as its own account errors do, when the second day begins."""

    def begin_day(self, block: ScanBlock) -> None:
        if block.day > DAY:
            set_backtest_force_stop(True)


def test_a_run_that_nautilus_breaks_off_is_no_result() -> None:
    days = [block([100.0] * 5), block([100.0] * 5, day=after(1)), block([100.0] * 5, day=after(2))]
    with pytest.raises(DolphinError) as error:
        run_venue(iter(days), spec(model()), Breaks())
    assert one_line(error) == (
        "venue run: NautilusTrader stopped after 6 bars, at 2024-01-02T00:00:00Z; expected all of them"
    )
    assert run_venue(iter(days), spec(model())).counts.bars == 15


def test_a_price_table_of_other_assets() -> None:
    with pytest.raises(DolphinError) as error:
        run_venue(iter([block([100.0, 101.0])]), spec(model(), [instrument("BTCUSDT"), instrument("ETHUSDT")]))
    assert "closes" in one_line(error)
