"""Factor files: written whole, read without pickles, refused with one clear line (SPEC §1.3, §1.4, §9)."""

from __future__ import annotations

import io
import math
import os
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.errors import DataError
from dolphin.market.factorfiles import (
    FACTORS,
    factor_dates,
    first_scans,
    read_factors,
    read_w750,
    write_indicators,
    write_scan_global,
)

DAY = date(2024, 3, 1)
ALL = {"funding_btc": -0.00012, "dvol_btc": 61.25, "fng": 33.0, "taker": 0.87}


def put(folder: Path, name: str, **arrays: Any) -> Path:
    """A hand-made file in the date's folder, pickles allowed."""
    path = folder / str(DAY) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def raw(folder: Path, content: bytes, name: str = "scan_000001__Indicators.npz") -> Path:
    path = folder / str(DAY) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# --- what is written is read ---


def test_there_and_back(tmp_path: Path) -> None:
    path = write_indicators(tmp_path, DAY, 7, ALL)
    assert path == tmp_path / "2024-03-01" / "scan_000007__Indicators.npz"
    assert write_scan_global(tmp_path, DAY, 7, -0.0031).name == "scan_000007__scan_global.npz"
    assert read_factors(tmp_path, DAY) == {name: [value] for name, value in ALL.items()}
    assert read_w750(tmp_path, DAY) == [-0.0031]
    assert factor_dates(tmp_path) == (DAY,)
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, "scan_000007__scan_global.npz"]


@given(st.dictionaries(st.sampled_from(FACTORS), st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_every_finite_value_survives_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, float]
) -> None:
    folder = tmp_path_factory.mktemp("f")
    write_indicators(folder, DAY, 0, values)
    for name, (met,) in read_factors(folder, DAY).items():
        assert met.hex() == values[name].hex() if name in values else math.isnan(met)


def test_same_values_same_bytes(tmp_path: Path) -> None:
    a, b = (write_indicators(tmp_path / name, DAY, 1, ALL).read_bytes() for name in "ab")
    assert a == b


def test_the_first_ten_scans_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (1_200_000, *range(30, 2, -3), 7):
        if number > 999_999:  # the counter of a scanner may have grown beyond six digits
            put(tmp_path, f"scan_{number}__Indicators.npz", taker=np.float64(number))
        else:
            write_indicators(tmp_path, DAY, number, {"taker": float(number)})
    assert read_factors(tmp_path, DAY)["taker"] == [3, 6, 7, 9, 12, 15, 18, 21, 24, 27]


def test_a_broken_eleventh_scan_is_never_opened(tmp_path: Path) -> None:
    for number in range(10):
        write_indicators(tmp_path, DAY, number, ALL)
    raw(tmp_path, b"torn", "scan_000010__Indicators.npz")
    assert len(read_factors(tmp_path, DAY)["fng"]) == 10


def test_missing_stays_missing(tmp_path: Path) -> None:
    write_indicators(tmp_path, DAY, 1, {"fng": 20.0})
    put(tmp_path, "scan_000002__Indicators.npz", fng=np.array([np.nan]), taker=np.float32(0.5), eth_gas=np.zeros(3))
    met = read_factors(tmp_path, DAY)
    assert met["fng"][0] == 20.0
    assert math.isnan(met["fng"][1])
    assert math.isnan(met["taker"][0])
    assert met["taker"][1] == 0.5
    assert all(map(math.isnan, met["dvol_btc"]))
    absent = read_factors(tmp_path, date(2024, 3, 2))
    assert absent == {name: [] for name in FACTORS}
    assert read_w750(tmp_path, DAY) == []


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    put(tmp_path, "scan_000001__Indicators.npz", fng=np.int64(20), dvol_btc=np.array([[55]], np.uint8))
    assert read_factors(tmp_path, DAY)["fng"] == [20.0]
    assert read_factors(tmp_path, DAY)["dvol_btc"] == [55.0]


def test_other_files_of_the_scanner_are_passed_over(tmp_path: Path) -> None:
    write_indicators(tmp_path, DAY, 1, ALL)
    raw(tmp_path, b"x", "scan_000001__eigenvectors.npz")
    raw(tmp_path, b"x", ".scan_000002__Indicators.npz.123.0.tmp")
    raw(tmp_path, b"x", "notes.txt")
    (tmp_path / "matrices").mkdir()
    (tmp_path / "2024-03-02").write_text("a file, no folder")
    assert [p.name for p in first_scans(tmp_path, DAY, "Indicators")] == ["scan_000001__Indicators.npz"]
    assert factor_dates(tmp_path) == (DAY,)


# --- what is refused ---


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(DataError) as met:
        read_factors(folder, DAY)
    line = str(met.value)
    assert "\n" not in line
    for word in ("2024-03-01/scan_", *words):
        assert word in line


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pickled",)


