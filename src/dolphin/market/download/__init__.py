"""Recorded markets from the exchange's public archive, turned into a price archive (SPEC §1).

plan   what to fetch: monthly and daily kline files
pace   how fast and how stubbornly to ask
http   one polite client per host
rest   the newest days, which the archive does not hold yet
fetch  everything to disk, verified and resumable
convert  from klines to day files
run    the steps above, as one call
"""

from dolphin.market.download.pace import Timing
from dolphin.market.download.plan import ARCHIVE_URL, INTERVALS, MARKETS, DownloadSpec
from dolphin.market.download.run import DownloadReport, describe, download

__all__ = ["ARCHIVE_URL", "INTERVALS", "MARKETS", "DownloadReport", "DownloadSpec", "Timing", "describe", "download"]
