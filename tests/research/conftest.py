"""Recorded days for the proofs of this room, imported and scanned once per test session."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from dolphin.market.archive import Archive
from dolphin.market.importer import Import, ImportSpec
from dolphin.market.tables import PriceDay, ScanDay
from dolphin.research.scanning import scan_archive
from tests.support.shared import recorded

FIAT = ("AUDUSDT", "GBPUSDT", "EURUSDT")


def import_spot(out: Path, first: date, last: date) -> Path:
    """Recorded minute closes of the spot market as an archive of prices, stamped when they became known."""
    spec = ImportSpec(
        source=recorded("spot_1m_2021"), out=out, bar_seconds=60, stamp="open", drop=FIAT, first=first, last=last
    )
    Import(spec).run()
    return out


@pytest.fixture(scope="session")
def recorded_prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recorded days of 88 pairs."""
    return import_spot(tmp_path_factory.mktemp("recorded") / "prices", date(2021, 4, 2), date(2021, 4, 7))


@pytest.fixture(scope="session")
def recorded_days(recorded_prices: Path) -> Sequence[PriceDay]:
    """The same days in memory."""
    return list(Archive.open(recorded_prices).iter_days())


@pytest.fixture(scope="session")
def recorded_scans(recorded_prices: Path) -> Sequence[ScanDay]:
    """The same days, scanned."""
    return list(scan_archive(Archive.open(recorded_prices)))