def test_objects_are_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "scan_000001__Indicators.npz", fng=np.array(Evil(), dtype=object))
    refused(tmp_path, "without pickles", "write it again")
    assert not (tmp_path / "pickled").exists()


@pytest.mark.parametrize("keep", [0, 1, 30, 200])
def test_a_torn_file(tmp_path: Path, keep: int) -> None:
    path = write_indicators(tmp_path, DAY, 1, ALL)
    path.write_bytes(path.read_bytes()[:keep])
    refused(tmp_path, "not readable as .npz")


def test_a_flipped_bit(tmp_path: Path) -> None:
    path = write_indicators(tmp_path, DAY, 1, {"fng": 20.0})
    whole = bytearray(path.read_bytes())
    whole[whole.index(np.float64(20.0).tobytes()) + 6] ^= 1
    path.write_bytes(bytes(whole))
    refused(tmp_path, "not readable as .npz")


def test_no_npz_at_all(tmp_path: Path) -> None:
    bare = io.BytesIO()
    np.save(bare, np.float64(20.0))
    raw(tmp_path, bare.getvalue())
    refused(tmp_path, "not readable as .npz")


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    path = raw(tmp_path, b"")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fng.npy", b"twenty")
    refused(tmp_path, "scan_000001")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = raw(tmp_path, b"")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fng.npy", bytes(1 << 24))
    refused(tmp_path, "16,777,216 bytes unpacked", "handful")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([1.0, 2.0]), "float64 of shape (2,)"),
        (np.array([]), "of shape (0,)"),
        (np.array("20"), "expected one number"),
        (np.array(True), "bool"),
        (np.array(1j), "complex128"),
        (np.float64(np.inf), "fng is inf"),
        (np.float64(-np.inf), "fng is -inf"),
    ],
)
def test_what_is_not_one_finite_number(tmp_path: Path, array: Any, words: str) -> None:
    put(tmp_path, "scan_000001__Indicators.npz", fng=array)
    refused(tmp_path, words)


def test_a_file_without_any_factor(tmp_path: Path) -> None:
    put(tmp_path, "scan_000001__Indicators.npz", funding=np.float64(0.1))
    refused(tmp_path, "holds funding; expected funding_btc or dvol_btc or fng or taker")


def test_an_empty_archive(tmp_path: Path) -> None:
    put(tmp_path, "scan_000001__Indicators.npz")
    refused(tmp_path, "holds nothing")


@pytest.mark.parametrize("name", ["scan_1__Indicators.npz", "scan_000001__indicators.npz", "Indicators.npz"])
def test_a_wrong_name_is_not_lost_silently(tmp_path: Path, name: str) -> None:
    path = raw(tmp_path, b"", name)
    with pytest.raises(DataError, match="not the name of a factor file"):
        read_factors(tmp_path, DAY)
    path.unlink()
    assert read_factors(tmp_path, DAY)["fng"] == []


def test_one_number_twice(tmp_path: Path) -> None:
    write_indicators(tmp_path, DAY, 1, ALL)
    raw(tmp_path, b"", "scan_0000001__Indicators.npz")
    with pytest.raises(DataError, match="two Indicators files of one scan number"):
        read_factors(tmp_path, DAY)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_value_that_is_not_finite_is_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(DataError, match="expected a finite number, leave it out if missing"):
        write_indicators(tmp_path, DAY, 1, {"fng": 20.0, "taker": value})
    with pytest.raises(DataError, match="lambda_vel_w750"):
        write_scan_global(tmp_path, DAY, 1, value)
    assert list(tmp_path.iterdir()) == []


def test_no_wrong_name_or_number_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'vix' is no factor"):
        write_indicators(tmp_path, DAY, 1, {"vix": 1.0})
    with pytest.raises(DataError, match="no value"):
        write_indicators(tmp_path, DAY, 1, {})
    for number in (-1, 1_000_000):
        with pytest.raises(DataError, match="expected 0 to 999999"):
            write_indicators(tmp_path, DAY, number, ALL)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_indicators(tmp_path / "file", DAY, 1, ALL)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_indicators(tmp_path, DAY, 1, ALL)
    before = path.read_bytes()

    def full(*_args: Any, **_rest: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dolphin.market.factorfiles.np.savez", full)
    with pytest.raises(DataError, match="No space left"):
        write_indicators(tmp_path, DAY, 1, {"fng": 1.0})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such directory"):
        factor_dates(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="not a directory"):
        factor_dates(tmp_path / "file")
    (tmp_path / "2024-02-30").mkdir()
    with pytest.raises(DataError, match="2024-02-30: is not a calendar date"):
        factor_dates(tmp_path)
