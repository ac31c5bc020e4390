"""From raw klines to days, against a plain dictionary: whatever the files, the holes and the months."""

from __future__ import annotations

import tempfile
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.clock import NS_PER_S, date_start_ns
from dolphin.market.download import DownloadSpec
from dolphin.market.download.convert import price_days
from dolphin.market.download.fetch import Fetched
from dolphin.market.download.plan import days_between
from tests.support.archive_server import kline_row

BAR = 14_400  # 4 h: six klines a day, so that months are cheap
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@settings(max_examples=60, deadline=None)
@given(
    first=st.dates(date(2023, 1, 20), date(2024, 3, 5)),
    days=st.integers(1, 45),
    data=st.data(),
)
def test_days_hold_exactly_the_klines_stamped_within_them(first: date, days: int, data: st.DataObject) -> None:
    last = first + timedelta(days=days - 1)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    share = data.draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    want: dict[int, dict[str, float]] = {}
    fetched = Fetched()
    with tempfile.TemporaryDirectory() as folder:
        spec = DownloadSpec(symbols=SYMBOLS, first=first, last=last, out=Path(folder), interval="4h")
        for symbol in SYMBOLS:
            for day in days_between(first, last):
                if rng.random() > share:
                    continue
                path = Path(folder) / f"{symbol}-{day}.rest.csv"
                lines = []
                for k in np.flatnonzero(rng.random(6) < 0.8):
                    open_s = date_start_ns(day) // NS_PER_S + int(k) * BAR
                    price = float(np.round(rng.uniform(0.5, 99.0), 4))
                    lines.append(kline_row(open_s, price, BAR, 1000))
                    stamp = (open_s + BAR) * NS_PER_S
                    if stamp < date_start_ns(last + timedelta(days=1)):
                        want.setdefault(stamp, {})[symbol] = price
                path.write_text("".join(f"{line}\n" for line in lines))
                fetched.add(symbol, day, day, path)
        made = list(price_days(spec, fetched))
    got: dict[int, dict[str, float]] = {}
    for day in made:
        assert day.assets == tuple(s for s in SYMBOLS if s in fetched.files)
        assert day.closes.flags.c_contiguous
        assert day.rows > 0
        assert (np.diff(day.ts_ns) > 0).all()
        assert date_start_ns(day.day) <= day.ts_ns[0]
        assert day.ts_ns[-1] < date_start_ns(day.day + timedelta(days=1))
        for stamp, row in zip(day.ts_ns.tolist(), day.closes.tolist(), strict=True):
            got[stamp] = {a: c for a, c in zip(day.assets, row, strict=True) if c == c}
    assert got == want
    assert [d.day for d in made] == sorted({d.day for d in made})
