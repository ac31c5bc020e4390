"""Downloads from a server that misbehaves, and downloads that are killed: nothing wrong kept, nothing right lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from email.utils import formatdate
from pathlib import Path

import pytest

from dolphin.core.clock import NS_PER_S
from dolphin.core.errors import ConfigError, ExchangeError
from dolphin.market.download import download
from dolphin.market.download.http import ATTEMPTS, PAUSES
from dolphin.ui.cli import run
from tests.support.archive_server import ArchiveServer, Fault
from tests.support.downloads import LATER, FakeTime, klines, leftovers, spec_for, written

FIRST, LAST = date(2024, 1, 30), date(2024, 1, 31)
BTC = "BTCUSDT-15m-2024-01-30.zip"
BTC_PATH = f"/data/futures/um/daily/klines/BTCUSDT/15m/{BTC}"
MADE = klines(FIRST, 2)


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with ArchiveServer().running() as running:
        MADE.publish(running, "um", "15m")
        yield running


def zips(server: ArchiveServer, name: str) -> list[int]:
    """First byte of every request for the zip `name`."""
    return [seen.start for seen in server.seen if seen.path.endswith(name)]


def test_a_host_without_ranges_is_asked_from_the_start(server: ArchiveServer, tmp_path: Path) -> None:
    server.ranges = False
    server.faults = [Fault(f"{BTC_PATH}#zip", cut=700)]
    report = download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())
    assert zips(server, BTC) == [0, 700]
    assert report.retries == 1
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_a_cut_connection_is_continued_where_it_broke(server: ArchiveServer, tmp_path: Path) -> None:
    server.faults = [Fault(f"{BTC_PATH}#zip", cut=700), Fault(f"{BTC_PATH}#zip", cut=400)]
    download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())
    assert zips(server, BTC) == [0, 700, 1100]


def test_a_host_that_continues_elsewhere_is_asked_from_the_start(server: ArchiveServer, tmp_path: Path) -> None:
    server.range_slip = 100
    server.faults = [Fault(f"{BTC_PATH}#zip", cut=700)]
    download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())
    assert zips(server, BTC) == [0, 700, 0]
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_a_checksum_without_its_file_is_an_absent_file(server: ArchiveServer, tmp_path: Path) -> None:
    del server.files[BTC_PATH]
    MADE.publish_rest(server, "15m")
    report = download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())
    assert (report.archive_files, report.rest_days) == (3, 1)
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


@pytest.mark.parametrize("size", [10, 10**6])
def test_a_partial_file_of_something_else_is_thrown_away(server: ArchiveServer, tmp_path: Path, size: int) -> None:
    spec = spec_for(server, tmp_path, MADE, FIRST, LAST)
    part = spec.raw / "BTCUSDT" / f"{BTC}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * size)
    download(spec, timing=FakeTime().timing())
    assert zips(server, BTC) == [size, 0]
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_a_partial_file_that_is_whole_is_only_checked(server: ArchiveServer, tmp_path: Path) -> None:
    spec = spec_for(server, tmp_path, MADE, FIRST, LAST)
    part = spec.raw / "BTCUSDT" / f"{BTC}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.files[BTC_PATH])
    download(spec, timing=FakeTime().timing())
    assert zips(server, BTC) == [len(server.files[BTC_PATH])]
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_a_wrong_checksum_is_fetched_once_more(server: ArchiveServer, tmp_path: Path) -> None:
    server.faults = [Fault(f"{BTC_PATH}#zip", lie=True)]
    download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())
    assert zips(server, BTC) == [0, 0]
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_a_checksum_that_stays_wrong_is_a_failure_and_no_archive(
    server: ArchiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults = [Fault(f"{BTC_PATH}#zip", times=99, lie=True)]
    options = ["--symbols", "BTCUSDT,ETHUSDT", "--from", str(FIRST), "--to", str(LAST), "--interval", "15m"]
    hosts = ["--archive-url", server.url, "--rest-url", server.url, "--rate", "100"]
    assert run(["data", "download", *options, *hosts, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert f"{server.url}{BTC_PATH}: SHA-256 is " in said.err
    assert "second copy was no better" in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert zips(server, BTC) == [0, 0]
    assert leftovers(tmp_path / "out") == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"12ab  other.zip\n", b"g" * 64 + b"  " + BTC.encode()])
def test_a_checksum_file_that_is_none_is_refused(server: ArchiveServer, tmp_path: Path, body: bytes) -> None:
    server.files[f"{BTC_PATH}.CHECKSUM"] = body
    with pytest.raises(ExchangeError, match=r"\.CHECKSUM: expected '<sha256>"):
        download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())


@pytest.mark.parametrize("status", [429, 418])
def test_a_demanded_pause_is_kept_by_every_transfer(server: ArchiveServer, tmp_path: Path, status: int) -> None:
    server.faults = [Fault("BTCUSDT", status=status, headers={"Retry-After": "37"})]
    now = FakeTime()
    report = download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=now.timing())
    assert (report.pauses, report.retries) == (1, 0)
    assert now.now - 1000.0 >= 37.0
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_a_pause_given_as_a_date_or_not_at_all(server: ArchiveServer, tmp_path: Path) -> None:
    until = formatdate(LATER / NS_PER_S + 90, usegmt=True)
    server.faults = [Fault("BTCUSDT", status=429, headers={"Retry-After": until}), Fault("ETHUSDT", status=429)]
    now = FakeTime()
    report = download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=now.timing())
    assert report.pauses == 2
    assert 90.0 <= now.now - 1000.0 < 130.0


def test_a_ban_of_hours_is_reported_and_not_waited_for(server: ArchiveServer, tmp_path: Path) -> None:
    server.faults = [Fault("BTCUSDT", status=418, headers={"Retry-After": "7200"})]
    now = FakeTime()
    with pytest.raises(ExchangeError, match=r"HTTP 418, the host asks for a pause of 7200 s .* lower --rate"):
        download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=now.timing())
    assert now.now < 1060.0


def test_endless_pauses_come_to_an_end(server: ArchiveServer, tmp_path: Path) -> None:
    server.faults = [Fault(f"{BTC}.CHECKSUM", times=999, status=429, headers={"Retry-After": "1"})]
    with pytest.raises(ExchangeError, match=f"pause number {PAUSES + 1}"):
        download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_that_passes_is_ridden_out(server: ArchiveServer, tmp_path: Path, status: int) -> None:
    server.faults = [Fault(f"{BTC_PATH}#zip", times=ATTEMPTS - 1, status=status)]
    now = FakeTime()
    report = download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=now.timing())
    assert report.retries == ATTEMPTS - 1
    # 0.5, 1, 2, 4, 8 s, each shortened by at most half.
    waits = [s for s in now.slept if s >= 0.25]
    assert len(waits) == ATTEMPTS - 1
    assert all(0.25 * 2**k <= wait <= 0.5 * 2**k for k, wait in enumerate(waits))
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_a_server_error_that_stays_names_the_address_and_what_to_do(server: ArchiveServer, tmp_path: Path) -> None:
    server.faults = [Fault(f"{BTC_PATH}#zip", times=999, status=503)]
    with pytest.raises(ExchangeError) as failure:
        download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())
    said = str(failure.value)
    assert said.startswith(f"{server.url}{BTC_PATH}: HTTP 503, {ATTEMPTS} times in a row")
    assert "--archive-url" in said
    assert "run the same command again" in said
    assert leftovers(tmp_path) == []
    assert len(zips(server, BTC)) == ATTEMPTS
    # ... and the run after it takes up what had arrived.
    server.faults = []
    report = download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())
    assert report.kept + report.archive_files == 4
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_a_refusal_is_not_tried_again(server: ArchiveServer, tmp_path: Path) -> None:
    server.faults = [Fault(f"{BTC_PATH}#zip", times=999, status=451)]
    with pytest.raises(ExchangeError, match=r"HTTP 451 \(fault\); the host refuses this place or client"):
        download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())
    assert len(zips(server, BTC)) == 1


def test_a_silent_host_is_left_after_the_timeout(server: ArchiveServer, tmp_path: Path) -> None:
    server.faults = [Fault(f"{BTC_PATH}#zip", cut=500, stall=True)]
    report = download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing(read_timeout=0.2))
    assert zips(server, BTC) == [0, 500]
    assert report.retries == 1
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_nobody_listens(tmp_path: Path) -> None:
    with ArchiveServer().running() as gone:
        pass
    now = FakeTime()
    with pytest.raises(ExchangeError, match=f"{ATTEMPTS} times in a row; check the network or --archive-url"):
        download(spec_for(gone, tmp_path, MADE, FIRST, LAST), timing=now.timing())


def test_the_rate_is_kept(server: ArchiveServer, tmp_path: Path) -> None:
    now = FakeTime()
    report = download(spec_for(server, tmp_path, MADE, FIRST, LAST, rate=2.0, concurrency=8), timing=now.timing())
    assert report.requests == 8
    assert now.now - 1000.0 == pytest.approx(7 / 2.0)


def test_as_many_transfers_at_once_as_asked_for(server: ArchiveServer, tmp_path: Path) -> None:
    server.delay_s = 0.03
    for concurrency, peak in ((1, 1), (3, 3)):
        server.peak = 0
        spec = spec_for(server, tmp_path / str(concurrency), MADE, FIRST, LAST, concurrency=concurrency)
        download(spec, timing=FakeTime().timing())
        assert server.peak == peak


@pytest.mark.parametrize("status", [429, 503])
def test_rest_has_the_same_patience(server: ArchiveServer, tmp_path: Path, status: int) -> None:
    server.withdraw("2024-01-31")
    MADE.publish_rest(server, "15m")
    server.faults = [Fault("/fapi/", status=status, headers={"Retry-After": "3"})]
    report = download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())
    assert report.rest_days == 2
    assert report.retries + report.pauses == 1
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"<html>", "not JSON but b'<html>'"),
        (b'{"rows": 3}', "expected a list of klines"),
        (b'[["x", "1", "1", "1", "1", "1", 2]]', "row 0 is not a kline"),
        (b'[[1706659200001, "1", "1", "1", "1", "1", 2]]', "row 0 opens at 1706659200001 ms, expected an ascending"),
        (b'[[1706572800000, "1", "1", "1", "1", "1", 2]]', "row 0 opens at 1706572800000 ms, expected an ascending"),
    ],
)
def test_rest_answers_that_are_no_klines_are_refused(
    server: ArchiveServer, tmp_path: Path, answer: bytes, says: str
) -> None:
    server.withdraw("2024-01-31")
    server.rest_answer = answer
    with pytest.raises(ExchangeError, match=says):
        download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())
    assert leftovers(tmp_path) == []


def test_a_rest_refusal_other_than_an_unknown_symbol_is_a_failure(server: ArchiveServer, tmp_path: Path) -> None:
    server.withdraw("2024-01-31")
    server.rest_answer, server.rest_status = b'{"code": -1120, "msg": "Invalid interval."}', 400
    with pytest.raises(ExchangeError, match=r"symbol=\w+USDT&interval=15m&.*: HTTP 400 .*Invalid interval.*--rest-url"):
        download(spec_for(server, tmp_path, MADE, FIRST, LAST), timing=FakeTime().timing())


# --- resuming ------------------------------------------------------------------------------------------------


def test_a_killed_download_goes_on_where_it_was(server: ArchiveServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stuck = "ETHUSDT-15m-2024-01-30.zip"
    server.faults = [Fault(f"{stuck}#zip", cut=900, stall=True)]
    options = ["--symbols", "BTCUSDT,ETHUSDT", "--from", str(FIRST), "--to", str(LAST), "--interval", "15m"]
    hosts = ["--archive-url", server.url, "--rest-url", server.url, "--rate", "100", "--concurrency", "1"]
    arguments = ["data", "download", *options, *hosts, "--out", str(out)]
    code = f"from dolphin.ui.cli import main; main({arguments!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        assert server.stalled.wait(30.0)
        spec = spec_for(server, out, MADE, FIRST, LAST)
        part = spec.raw / "ETHUSDT" / f"{stuck}.part"
        _wait_for_bytes(part, 900, process)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert leftovers(out) == []
    settled = sorted(p.name for p in spec.raw.rglob("*.zip"))
    assert settled == ["BTCUSDT-15m-2024-01-30.zip", "BTCUSDT-15m-2024-01-31.zip"]

    server.seen.clear()
    report = download(spec, timing=FakeTime().timing())
    assert report.kept == 2
    assert server.count("BTCUSDT") == 0
    assert zips(server, stuck) == [900]
    assert written(out, MADE.symbols) == MADE.expected(FIRST, LAST)
    assert not (out / "raw").exists()


def test_killed_again_and_again_it_still_arrives_and_fetches_no_verified_file_twice(
    server: ArchiveServer, tmp_path: Path
) -> None:
    server.delay_s = 0.02
    spec = spec_for(server, tmp_path / "out", MADE, FIRST, LAST)
    options = ["--symbols", "BTCUSDT,ETHUSDT", "--from", str(FIRST), "--to", str(LAST), "--interval", "15m"]
    hosts = ["--archive-url", server.url, "--rest-url", server.url, "--rate", "100", "--concurrency", "2"]
    arguments = ["data", "download", *options, *hosts, "--out", str(spec.out)]
    for requests in (1, 3, 4):
        server.seen.clear()
        kept = {p.name for p in spec.raw.rglob("*.zip")} if spec.raw.exists() else set()
        process = subprocess.Popen(
            [sys.executable, "-c", f"from dolphin.ui.cli import main; main({arguments!r})"], stderr=subprocess.DEVNULL
        )
        while len(server.seen) < requests and process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert leftovers(spec.out) == []
        assert not kept & {seen.path.rpartition("/")[2] for seen in server.seen}
    download(spec, timing=FakeTime().timing())
    assert written(spec.out, MADE.symbols) == MADE.expected(FIRST, LAST)


def _wait_for_bytes(part: Path, size: int, process: subprocess.Popen[bytes]) -> None:
    """Until the partial file has arrived on disk: the server sent it, the client needs a moment."""
    for _ in range(2000):
        if part.exists() and part.stat().st_size == size:
            return
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.005)
    raise AssertionError("the partial file did not arrive")


def test_kept_raw_files_extend_a_range_without_fetching_again(server: ArchiveServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    download(spec_for(server, out, MADE, FIRST, FIRST, keep_raw=True), timing=FakeTime().timing())
    server.seen.clear()
    spec = spec_for(server, out, MADE, FIRST, LAST, keep_raw=True, force=True)
    report = download(spec, timing=FakeTime().timing())
    assert (report.kept, report.archive_files) == (2, 2)
    assert server.count("2024-01-30") == 0
    assert written(out, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_rest_days_on_disk_are_kept(server: ArchiveServer, tmp_path: Path) -> None:
    server.withdraw("2024-01-31")
    MADE.publish_rest(server, "15m")
    download(spec_for(server, tmp_path, MADE, FIRST, LAST, keep_raw=True), timing=FakeTime().timing())
    server.seen.clear()
    spec = spec_for(server, tmp_path, MADE, FIRST, LAST, keep_raw=True, force=True)
    report = download(spec, timing=FakeTime().timing())
    assert server.count("/fapi/") == 0
    assert (report.kept, report.rest_days) == (4, 0)
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_a_kept_file_that_rotted_is_fetched_again(server: ArchiveServer, tmp_path: Path) -> None:
    spec = spec_for(server, tmp_path, MADE, FIRST, LAST, keep_raw=True)
    download(spec, timing=FakeTime().timing())
    kept = spec.raw / "BTCUSDT" / BTC
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    server.seen.clear()
    again = spec_for(server, tmp_path, MADE, FIRST, LAST, force=True)
    report = download(again, timing=FakeTime().timing())
    assert (report.kept, report.archive_files) == (3, 1)
    assert written(tmp_path, MADE.symbols) == MADE.expected(FIRST, LAST)


def test_two_downloads_do_not_share_a_folder(server: ArchiveServer, tmp_path: Path) -> None:
    spec = spec_for(server, tmp_path, MADE, FIRST, LAST)
    (tmp_path / "raw").mkdir()
    with (tmp_path / "raw" / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another download is writing there"):
            download(spec, timing=FakeTime().timing())
    assert server.seen == []
